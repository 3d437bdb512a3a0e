"""An authority's part of the mint at work: the service, its ledgers, and what keeps them right.

    mint = Mint(network, identity, seats, ledgers, crunch, …)
    services = {SERVICE: mint.service}
    nursery.start_soon(mint.run)
    mint.adopted()                      # at every consensus

It listens to nobody itself: the service is registered with a node (spec/09 §6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Final, Protocol

import trio

from fogbank.directory.exchange_shell import Origin
from fogbank.directory.mint.answers_shell import Answers
from fogbank.directory.mint.batches_shell import Batches
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.carrier_shell import Carrier
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    MESSAGE_LIMIT,
    Batch,
    Carry,
    GetRequest,
    Message,
    Reply,
    Status,
    decode_message,
)
from fogbank.directory.mint.ledgers_shell import Ledgers
from fogbank.directory.mint.load import Load
from fogbank.directory.mint.rejoin_shell import Rejoin
from fogbank.directory.mint.seats_shell import Computing, Seats
from fogbank.directory.mint.state import SeriesRecord
from fogbank.directory.mint.swaps_shell import Swaps
from fogbank.directory.network import NetworkDocument
from fogbank.directory.peer_shell import Connect
from fogbank.directory.store_shell import StoreError
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0
"""The service waits so long for the next message."""
TRANSFER_SECONDS: Final = 120.0
"""Longest time that one reply may take on its way."""
MAX_REFUSED: Final = 8
"""Messages that are refused on one stream before it is closed."""
MAX_MESSAGES: Final = 1024
"""Messages on one stream of someone who is no authority."""
KEEP_SECONDS: Final = 60.0
"""Ledgers are looked after so often, and after every consensus."""


class Crunching(Computing, Protocol):
    """What computes, and which keys it is told."""

    @property
    def capacity(self) -> int:
        """Seconds that it computes in one second."""

    def learn(self, series: int, key: bytes, share: int) -> None:
        """Take a series' key X and this authority's share of it."""

    def forget(self, series: int) -> None:
        """Drop a series that is over."""

    async def run(self) -> None:
        """Compute until cancelled."""


class Answering(Protocol):
    """Has an answer to each message."""

    async def answer(self, message: Message, peer: NodeId | None) -> Reply:
        """Answer one message; `peer` is who the link proved, or None."""


class MintService:
    """The service itself: messages in, replies out, until either side is done."""

    def __init__(self, mint: Answering, is_peer: Callable[[NodeId], bool]) -> None:
        self._mint = mint
        self._is_peer = is_peer

    async def __call__(self, stream: Stream, origin: Origin) -> None:
        """Serve one stream and close it."""
        peer = origin.linked_peer
        if peer is not None and not self._is_peer(peer):
            peer = None
        try:
            await self._serve(stream, peer)
        finally:
            await stream.aclose()

    async def _serve(self, stream: Stream, peer: NodeId | None) -> None:
        """Serve until the other side is done, or silent for too long; raise if it reads nothing."""
        is_sending = False
        served = refused = 0
        # One scope whose deadline moves: a scope for each wait would cost more than some answers.
        with trio.CancelScope() as scope:
            while refused < MAX_REFUSED and (peer is not None or served < MAX_MESSAGES):
                served += 1
                scope.deadline = trio.current_time() + IDLE_SECONDS
                data = await receive_message(stream, _limit(peer))
                scope.deadline = inf
                if data is None:
                    return
                message, reply = await self._reply(data, peer)
                if reply.status in {Status.REFUSED, Status.CONFLICT}:
                    refused += not isinstance(message, GetRequest)
                is_sending = True
                scope.deadline = trio.current_time() + TRANSFER_SECONDS
                await send_message(stream, reply.encode())
                is_sending = False
        if scope.cancelled_caught and is_sending:
            raise trio.TooSlowError

    async def _reply(self, data: bytes, peer: NodeId | None) -> tuple[Message | None, Reply]:
        try:
            message = decode_message(data, _limit(peer))
        except ProtocolError as error:
            return None, Reply(Status.REFUSED, reason=str(error))
        return message, await self._mint.answer(message, peer)


def _limit(peer: NodeId | None) -> int:
    """Return how long a message may be."""
    return MESSAGE_LIMIT if peer is None else BATCH_LIMIT


@contextmanager
def _told() -> Iterator[None]:
    """Tell the operator what fails with a ledger; it keeps nothing else from being done."""
    try:
        yield
    except (StoreError, OSError) as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for the operator


class Mint:
    """Runs the mint of one authority. `service` is to be registered with its node.

    `connect` opens a stream to another authority's `mint` service, over a link that proves both
    ends. Times are in seconds since 1970.
    """

    def __init__(
        self,
        network: NetworkDocument,
        identity: NodeId,
        seats: Seats,
        ledgers: Ledgers,
        *,
        crunch: Crunching,
        connect: Connect,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self.network = network
        """Replaced when the next version is taken up."""
        self._identity = identity
        self._seats = seats
        self._calendar = Calendar.of(network)
        self._clock = clock
        self._crunch = crunch
        self._news = trio.Event()
        self.ledgers = ledgers
        self._load = Load(random, clock(), crunch.capacity)
        self.swaps = Swaps(
            network.network_id,
            identity,
            seats,
            self._calendar,
            ledgers=ledgers,
            crunch=crunch,
            load=self._load,
            clock=clock,
        )
        self.answers = Answers(self.swaps, seats, self._calendar, clock)
        self.service = MintService(self, self._is_peer)
        self.answers.is_peer = self._is_authority
        self._rejoin = Rejoin(self.answers, seats, identity, crunch, connect)
        self._carrier = Carrier(self.swaps, connect, random)
        self._batches = Batches(self.swaps, seats)

    async def answer(self, message: Message, peer: NodeId | None) -> Reply:
        """Answer one message; `peer` is who the link proved, or None."""
        match message:
            case Carry():
                return await self._carrier.answer(message)
            case Batch():
                return await self._batches.answer(message, peer)
            case _:
                return await self.answers.answer(message, peer)

    def _is_authority(self, peer: NodeId) -> bool:
        """Tell whether someone is an authority now, lately or soon."""
        engaged = self.network.engaged(self._clock() - CLOCK_SKEW)
        return any(pin.identity == peer for pin in engaged)

    def _is_peer(self, peer: NodeId) -> bool:
        """Tell whether someone is an authority, or a member of a series that lives."""
        return self._is_authority(peer) or any(
            record.place_of(peer) for record in self._seats.state.series
        )

    @property
    def effort(self) -> int:
        """The effort of the work that is asked of everyone for a LOCK; 0 for none."""
        return self._load.effort(self._clock(), self._crunch.cost)

    def adopted(self, *, has_state: bool = True) -> None:
        """Hear that a consensus was adopted, whose state of the mint is held now.

        One that `has_state` not says nothing of whether the state held is the newest.
        """
        self.swaps.is_current = self.swaps.is_current or has_state
        self._news.set()

    async def run(self) -> None:
        """Keep the ledgers, and compute, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._crunch.run)
            nursery.start_soon(self._rejoin.run)
            nursery.start_soon(self._carrier.run)
            while True:
                self._news = trio.Event()
                with _told():
                    await self._look_after()
                with trio.move_on_after(KEEP_SECONDS):
                    await self._news.wait()

    async def _look_after(self) -> None:
        """Open and delete ledgers, and find out which are old."""
        now = self._clock()
        state = self._seats.state
        for series in await self.ledgers.expire(lambda each: self._is_gone(each, now)):
            self._crunch.forget(series)
            self.swaps.able.discard(series)
        if state.generation is not None and self._may_open(state.generation.series, now):
            # Made, and named in a vote, before the series can have any lock.
            with _told():
                await self.ledgers.open(state.generation.series)
        for record in state.series:
            if self._may_open(record.number, now):
                with _told():
                    await self._take_up(record, now)
        await self.ledgers.doubt_if_told()
        if self._seats.missing() or any(
            not file.head.is_whole for file in self.ledgers.all().values()
        ):
            self._rejoin.wake()

    def _may_open(self, series: int, now: float) -> bool:
        """Tell whether a series' ledger is opened; one that is missing not by an old state's word.

        The state on the disk may come from a backup made before the ledger was.
        """
        may_be_made = self.swaps.is_current or self.ledgers.has(series)
        return may_be_made and not self._is_over(series, now)

    def _is_gone(self, series: int, now: float) -> bool:
        """Tell whether a series is over by this clock, and by what authorities agreed on."""
        return self._is_over(series, now) and self._seats.state.series_of(series) is None

    def _is_over(self, series: int, now: float) -> bool:
        return now >= self._calendar.issue_until(series)

    async def _take_up(self, record: SeriesRecord, now: float) -> None:
        member = record.member(record.place_of(self._identity))
        named = 0 if member is None else member.count
        known = self.ledgers.get(record.number)
        file = await self.ledgers.open(record.number, named)
        share = self._seats.share_of(record.number)
        if share is not None:
            self._crunch.learn(record.number, record.key, share)
            self.swaps.able.add(record.number)
        is_short = file.head.is_whole and named > file.head.count
        if is_short:
            await file.doubt(now)
        if is_short or (known is None and not file.head.is_whole):
            log.warning(
                "series %d: its ledger lacks what this authority has answered, as if it came from "
                "a backup: others' ledgers are merged before it votes", record.number,
            )  # fmt: skip
