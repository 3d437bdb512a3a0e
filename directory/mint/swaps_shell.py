"""What an authority answers to LOCK and ISSUE, step by step (spec/09 §6.2, §6.3).

What is to be computed or written between two steps is done for all messages that come together: a
batch of them costs one answer of the processes that compute, and one fsync.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from fogbank.directory.mint.bodies import pack_conflict, pack_shares, pack_vote
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
from fogbank.directory.mint.crunch import Task
from fogbank.directory.mint.exchange import Issue, Lock, Reply, Status
from fogbank.directory.mint.ledger import (
    Book,
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
from fogbank.directory.mint.ledger_shell import SeriesFile
from fogbank.directory.mint.ledgers_shell import Ledgers
from fogbank.directory.mint.load import Load
from fogbank.directory.mint.requests import Request, SignedRequest, decode_signed_request
from fogbank.directory.mint.seats_shell import Computing, NotNow, Seats, Series
from fogbank.directory.store_shell import StoreError
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.work import EFFORT_MOST, Demand

_URGENT: Final = EFFORT_MOST + 1
"""Shares are given before new requests are looked at: a certificate cost its client already."""


@dataclass(frozen=True, slots=True)
class Compute:
    """A task is to be computed, and its shares given."""

    task: Task
    urgency: int


@dataclass(frozen=True, slots=True)
class Write:
    """Something is to be on the disk, and what it returned given."""

    file: SeriesFile
    write: Callable[[Book], Any]


Step: TypeAlias = Compute | Write
Steps: TypeAlias = "Generator[Step, Any, Reply]"
"""An answer on its way: it is given what each step came to, or has its error raised."""


class Swaps:
    """Answers LOCKs and ISSUEs. `able` are the series of which this authority has its share.

    `is_current` is set once a consensus was adopted since the start: before that, what is known may
    be as old as the ledger.
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
        self._right = RightVotes()
        self.is_current = False
        self.able: set[int] = set()

    async def answer_all(self, messages: Sequence[Lock | Issue]) -> list[Reply]:
        """Answer messages that came together, each as if it had come alone."""
        answers: dict[int, Any] = dict.fromkeys(range(len(messages)))
        steps = [self._steps(message) for message in messages]
        replies: dict[int, Reply] = {}
        while answers:
            wanted: dict[int, Step] = {}
            for at, answer in answers.items():
                step = _advance(steps[at], answer)
                if isinstance(step, Reply):
                    replies[at] = step
                else:
                    wanted[at] = step
            answers = await self._do(wanted)
        return [replies[at] for at in range(len(messages))]

    def _steps(self, message: Lock | Issue) -> Steps:
        return (
            self._lock(message) if isinstance(message, Lock) else self._issue(message.certificate)
        )

    async def _do(self, wanted: Mapping[int, Step]) -> dict[int, Any]:
        """Do what is wanted; return what each came to, errors among it."""
        done: dict[int, Any] = {}
        tasks = {at: step for at, step in wanted.items() if isinstance(step, Compute)}
        if tasks:
            outcomes = await self._crunch.do_all(
                [(step.task, step.urgency) for step in tasks.values()]
            )
            done.update(zip(tasks, outcomes, strict=True))
        writes = {at: step for at, step in wanted.items() if isinstance(step, Write)}
        for file in {step.file for step in writes.values()}:
            its = {at: step.write for at, step in writes.items() if step.file is file}
            try:
                results = await file.write(partial(_each, tuple(its.values())))
            except StoreError as error:
                results = [error] * len(its)
            done.update(zip(its, results, strict=True))
        return done

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

    # LOCK.

    def _lock(self, message: Lock) -> Steps:
        signed, now = message.signed, self._clock()
        series = self.series(signed.request.series)
        check_spent(signed.request, self._network_id, self._calendar, now)
        entry = entry_of(signed)
        known = series.file.look(partial(answer_lock, entry=entry))
        if isinstance(known, Locked):
            return self._voted(series, signed.request)
        check_withdrawal(signed.request, self._seats.state, self._calendar, now)
        if known is not None:
            return (yield from self._unlockable(series, signed, entry, known))
        self._check_memory(series)
        if not self.is_current:
            raise NotNow("this authority has just started: it votes after the next consensus")
        effort = self._judge(message.nonce, entry.digest, now)
        if isinstance(effort, Demand):
            return Reply(Status.WORK, effort.encode())
        yield Compute(lock_task(signed, now), effort)
        outcome: Locked | Conflict | Certified = yield Write(
            series.file, partial(lock, entry=entry)
        )
        if isinstance(outcome, Locked):
            return self._voted(series, signed.request)
        return (yield from self._unlockable(series, signed, entry, outcome))

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

    def own_vote(self, series: Series, request: Request) -> Vote | None:
        """Return the vote for what is locked, or None if it cannot be given."""
        try:
            self._check_memory(series)
        except NotNow:
            return None
        return sign_vote(self._seats.vote, series.place, request, series.lives)

    def _unlockable(
        self, series: Series, signed: SignedRequest, entry: Entry, why: Conflict | Certified
    ) -> Steps:
        if isinstance(why, Certified):
            raise ProtocolError("the request is certified without this vote: see REQUEST")
        if why.held.digest == entry.digest:
            raise ProtocolError(
                "an input was signed for two requests: only a certificate settles which one counts"
            )
        yield from self._note_two(series, signed, entry, why)
        held = decode_signed_request(why.held.signed)
        vote = self.own_vote(series, held.request) if why.may_vote else None
        return Reply(Status.CONFLICT, pack_conflict(held, vote))

    def _note_two(
        self, series: Series, signed: SignedRequest, entry: Entry, why: Conflict
    ) -> Generator[Step, Any, None]:
        """Keep the proof that one owner signed two requests, if that one did."""
        if series.file.look(lambda book: book.has_evidence(why.held.digest)):
            return
        try:
            signed.check_proofs(None)
        except ProtocolError:
            return
        yield Write(series.file, partial(blame_owner, held=why.held, entry=entry))

    # ISSUE.

    def _issue(self, certificate: Certificate) -> Steps:
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
        shares: tuple[bytes, ...] = yield Compute(task, _URGENT)
        outcome: Issued | Conflict = yield Write(
            series.file, partial(issue, entry=entry, votes=certificate.votes, shares=shares)
        )
        if isinstance(outcome, Issued):
            return Reply(Status.DONE, pack_shares(outcome.shares))
        return (yield from self._unlockable(series, certificate.signed, entry, outcome))


def _each(writes: Sequence[Callable[[Book], Any]], book: Book) -> list[Any]:
    """Write all of them in one go."""
    return [write(book) for write in writes]


def _advance(steps: Steps, answer: Any) -> Step | Reply:
    """Go on by one step; return what is wanted next, or the reply."""
    try:
        return steps.throw(answer) if isinstance(answer, RelayError) else steps.send(answer)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    except ProtocolError as error:
        return Reply(Status.REFUSED, reason=str(error))
    except RelayError as error:
        return Reply(Status.NOT_NOW, reason=str(error))
