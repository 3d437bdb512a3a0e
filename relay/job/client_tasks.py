"""The tasks of one session as its client knows them, from one stream to the next (spec/08 §6).

Pure. A session that is held goes on over another stream; what is known of its tasks stays here
meanwhile, with what has come of a sealed output.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.errors import JobError, JobInterrupted, Progress
from fogbank.relay.job.frames import Blobs
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.partial import LoggedOpening, Partials, found
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import Cancel, Offer, ResultHead, TaskHead, TaskState
from fogbank.relay.job.pending import Pending, require, unwanted
from fogbank.relay.keys import X25519Key
from fogbank.sandbox.data import Data, MemorySink, NoRoom, Sinks
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended at a worker, as far as its word goes.

    `exit_code` is the program's own, there if and only if the outcome is COMPLETED. `fuel` is at
    most the task's limit. `run_time_ms` is a power of two that the run time stayed below.
    `reason` is a sentence, possibly empty. `attestation`: the worker's signature on it, as it came.
    """

    outcome: Outcome
    exit_code: int | None = None
    fuel: int = 0
    run_time_ms: int = 1
    stdout: Data = b""
    stderr: Data = b""
    reason: str = ""
    attestation: bytes | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the program ran to its end and exited with 0."""
        return self.outcome is Outcome.COMPLETED and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class TaskDone:
    """The task `task` is answered: with its result, or an error that says why there is none."""

    task: int
    answer: TaskResult | JobError


Said: TypeAlias = Ack | Cancel
"""What the client says to a worker because of what it heard."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How a session is held.

    `ticket`: who has it has the session. `secret`: the X25519 key that outputs are sealed to.
    `durable`: tasks are on the worker's disk before they are said to be queued.
    """

    ticket: bytes
    secret: bytes
    durable: bool = False

    @property
    def hold(self) -> Hold:
        """What the worker is told."""
        return Hold(self.ticket, X25519Key(self.secret).public, self.durable)

    def __repr__(self) -> str:
        return "<Keep>"


class ClientTasks:
    """See above. `keep` is None for a session that ends with its stream.

    `last_id`: the highest id that was given to a task of the session, by an earlier client.
    `sinks` makes what keeps outputs. `partials` has what came of sealed ones.
    """

    def __init__(
        self,
        keep: Keep | None = None,
        last_id: int = 0,
        *,
        begun: bool = False,
        sinks: Sinks = MemorySink,
        partials: Partials | None = None,
    ) -> None:
        self.keep = keep
        self._sinks = sinks
        self._partials = partials
        self.pending: dict[int, Pending] = {}
        self.begun = begun
        """Whether the worker may hold the session by now."""
        self._unsettled: set[int] = set()
        self._last_id = last_id
        self._opened: dict[int, LoggedOpening] = {}
        self._sending: dict[int, Task] = {}
        self._arrived: tuple[Task, int] | None = None

    # What the client asks for.

    def next_id(self) -> int:
        """Return the id of the next task."""
        return self._last_id + 1

    def add(self, head: TaskHead) -> None:
        """Hear of a task that is to be sent."""
        self._last_id = head.id
        limit = head.limits.fuel
        granted = limit if head.granted is None else head.granted
        pending = Pending(head.limits, head.input_size, granted, int(granted < limit))
        pending.waits_first = self.keep is not None
        self.pending[head.id] = pending

    @property
    def has_part(self) -> bool:
        """Whether a part of a sealed output has come, which is lost with the session."""
        return bool(self._opened)

    def sending(self, number: int, task: Task) -> None:
        """Hear that a task is being sent, from when on the worker may have a part of its input."""
        if self.keep is not None and number in self.pending:
            self._sending = {one: it for one, it in self._sending.items() if one in self.pending}
            self._sending[number] = task

    def arrived(self, task: Task) -> int | None:
        """Return how many bytes of the task's input the worker has, if it is to be sent again."""
        if self._arrived is None or self._arrived[0] is not task:
            return None
        (_, size), self._arrived = self._arrived, None
        return size

    def expect(self, task: int, limits: Limits) -> None:
        """Hear of a task that an earlier client has sent, and whose answer is wanted."""
        require(task <= self._last_id, "a task that was never sent")
        old = Pending(limits, 0, limits.fuel, 0, Progress.SENT, is_old=True, waits_first=True)
        self.pending[task] = old
        if self.keep is not None and self._partials is not None:
            ticket, secret = self.keep.ticket, self.keep.secret
            opening = found(self._partials, ticket, task, secret, self._sinks, limits.output)
            if opening is not None:
                self._opened[task] = opening

    def has_room(self, size: int, offer: Offer) -> bool:
        """Tell whether one more task, with `size` bytes of input, is taken by the worker."""
        if self.keep is not None and offer.holding is not None:
            most, now = offer.holding.tasks, len(self.pending) + len(self._unsettled)
        else:
            most, now = offer.tasks, len(self.pending)
        if not self.pending:
            return now < most
        held = sum(other.input_size for other in self.pending.values())
        return now < most and held + size <= offer.input_size

    def acknowledge(self, task: int) -> list[Said]:
        """Say that the result of a task is safe; return what the worker is told."""
        if task not in self._unsettled:
            return []
        self._unsettled.discard(task)
        return [Ack(task)]

    def resume(self) -> Resume:
        """Return how the session is asked for again."""
        if self.keep is None:
            raise ValueError("a session that is not held cannot be resumed")
        parts = ((task, part.offset) for task, part in self._opened.items() if part.offset)
        return Resume(self.keep.ticket, tuple(sorted(parts)))

    # What the worker says.

    @property
    def running(self) -> Pending | None:
        """The task that runs, if one does."""
        return next((task for task in self.pending.values() if task.runs), None)

    def admit_state(self, message: TaskState, *, accepted: bool) -> None:
        """Raise `ProtocolError` if a task cannot be so."""
        pending = self._find(message.task, "the state of a task that is not there")
        pending.admit(message, may_start=accepted and self.running is None)

    def take_state(self, message: TaskState, now: float) -> None:
        """Take in where a task is, which was admitted."""
        self.pending[message.task].take(message, now)

    def admit_result(self, message: ResultHead) -> Blobs | None:
        """Return what takes a task's output, None if nobody wants it; or raise `ProtocolError`."""
        pending = self._find(message.task, "the result of a task that is not there")
        pending.admit_result(message)
        if message.sealed is None:
            return Blobs(message.attachments, self._sinks) if pending.is_wanted else None
        if self.keep is None:
            raise ProtocolError("in a job's session: a seal that was not asked for")
        if not pending.is_wanted:
            return None
        opening = self._opened.get(message.task)
        if opening is None or not message.sealed.offset:
            opening = self._open(self.keep, message)
        fits = opening.fits(message.stdout, message.stderr, message.sealed.offset)
        require(fits, "a sealed output that goes on elsewhere")
        return opening

    def _open(self, keep: Keep, message: ResultHead) -> LoggedOpening:
        """Begin to take in a sealed output."""
        lengths = message.stdout, message.stderr
        opening = LoggedOpening(keep.secret, lengths, self._sinks)
        if self._partials is not None:
            with suppress(NoRoom):
                opening.log = self._partials.begin(keep.ticket, message.task, lengths)
        self._opened[message.task] = opening
        return opening

    def _forget(self, task: int) -> None:
        """Forget what came of a sealed output."""
        opened = self._opened.pop(task, None)
        if opened is not None and self.keep is not None and self._partials is not None:
            self._partials.drop(self.keep.ticket, task)

    def take_result(
        self, message: ResultHead, blobs: Blobs | None
    ) -> tuple[list[TaskDone], list[Said]]:
        """Take in a result that is whole; return what the worker is told.

        Raises `NoRoom` if its output could not be kept: the task is as unanswered as before.
        """
        if blobs is not None and blobs.lost is not None:
            raise blobs.lost
        task = message.task
        pending = self.pending.pop(task)
        self._forget(task)
        done = [TaskDone(task, _answer(message, blobs, pending))] if blobs is not None else []
        if self.keep is None or task in self._unsettled:
            return done, []
        if pending.is_wanted and not pending.is_cancelled:
            self._unsettled.add(task)
            return done, []
        return done, [Ack(task)]

    def admit_resumed(self, message: Resumed) -> None:
        """Raise `ProtocolError` if the session cannot be so."""
        known = all(task <= self._last_id for task, _ in message.tasks)
        require(known, "a resumed task that was never sent")
        at_work = sum(state in {State.RUNNING, State.PAUSED} for _, state in message.tasks)
        require(at_work <= 1, "two tasks at once")
        if message.arriving is not None:
            number, size = message.arriving
            pending = self.pending.get(number)
            require(number <= self._last_id, "a part of a task that was never sent")
            require(pending is None or size <= pending.input_size, "more input than was sent")

    def take_resumed(self, message: Resumed, now: float) -> tuple[list[TaskDone], list[Said]]:
        """Take in what the worker has of the session; what it does not have is answered so."""
        there = dict(message.tasks)
        number, size = message.arriving or (0, 0)
        sent = self._sending.pop(number, None)
        self._arrived = None if sent is None else (sent, size)
        lost = [task for task in self.pending if task not in there]
        done = [
            TaskDone(task, self.interruption(task, "the worker does not have it")) for task in lost
        ]
        for task in lost:
            del self.pending[task]
            self._forget(task)
        self._unsettled &= set(there)
        said: list[Said] = []
        for task, state in message.tasks:
            pending = self.pending.setdefault(task, unwanted())
            pending.resume(state, now)
            if pending.is_cancelled and state is not State.DONE and task not in self._unsettled:
                said.append(Cancel(task))
        return done, said

    def interruption(self, task: int, why: str, *, arriving: bool = False) -> JobInterrupted:
        """Say what is known of a task if it ends now, because of `why`."""
        pending = self.pending.get(task)
        progress = Progress.NOT_SENT if pending is None else pending.progress
        return JobInterrupted(Progress.ARRIVING if arriving else progress, why)

    def _find(self, task: int, what: str) -> Pending:
        pending = self.pending.get(task)
        if pending is None:
            raise ProtocolError(f"in a job's session: {what}")
        return pending


def _answer(head: ResultHead, blobs: Blobs, pending: Pending) -> TaskResult | JobError:
    if head.outcome is Outcome.CANCELLED and not pending.is_cancelled:
        return JobInterrupted(Progress.QUEUED, "an earlier client had called it off")
    stdout, stderr = blobs.take()
    return TaskResult(
        outcome=head.outcome,
        exit_code=head.exit_code,
        fuel=head.fuel,
        run_time_ms=1 << head.run_time,
        stdout=stdout,
        stderr=stderr,
        reason=head.reason,
        attestation=head.attestation,
    )
