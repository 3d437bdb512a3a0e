"""An authority that carries requests: it gets others' votes and shares for who asks (spec/09 §6.6).

It asks others only for what it voted for, or gave its shares for, itself. It checks their votes; as
to shares, who asked finds the wrong ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, Generic, TypeVar

import trio

from fogbank.directory.mint.bodies import Carried, unpack_shares, unpack_vote
from fogbank.directory.mint.carrying import Round
from fogbank.directory.mint.certificates import Certificate, Vote, check_vote, make_certificate
from fogbank.directory.mint.exchange import Carry, Issue, Lock, Reply, Status
from fogbank.directory.mint.lanes_shell import Lanes, Ticket
from fogbank.directory.mint.seats_shell import Series
from fogbank.directory.mint.state import SeriesRecord
from fogbank.directory.mint.swaps_shell import Swaps
from fogbank.directory.peer_shell import Connect
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId, show_id

log = logging.getLogger(__name__)

MAX_CARRIED: Final = 256
"""Requests that are carried at once."""
CARRY_SECONDS: Final = 5.0
"""The others are asked for so long."""
HEDGE_SECONDS: Final = 1.5
"""For each member that has not answered by then another one is asked."""
MEMORY_SECONDS: Final = 60.0
"""Who failed or was slow is asked last for so long."""
ORDER_SECONDS: Final = 1.0
"""Members are asked in one random order for so long: requests of that time go together."""
_RANDOM = 8
_BUSY = Reply(
    Status.NOT_NOW, reason="too many requests are carried at once: ask each member by itself"
)
_TOO_FEW = Reply(
    Status.NOT_NOW, reason="too few other members agree in time: ask each of them by itself"
)

_T = TypeVar("_T")


class Carrier:
    """Carries requests while `run` runs. `connect` opens a stream to another member's mint."""

    def __init__(self, swaps: Swaps, connect: Connect, random: Callable[[int], bytes]) -> None:
        self.swaps = swaps
        self.lanes = Lanes(connect)
        self._random = random
        self._carried = 0
        self._failed: dict[NodeId, float] = {}
        self._drawn = -inf
        self._ranks: dict[NodeId, bytes] = {}
        self._told: set[NodeId] = set()

    async def run(self) -> None:
        """Send what is carried until cancelled."""
        await self.lanes.run()

    async def answer(self, message: Carry) -> Reply:
        """Answer a CARRY."""
        if self._carried >= MAX_CARRIED:
            return _BUSY
        self._carried += 1
        try:
            return await self._carry(message)
        finally:
            self._carried -= 1

    async def _carry(self, message: Carry) -> Reply:
        signed, certificate = message.signed, None
        if message.votes:
            certificate = Certificate(signed, message.votes)
            (reply,) = await self.swaps.answer_all([Issue(certificate)])
        else:
            (reply,) = await self.swaps.answer_all([Lock(signed, message.nonce)])
        if reply.status is not Status.DONE:
            return reply
        trip = _Trip(self, self.swaps.series(signed.request.series), message)
        with trio.move_on_after(CARRY_SECONDS):
            if certificate is not None:
                await trip.share(certificate, unpack_shares(reply.body, trip.count))
            else:
                await trip.certify(unpack_vote(reply.body))
        if trip.certificate is None:
            return _TOO_FEW
        carried = Carried(trip.certificate.votes, trip.shares())
        return Reply(Status.DONE, carried.encode())

    def order(self, record: SeriesRecord, own: int) -> list[int]:
        """Return the other members in the order in which they are asked."""
        now = trio.current_time()
        if now >= self._drawn + ORDER_SECONDS:
            self._drawn = now
            self._ranks.clear()

        def rank(place: int) -> tuple[bool, bytes]:
            identity = record.members[place - 1].identity
            drawn = self._ranks.get(identity)
            if drawn is None:
                drawn = self._ranks[identity] = self._random(_RANDOM)
            return now - self._failed.get(identity, -inf) < MEMORY_SECONDS, drawn

        others = (place for place in range(1, len(record.members) + 1) if place != own)
        return sorted(others, key=rank)

    def note_failure(self, member: NodeId) -> None:
        """Note that a member failed or is slow."""
        self._failed[member] = trio.current_time()

    def note_lie(self, member: NodeId, error: ProtocolError) -> None:
        """Note that a member gave what no honest one gives, and tell the operator once."""
        self.note_failure(member)
        if member not in self._told:
            self._told.add(member)
            log.warning("authority %s answers as no honest one does: %s", show_id(member), error)


