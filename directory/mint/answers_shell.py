"""What an authority answers to each message of the `mint` service (spec/09 §6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from fogbank.directory.mint.bodies import (
    Held,
    Output,
    Page,
    Spent,
    pack_conflict,
    pack_dealings,
    pack_evidence,
    pack_ledger,
    pack_outputs,
    pack_serials,
    pack_shares,
    pack_vote,
)
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.certificates import (
    Certificate,
    RightVotes,
    Vote,
    check_votes,
    sign_vote,
)
from fogbank.directory.mint.checks import (
    check_issued,
    check_spent,
    check_withdrawal,
    entry_of,
    issue_task,
    lock_task,
)
from fogbank.directory.mint.exchange import (
    BODY_LIMIT,
    GetDealings,
    GetEvidence,
    GetLedger,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Lock,
    Plain,
    Reply,
    Status,
)
from fogbank.directory.mint.ledger import (
    Certified,
    Conflict,
    Entry,
    Issued,
    Locked,
    answer_lock,
    blame_owner,
    issue,
    lock,
)
from fogbank.directory.mint.ledgers_shell import Ledgers
from fogbank.directory.mint.load import Load
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Withdrawal,
    decode_signed_request,
)
from fogbank.directory.mint.seats_shell import Computing, NotNow, Seats, Series
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.work import EFFORT_MOST, Demand

MAX_ROWS: Final = 1024
"""Entries of one page of OUTPUTS and SERIALS."""
MAX_EVIDENCE: Final = 16
MAX_READERS: Final = 64
"""Pages that are being read, or wait for it."""
PEERS_READERS: Final = 64
"""Pages more that may wait for other authorities: strangers leave them their place."""
READ_SHARE: Final = 0.2
"""Part of the time in which pages are made."""
_LEDGER_ROWS = 64
_ROOM = 512
_BUCKET_BITS = 256
_URGENT = EFFORT_MOST + 1
"""Shares are given before new requests are looked at: a certificate cost its client already."""


class Answers:
    """Answers messages, one at a time for each stream.

    `is_peer` tells whether a link's other end is an authority now. `is_current` is set once a
    consensus was adopted since the start: before that, what is known may be as old as the ledger.
    `able` are the series of which this authority has its share.
    """

    def __init__(
        self,
        network_id: bytes,
        identity: NodeId,
        seats: Seats,
        calendar: Calendar,
        *,
        ledgers: Ledgers,
        crunch: Computing,
        load: Load,
        clock: Callable[[], float],
    ) -> None:
        self._network_id = network_id
        self._identity = identity
        self._seats = seats
        self._calendar = calendar
        self._ledgers = ledgers
        self._crunch = crunch
        self._load = load
        self._clock = clock
        self._readers = 0
        self._turn = trio.Lock()
        self._rested = 0.0
        self._right = RightVotes()
        self.is_current = False
        self.able: set[int] = set()
        self.is_peer: Callable[[NodeId], bool] = lambda _: False

    async def answer(self, message: Plain, peer: NodeId | None) -> Reply:
        """Answer one message; `peer` is who the link proved, or None."""
        try:
            return await self._answer(message, peer)
        except ProtocolError as error:
            return Reply(Status.REFUSED, reason=str(error))
        except RelayError as error:
            return Reply(Status.NOT_NOW, reason=str(error))

    async def _answer(self, message: Plain, peer: NodeId | None) -> Reply:
        match message:
            case Lock():
                return await self._lock(message)
            case Issue():
                return await self._issue(message.certificate)
            case GetOutputs() | GetSerials():
                return await self._page(message)
            case GetRequest():
                return self._request(self.series(message.series), message.digest)
            case GetEvidence():
                proofs = await self.series(message.series).file.evidence(MAX_EVIDENCE)
                return Reply(Status.DONE, pack_evidence(proofs))
            case _:
                return await self._tell(message, self._check_peer(peer, message.series))

    def series(self, number: int) -> Series:
        """Return a series that lives; raise `NotNow` if this authority does not know it."""
        record = self._seats.state.series_of(number)
        file = self._ledgers.get(number)
        if record is None or file is None:
            raise NotNow(f"series {number} is not known here: see that the clock is right, or wait")
        return Series(record, record.place_of(self._identity), file)

    def believe(self, request: Request, vote: Vote) -> None:
        """Hear of another member's vote that was verified: it is not looked at again."""
        self._right.add(request, vote)

    def may_be_locked(self, request: Request) -> bool:
        """Tell whether a request that another member has locked is to be locked here too.

        A withdrawal is not, once LOCK takes none any more; raises `NotNow` for one that is beyond
        its allotment: anyone can sign for made-up nodes, or the state here is older.
        """
        if not isinstance(request.source, Withdrawal):
            return True
        now = self._clock()
        if now >= self._calendar.withdraw_until(request.series):
            return False
        try:
            check_withdrawal(request, self._seats.state, self._calendar, now)
        except ProtocolError as error:
            raise NotNow(f"a ledger holds a withdrawal that is none here: {error}") from error
        return True

    # LOCK.

    async def _lock(self, message: Lock) -> Reply:
        signed, now = message.signed, self._clock()
        series = self.series(signed.request.series)
        check_spent(signed.request, self._network_id, self._calendar, now)
        entry = entry_of(signed)
        known = series.file.look(partial(answer_lock, entry=entry))
        if isinstance(known, Locked):
            return self._voted(series, signed.request)
        check_withdrawal(signed.request, self._seats.state, self._calendar, now)
        if known is not None:
            return await self._unlockable(series, signed, entry, known)
        self._check_memory(series)
        if not self.is_current:
            raise NotNow("this authority has just started: it votes after the next consensus")
        effort = self._judge(message.nonce, entry.digest, now)
        if isinstance(effort, Demand):
            return Reply(Status.WORK, effort.encode())
        await self._crunch.do(lock_task(signed, now), effort)
        outcome = await series.file.write(partial(lock, entry=entry))
        if isinstance(outcome, Locked):
            return self._voted(series, signed.request)
        return await self._unlockable(series, signed, entry, outcome)

    def _judge(self, nonce: int | None, digest: bytes, now: float) -> int | Demand:
        crunch = self._crunch
        return self._load.judge(nonce, digest, now, waiting=crunch.waiting, cost=crunch.cost)

    def _check_memory(self, series: Series) -> None:
        """Raise `NotNow` unless this authority has a seat, and knows all that it voted for.

        It names a count before its first vote: a ledger that is missing is told from a new one
        (spec/09 §7.4).
        """
        number = series.record.number
        member, head = series.record.member(series.place), series.file.head
        if member is None or member.vote_key != self._seats.vote.public:
            raise NotNow(f"this authority has no seat in series {number}: ask the others")
        self._check_share(number)
        if not head.is_whole or member.count > head.count:
            raise NotNow("this authority merges the others' ledgers before it votes: ask later")
        if not member.count:
            raise NotNow(f"series {number} is just beginning here: ask after the next consensus")

    def _check_share(self, series: int) -> None:
        if series not in self.able:
            raise NotNow(f"this authority has no share of series {series} yet: ask the others")

    def _voted(self, series: Series, request: Request) -> Reply:
        """Reply with the vote for what is locked; what is known may have changed since."""
        self._check_memory(series)
        vote = sign_vote(self._seats.vote, series.place, request, series.lives)
        self._right.add(request, vote)
        return Reply(Status.DONE, pack_vote(vote))

    def _own_vote(self, series: Series, request: Request) -> Vote | None:
        """Return the vote for what is locked, or None if it cannot be given."""
        try:
            self._check_memory(series)
        except NotNow:
            return None
        return sign_vote(self._seats.vote, series.place, request, series.lives)

    async def _unlockable(
        self, series: Series, signed: SignedRequest, entry: Entry, why: Conflict | Certified
    ) -> Reply:
        if isinstance(why, Certified):
            raise ProtocolError("the request is certified without this vote: see REQUEST")
        if why.held.digest == entry.digest:
            raise ProtocolError(
                "an input was signed for two requests: only a certificate settles which one counts"
            )
        await self._note_two(series, signed, entry, why)
        held = decode_signed_request(why.held.signed)
        vote = self._own_vote(series, held.request) if why.may_vote else None
        return Reply(Status.CONFLICT, pack_conflict(held, vote))

    async def _note_two(
        self, series: Series, signed: SignedRequest, entry: Entry, why: Conflict
    ) -> None:
        """Keep the proof that one owner signed two requests, if that one did."""
        if series.file.look(lambda book: book.has_evidence(why.held.digest)):
            return
        try:
            signed.check_proofs(None)
        except ProtocolError:
            return
        await series.file.write(partial(blame_owner, held=why.held, entry=entry))

    # ISSUE.

    async def _issue(self, certificate: Certificate) -> Reply:
        request = certificate.request
        series = self.series(request.series)
        check_issued(request, self._network_id, self._calendar, self._clock())
        entry = entry_of(certificate.signed)
        held = series.file.look(lambda book: book.find(entry.digest))
        if held is not None and held.votes:
            given = series.file.look(lambda book: book.shares(entry.outputs))
            if given is not None:
                return Reply(Status.DONE, pack_shares(given))
        check_votes(certificate, series.record)
        self._check_share(request.series)
        task = issue_task(certificate, series.record, is_known=held is not None, right=self._right)
        shares = await self._crunch.do(task, _URGENT)
        outcome = await series.file.write(
            partial(issue, entry=entry, votes=certificate.votes, shares=shares)
        )
        if isinstance(outcome, Issued):
            return Reply(Status.DONE, pack_shares(outcome.shares))
        return await self._unlockable(series, certificate.signed, entry, outcome)

    # What there is.

    def _request(self, series: Series, digest: bytes) -> Reply:
        held = series.file.look(lambda book: book.find(digest))
        if held is None:
            raise NotNow("no such request is here: it may not have come yet")
        return Reply(Status.DONE, self._held(series, held.signed, held.votes).encode())

    def _held(self, series: Series, data: bytes, votes: tuple[Vote, ...]) -> Held:
        """Return a request with its certificate's votes, or else this authority's own, if any."""
        signed = decode_signed_request(data)
        known = series.file.look(partial(answer_lock, entry=entry_of(signed)))
        own = self._own_vote(series, signed.request) if isinstance(known, Locked) else None
        return Held(signed, votes or (() if own is None else (own,)))

    async def _page(self, message: GetOutputs | GetSerials) -> Reply:
        file = self.series(message.series).file
        low, high = _bounds(message.bits, message.prefix)
        async with self._reading(MAX_READERS):
            if isinstance(message, GetOutputs):
                outputs = await file.outputs(low, high, message.after, MAX_ROWS)
                issued = Page(file.head.issued, tuple(Output(*each) for each in outputs))
                return Reply(Status.DONE, pack_outputs(issued))
            serials = await file.serials(low, high, message.after, MAX_ROWS)
            locked = Page(file.head.locked, tuple(Spent(*each) for each in serials))
            return Reply(Status.DONE, pack_serials(locked))

    @asynccontextmanager
    async def _reading(self, most: int) -> AsyncIterator[None]:
        """Take one's turn to read much: a part of the time is for that, however many ask."""
        if self._readers >= most:
            raise NotNow("too many read here at once: try again in a while")
        self._readers += 1
        try:
            async with self._turn:
                await trio.sleep_until(self._rested)
                begun = trio.current_time()
                yield
                now = trio.current_time()
                self._rested = now + (now - begun) * (1 / READ_SHARE - 1)
        finally:
            self._readers -= 1

    # What authorities tell each other.

    def _check_peer(self, peer: NodeId | None, number: int) -> int:
        """Return an authority's place in a series, or 0; raise `ProtocolError` for others."""
        record = self._seats.state.series_of(number)
        place = 0 if record is None or peer is None else record.place_of(peer)
        if peer is None or not (place or self.is_peer(peer)):
            raise ProtocolError("only authorities may ask this, over a link of their own")
        return place

    async def _tell(self, message: GetDealings | GetLedger, place: int) -> Reply:
        if isinstance(message, GetLedger):
            series = self.series(message.series)
            return await self._ledger(series, place, message.after, message.life)
        return Reply(Status.DONE, pack_dealings(list(self._seats.dealings(message.series))))

    async def _ledger(self, series: Series, place: int, after: bytes, life: int) -> Reply:
        """Tell what is locked here; who lost its memory is known to have before that is read."""
        if life > self._clock() + CLOCK_SKEW:
            raise ProtocolError("a life that is to begin yet: is this machine's clock fast?")
        if place and life > dict(series.file.head.lives).get(place, 0):
            await series.file.note_life(place, life)
        entries: list[Held] = []
        room = BODY_LIMIT - _ROOM
        async with self._reading(MAX_READERS + PEERS_READERS):
            for held in await series.file.requests(after, _LEDGER_ROWS):
                entry = self._held(series, held.signed, held.votes)
                room -= len(entry.encode())
                if room < 0:
                    break
                entries.append(entry)
            return Reply(Status.DONE, pack_ledger(entries))


def _bounds(bits: int, prefix: int) -> tuple[bytes, bytes]:
    """Return the least 32 bytes that begin with a prefix, and what is above all that do."""
    shift = _BUCKET_BITS - bits
    low, high = prefix << shift, (prefix + 1) << shift
    length = _BUCKET_BITS // 8
    return low.to_bytes(length, "big"), (
        b"\xff" * (length + 1) if high >> _BUCKET_BITS else high.to_bytes(length, "big")
    )
