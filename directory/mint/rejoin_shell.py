"""How an authority gets what it lacks from others: dealings, and locks that it has forgotten.

With all dealings it has its share of a series' key (spec/09 §4.2). Who has forgotten locks leads a
new life (§7.4): it tells max(q, 3b) other members of that, all if there are fewer, and takes their
ledgers as its own. Votes that they give from then on name that life, so that none of them makes a
certificate together with a vote that this authority gave before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from fogbank.directory.mint.answers_shell import Answers
from fogbank.directory.mint.bodies import Held, unpack_dealings, unpack_ledger
from fogbank.directory.mint.certificates import Certificate, check_votes
from fogbank.directory.mint.checks import entry_of, issue_task, lock_task
from fogbank.directory.mint.exchange import (
    GetDealings,
    GetLedger,
)
from fogbank.directory.mint.ledger import issue, merge
from fogbank.directory.mint.seats_shell import Computing, Seats, Series
from fogbank.directory.mint.state import SeriesRecord
from fogbank.directory.mint.talking_shell import ask, opened
from fogbank.directory.peer_shell import FAILURES, Connect, why
from fogbank.directory.store_shell import StoreError
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId, show_id
from fogbank.relay.messages_shell import Stream

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 30.0
"""A member that does not answer by then is asked again later."""
RETRY_SECONDS: Final = 5.0
_AT_ONCE = 64


def others_needed(record: SeriesRecord) -> int:
    """Return of how many other members the ledgers are merged."""
    return min(max(record.quorum, 3 * record.faulty), len(record.members) - 1)


class Rejoin:
    """Merges others' ledgers into those that are not whole."""

    def __init__(
        self,
        answers: Answers,
        seats: Seats,
        identity: NodeId,
        crunch: Computing,
        connect: Connect,
    ) -> None:
        self._answers = answers
        self._seats = seats
        self._identity = identity
        self._crunch = crunch
        self._connect = connect
        self._news = trio.Event()
        self._told: set[tuple[int, NodeId]] = set()
        self._under_way: set[int] = set()

    def wake(self) -> None:
        """Look for ledgers that are not whole."""
        self._news.set()

    async def run(self) -> None:
        """Merge, whenever there is something to merge, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                for record in self._seats.state.series:
                    await self._complete(record)
                    series = self._forgetful(record)
                    if series is not None and record.number not in self._under_way:
                        self._under_way.add(record.number)
                        nursery.start_soon(self._restore, series)

    async def _complete(self, record: SeriesRecord) -> None:
        """Ask members for dealings that this authority lacks, one after the other."""
        for member in record.members:
            if record.number not in self._seats.missing():
                return
            if member.identity == self._identity:
                continue
            try:
                async with opened(self._connect, member.identity, ANSWER_SECONDS) as stream:
                    reply = await ask(stream, GetDealings(record.number), ANSWER_SECONDS)
                self._seats.take_dealings(record.number, unpack_dealings(reply.body))
            except FAILURES as error:
                self._failed(record.number, member.identity, "dealings", error)

    def _forgetful(self, record: SeriesRecord) -> Series | None:
        """Return a series whose ledger is not whole, and can be made so."""
        if not record.place_of(self._identity) or record.number not in self._answers.swaps.able:
            # Without a share nothing can be checked, and the others must not seem to lie.
            return None
        try:
            series = self._answers.series(record.number)
        except RelayError:
            return None
        return None if series.file.head.is_whole else series

    async def _restore(self, series: Series) -> None:
        """Merge ledgers of as many others as it takes, all at once."""
        record, life = series.record, series.file.head.life
        needed = others_needed(record)
        merged: set[NodeId] = set()
        try:
            async with trio.open_nursery() as nursery:

                async def merge_from(member: NodeId) -> None:
                    while not await self._merge_from(series, member):
                        await trio.sleep(RETRY_SECONDS)
                        if self._seats.state.series_of(record.number) is None:
                            return
                    merged.add(member)
                    if len(merged) >= needed:
                        nursery.cancel_scope.cancel()

                for member in record.members:
                    if member.identity != self._identity and needed:
                        nursery.start_soon(merge_from, member.identity)
            if len(merged) >= needed:
                await self._trust(series, life, needed)
        except StoreError as error:
            # It is tried again when ledgers are next looked after.
            log.error("%s", error)  # noqa: TRY400 - a sentence for the operator
        finally:
            self._under_way.discard(record.number)

    async def _trust(self, series: Series, life: int, merged: int) -> None:
        record = self._seats.state.series_of(series.record.number) or series.record
        own = record.member(series.place)
        await series.file.trust(own.count if own is not None else 0, life)
        if not series.file.head.is_whole:
            # It has lost its memory again meanwhile: others are told of that life next.
            return
        log.info(
            "series %d: the ledgers of %d others are merged: this authority votes again",
            series.record.number, merged,
        )  # fmt: skip

    async def _merge_from(self, series: Series, member: NodeId) -> bool:
        """Merge one member's ledger; tell whether it gave a whole one, in which all held."""
        try:
            async with opened(self._connect, member, ANSWER_SECONDS) as stream:
                await self._merge_pages(stream, series)
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the operator
            return False
        except FAILURES as error:
            self._failed(series.record.number, member, "ledger", error)
            return False
        return True

    def _failed(self, series: int, member: NodeId, what: str, error: BaseException) -> None:
        """Tell the operator once; it is tried again and again."""
        if (series, member) not in self._told:
            self._told.add((series, member))
            level = logging.WARNING if isinstance(error, ProtocolError) else logging.INFO
            log.log(
                level, "series %d: authority %s gave no %s: %s",
                series, show_id(member), what, why(error),
            )  # fmt: skip

    async def _merge_pages(self, stream: Stream, series: Series) -> None:
        after = b""
        while True:
            question = GetLedger(series.record.number, after, series.file.head.life)
            page = unpack_ledger((await ask(stream, question, ANSWER_SECONDS)).body)
            if not page:
                return
            first = page[0].signed.request.digest()
            if first <= after:
                raise ProtocolError("a ledger goes backwards")
            after = page[-1].signed.request.digest()
            for at in range(0, len(page), _AT_ONCE):
                await self._take(series, page[at : at + _AT_ONCE])

    async def _take(self, series: Series, page: Sequence[Held]) -> None:
        """Check entries all at once, and take those that hold; raise at one that does not."""
        wrong: list[RelayError] = []

        async def take(held: Held) -> None:
            try:
                await self._take_one(series, held)
            except RelayError as error:
                wrong.append(error)

        async with trio.open_nursery() as nursery:
            for held in page:
                nursery.start_soon(take, held)
        if wrong:
            raise wrong[0]

    async def _take_one(self, series: Series, held: Held) -> None:
        request, record = held.signed.request, series.record
        if request.series != record.number:
            raise ProtocolError("a ledger holds a request of another series")
        entry = entry_of(held.signed)
        known = series.file.look(lambda book: book.find(entry.digest))
        if len(held.votes) < record.quorum:
            if known is None and self._answers.may_be_locked(request):
                await self._crunch.do(lock_task(held.signed, None))
                await series.file.write(partial(merge, entry=entry))
        elif known is None or not known.votes:
            certificate = Certificate(held.signed, held.votes)
            check_votes(certificate, record)
            task = issue_task(certificate, record, is_known=False)
            shares = await self._crunch.do(task)
            await series.file.write(partial(issue, entry=entry, votes=held.votes, shares=shares))