class _Trip:
    """One request on its way, and what it has got."""

    def __init__(self, carrier: Carrier, series: Series, message: Carry) -> None:
        self.record = series.record
        self.own = series.place
        self.carrier = carrier
        self.signed = message.signed
        self.certificate: Certificate | None = None
        self.count = len(message.signed.request.outputs)
        self._wants_shares = message.wants_shares
        self._order = carrier.order(self.record, self.own)
        self._given: dict[int, tuple[bytes, ...]] = {}

    def shares(self) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
        """Return the shares that came, rising by their members."""
        return tuple(sorted(self._given.items())[: self.record.quorum])

    async def certify(self, vote: Vote) -> None:
        """Get others' votes, and the shares if they are wanted."""
        votes = Round(self.record.quorum, self._order, {self.own: vote})
        asking = _Asking(self, votes, Lock(self.signed).encode(), self._read_vote)
        while self.certificate is None and await asking.finish():
            try:
                self.certificate = make_certificate(self.signed, votes.given.values(), self.record)
            except ValueError:
                # Some cannot stand together, as a member lost its memory or another says so.
                votes.clash()
        if self.certificate is not None and self._wants_shares:
            await self.share(self.certificate)

    async def share(self, certificate: Certificate, own: tuple[bytes, ...] | None = None) -> None:
        """Get shares for a certificate, `own` if they are there."""
        self.certificate = certificate
        voted = {vote.member for vote in certificate.votes}
        order = sorted((self.own, *self._order), key=lambda place: place not in voted)
        shares = Round(self.record.quorum, order, {} if own is None else {self.own: own})
        self._given = shares.given
        issue = Issue(certificate)
        asking = _Asking(self, shares, issue.encode(), self._read_shares)
        asking.send()
        if own is None:
            reply = None
            with trio.move_on_after(HEDGE_SECONDS):
                (reply,) = await self.carrier.swaps.answer_all([issue])
            asking.heard(self.own, reply)
        await asking.finish()

    def _read_vote(self, place: int, reply: Reply) -> Vote:
        vote = unpack_vote(reply.body)
        if vote.member != place:
            raise ProtocolError("a member gave another one's vote")
        check_vote(vote, self.signed.request, self.record)
        self.carrier.swaps.believe(self.signed.request, vote)
        return vote

    def _read_shares(self, _: int, reply: Reply) -> tuple[bytes, ...]:
        return unpack_shares(reply.body, self.count)

    def identity(self, place: int) -> NodeId:
        """Return who has a place."""
        return self.record.members[place - 1].identity


class _Asking(Generic[_T]):
    """Asks members for one thing until it is there, or nobody is left."""

    def __init__(
        self,
        trip: _Trip,
        what: Round[_T],
        item: bytes,
        read: Callable[[int, Reply], _T],
    ) -> None:
        self._trip = trip
        self._round = what
        self._item = item
        self._read = read
        self._news = trio.Event()
        self._tickets: list[Ticket] = []

    def send(self) -> None:
        """Ask whoever is to be asked now."""
        while places := self._round.more():
            for place in places:
                if place == self._trip.own:
                    continue
                identity = self._trip.identity(place)
                ticket = self._trip.carrier.lanes.put(
                    identity, self._item, partial(self.heard, place)
                )
                if ticket is None:
                    self._round.failed(place)
                    self._trip.carrier.note_failure(identity)
                else:
                    self._tickets.append(ticket)

    async def finish(self) -> bool:
        """Wait until it is over, or lost; tell whether it is there."""
        try:
            while not self._round.is_over:
                self.send()
                if self._round.is_lost:
                    return False
                self._news = trio.Event()
                with trio.move_on_after(HEDGE_SECONDS) as scope:
                    await self._news.wait()
                if scope.cancelled_caught:
                    for place in self._round.overdue():
                        self._trip.carrier.note_failure(self._trip.identity(place))
        finally:
            for ticket in self._tickets:
                ticket.is_wanted = False
            self._tickets.clear()
        return True

    def heard(self, place: int, reply: Reply | None) -> None:
        """Count an answer; whoever waits is woken if that changes who is to be asked."""
        carrier, identity = self._trip.carrier, self._trip.identity(place)
        try:
            if reply is not None and reply.status is Status.DONE:
                self._round.took(place, self._read(place, reply))
            else:
                self._round.failed(place)
                if reply is None or reply.status not in {Status.REFUSED, Status.CONFLICT}:
                    # Else it may be the request's fault: its member is no worse for it.
                    carrier.note_failure(identity)
        except ProtocolError as error:
            self._round.failed(place)
            carrier.note_lie(identity, error)
        if self._round.is_over or place not in self._round.given:
            self._news.set()
