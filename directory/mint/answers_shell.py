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
    pack_dealings,
    pack_evidence,
    pack_ledger,
    pack_outputs,
    pack_serials,
)
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.certificates import (
    Vote,
)
from fogbank.directory.mint.checks import (
    check_withdrawal,
    entry_of,
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
    Locked,
    answer_lock,
)
from fogbank.directory.mint.requests import (
    Request,
    Withdrawal,
    decode_signed_request,
)
from fogbank.directory.mint.seats_shell import NotNow, Seats, Series
from fogbank.directory.mint.swaps_shell import Swaps
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.work import EFFORT_MOST

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

    `is_peer` tells whether a link's other end is an authority now.
    """

    def __init__(
        self, swaps: Swaps, seats: Seats, calendar: Calendar, clock: Callable[[], float]
    ) -> None:
        self.swaps = swaps
        self._seats = seats
        self._calendar = calendar
        self._clock = clock
        self._readers = 0
        self._turn = trio.Lock()
        self._rested = 0.0
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
            case Lock() | Issue():
                (reply,) = await self.swaps.answer_all([message])
                return reply
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
        return self.swaps.series(number)

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
        own = self.swaps.own_vote(series, signed.request) if isinstance(known, Locked) else None
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
