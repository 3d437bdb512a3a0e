"""One job session as its client sees it: what a worker may say when (spec/08 §6).

Pure. The shell feeds it what arrived and the time, and acts on the events. Whatever a worker says
is checked against what was asked of it before a byte of it is kept; a breach is a `ProtocolError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause, JobError, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.frames import Blobs, Frames, Message, frame
from fogbank.relay.job.kinds import MESSAGE_SIZE, VERSION, State
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    FromWorker,
    Grant,
    Hello,
    ModuleHead,
    Offer,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.pending import Pending, require
from fogbank.sandbox.limits import LimitError
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task, TaskError


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended at a worker, as far as its word goes.

    `exit_code` is the program's own, there if and only if the outcome is COMPLETED. `fuel` is at
    most the task's limit. `run_time_ms` is a power of two that the run time stayed below.
    `reason` is a sentence, possibly empty.
    """

    outcome: Outcome
    exit_code: int | None = None
    fuel: int = 0
    run_time_ms: int = 1
    stdout: bytes = b""
    stderr: bytes = b""
    reason: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the program ran to its end and exited with 0."""
        return self.outcome is Outcome.COMPLETED and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class TaskDone:
    """The task `task` is answered: with its result, or an error that says why there is none."""

    task: int
    answer: TaskResult | JobError


ClientEvent: TypeAlias = Offer | Accepted | TaskState | TaskDone | Refused
"""What a worker said. `Refused` here is of the session, and its tasks are answered already."""


class ClientSession:
    """The state machine of one session."""

    def __init__(self, patience: Patience, now: float) -> None:
        self.offer: Offer | None = None
        self.refusal: Refused | None = None
        self._patience = patience
        self._frames: Frames[FromWorker] = Frames(decode_from_worker, self._admit)
        self._out: list[bytes] = []
        self._going_out: list[int] = []
        self._pending: dict[int, Pending] = {}
        self._last_id = 0
        self._module_sent = False
        self._module_state: State | None = None
        self._accepted = False
        self._frame_since: float | None = None
        self._active_at = now
        self._say(Hello())

    @property
    def unanswered(self) -> tuple[int, ...]:
        """The ids of the tasks that have no answer yet."""
        return tuple(self._pending)

    @property
    def is_cut_off(self) -> bool:
        """Whether an end of the stream here would cut off a message."""
        return not self._frames.is_between

    def deadline(self) -> float | None:
        """Return when the worker must have been heard; None while nothing is asked of it."""
        patience = self._patience
        if self._frame_since is not None:
            return self._frame_since + patience.pace.seconds_for(self._frames.expected)
        if self.refusal is not None:
            return None
        if self.offer is None:
            return self._active_at + patience.offer_seconds
        for task in self._pending.values():
            if task.progress is Progress.RUNNING:
                return task.deadline(patience, self._active_at)
        if self._pending or (self._module_sent and not self._accepted):
            return self._active_at + patience.word_seconds
        return None

    def data_to_send(self) -> list[bytes]:
        """Return what waits to be sent, in order, and forget it."""
        out, self._out = self._out, []
        return out

    def sent_some(self, now: float) -> None:
        """Hear that some bytes went out: the worker is not silent while it listens."""
        self._active_at = max(self._active_at, now)

    def sent_all(self) -> None:
        """Hear that all that `data_to_send` has returned went out."""
        for task in self._going_out:
            pending = self._pending.get(task)
            if pending is not None:
                pending.progress = max(pending.progress, Progress.SENT)
        self._going_out.clear()

    # What the client asks for.

    def send_module(self, module: bytes | RuntimeId) -> None:
        """Send the module, or name the runtime, once, after the offer.

        Raises `JobRefused` if it will not be taken.
        """
        offer = self._need_offer()
        if isinstance(module, RuntimeId):
            if module.digest not in offer.runtimes:
                raise JobRefused(Cause.MODULE, "it does not hold the runtime any more")
            self._module_sent = True
            self._say(ModuleHead(module.digest, 0))
            return
        if len(module) > offer.module or not module:
            reason = f"the module has {len(module)} bytes, and it takes 1 to {offer.module}"
            raise JobRefused(Cause.LIMITS, reason)
        self._module_sent = True
        self._say(ModuleHead(hashlib.sha256(module).digest(), len(module)), module)

    def has_room_for(self, task: Task) -> bool:
        """Tell whether the worker takes this task now, besides those that are unanswered."""
        offer = self._need_offer()
        held = sum(other.input_size for other in self._pending.values())
        fits = held + _input_size(task) <= offer.input_size
        return not self._pending or (len(self._pending) < offer.tasks and fits)

    def send_task(self, task: Task, granted: int | None = None) -> int:
        """Send a task and return its id; raise `JobRefused` if it will not be taken.

        `granted`: the fuel that it may use until it is granted more; None for all.
        """
        offer = self._need_offer()
        try:
            task.check(offer.ceilings)
        except LimitError as error:
            raise JobRefused(Cause.LIMITS, str(error)) from None
        except TaskError as error:
            raise JobRefused(Cause.TASK, str(error)) from None
        if _input_size(task) > offer.input_size:
            reason = f"input and files have more than the {offer.input_size} bytes that it takes"
            raise JobRefused(Cause.LIMITS, reason)
        if self.refusal is not None or not self._module_sent:
            raise ValueError("a task needs a session with a module")
        all_fuel = task.limits.fuel
        first = all_fuel if granted is None else min(granted, all_fuel)
        head = _head_of(task, self._last_id + 1, first)
        if len(head.encode()) > MESSAGE_SIZE:
            reason = (
                "arguments, environment and paths have more than 64 KiB: put what is long in a file"
            )
            raise JobRefused(Cause.TASK, reason, here=True)
        self._last_id = head.id
        self._pending[head.id] = Pending(task.limits, head.input_size, first, int(first < all_fuel))
        self._going_out.append(head.id)
        self._say(head, task.stdin, *(data for _, data in task.files))
        return head.id

    def cancel(self, task: int) -> None:
        """Ask the worker to end a task; does nothing for one that is answered."""
        pending = self._pending.get(task)
        if pending is not None and not pending.is_cancelled:
            pending.is_cancelled = True
            self._say(Cancel(task))

    def grant(self, task: int, fuel: int) -> None:
        """Let a task use `fuel` in all; does nothing for one that is answered, or may already."""
        pending = self._pending.get(task)
        granted = None if pending is None else pending.grant(fuel)
        if granted is not None:
            self._say(Grant(task, granted))

    def interruption(self, task: int, why: str) -> JobInterrupted:
        """Say what is known of a task if the session ends now, because of `why`."""
        pending = self._pending.get(task)
        progress = Progress.NOT_SENT if pending is None else pending.progress
        arriving = self._frames.arriving
        if isinstance(arriving, ResultHead) and arriving.task == task:
            progress = Progress.ARRIVING
        return JobInterrupted(progress, why)

    # What the worker says.

    def receive(self, data: bytes | bytearray, now: float) -> list[ClientEvent]:
        """Take in what the worker sent; raise `ProtocolError` if it may not be."""
        events: list[ClientEvent] = []
        whole = 0
        for message, blobs in self._frames.feed(data):
            whole += 1
            events += self._take(message, blobs, now)
        self._active_at = max(self._active_at, now)
        if self._frames.is_between:
            self._frame_since = None
        elif whole or self._frame_since is None:
            self._frame_since = now
        return events

    def _admit(self, message: FromWorker) -> Blobs | None:
        """Judge a message before its attachments are read."""
        require(self.refusal is None, "a word after the session was refused")
        match message:
            case Offer():
                require(self.offer is None, "a second offer")
                require(message.version == VERSION, "a version that was not asked for")
            case Refused():
                known = message.task is None or message.task in self._pending
                require(known, "the refusal of a task that is not there")
                require(self._may_refuse(message.outcome), "the refusal of no module")
            case Accepted():
                require(self._module_sent and not self._accepted, "an acceptance of nothing")
            case TaskState():
                self._admit_state(message)
            case ResultHead():
                self._admit_result(message)
                require(message.sealed is None, "a sealed result")
                return Blobs(message.attachments)
            case _:
                raise ProtocolError("in a job's session: a message that is not taken here")
        return None

    def _may_refuse(self, outcome: Outcome | None) -> bool:
        """Tell whether the module may be refused so: once accepted, only because of the host."""
        late = self._accepted and outcome is not Outcome.HOST_FAILURE
        return outcome is None or (self._module_sent and not late)

    def _admit_state(self, message: TaskState) -> None:
        if message.task == 0:
            loading = self._module_sent and not self._accepted
            require(loading, "the state of a module that is not there")
            back = self._module_state is State.RUNNING
            require(not back or message.state is State.RUNNING, "a module that goes back")
            return
        pending = self._pending.get(message.task)
        if pending is None:
            raise ProtocolError("in a job's session: the state of a task that is not there")
        running = any(other.progress >= Progress.RUNNING for other in self._pending.values())
        pending.admit(message, may_start=self._accepted and not running)

    def _admit_result(self, message: ResultHead) -> None:
        pending = self._pending.get(message.task)
        if pending is None:
            raise ProtocolError("in a job's session: the result of a task that is not there")
        pending.admit_result(message)

    def _take(self, message: FromWorker, blobs: Blobs | None, now: float) -> list[ClientEvent]:
        """Deal with a message that is whole."""
        match message:
            case Offer():
                self.offer = message
            case Accepted():
                self._accepted = True
            case Refused(task=None):
                self.refusal = message
                tasks = tuple(self._pending)
                return [*(self._done(task, self.verdict(task)) for task in tasks), message]
            case Refused(task=int(task)):
                return [self._done(task, JobRefused(message.cause, message.reason))]
            case TaskState():
                self._take_state(message, now)
            case ResultHead() if blobs is not None:
                stdout, stderr = blobs.take()
                return [self._done(message.task, _result(message, stdout, stderr))]
        return [message] if isinstance(message, Offer | Accepted | TaskState) else []

    def _take_state(self, message: TaskState, now: float) -> None:
        if message.task == 0:
            self._module_state = message.state
            return
        self._pending[message.task].take(message, now)

    def verdict(self, task: int = 0) -> TaskResult | JobError:
        """Return what the session's refusal means for a task, or for one that was yet to come."""
        refusal = self.refusal
        if refusal is None:
            raise ValueError("the session was not refused")
        if refusal.outcome is not None:
            return TaskResult(refusal.outcome, reason=refusal.reason)
        pending = self._pending.get(task)
        if pending is not None and pending.progress >= Progress.RUNNING:
            return self.interruption(task, refusal.reason or "the worker ended the session")
        return JobRefused(refusal.cause, refusal.reason)

    def _done(self, task: int, answer: TaskResult | JobError) -> TaskDone:
        del self._pending[task]
        return TaskDone(task, answer)

    def _need_offer(self) -> Offer:
        if self.offer is None:
            raise ValueError("the worker has not made its offer yet")
        return self.offer

    def _say(self, message: Message, *attachments: bytes) -> None:
        self._out += [frame(message), *(part for part in attachments if part)]


def _input_size(task: Task) -> int:
    return len(task.stdin) + sum(len(data) for _, data in task.files)


def _head_of(task: Task, number: int, granted: int) -> TaskHead:
    files = tuple((path, len(data)) for path, data in task.files)
    first = granted if granted < task.limits.fuel else None
    size = len(task.stdin)
    return TaskHead(number, task.args, task.env, files, size, task.limits, task.seed, first)


def _result(head: ResultHead, stdout: bytes, stderr: bytes) -> TaskResult:
    return TaskResult(
        outcome=head.outcome,
        exit_code=head.exit_code,
        fuel=head.fuel,
        run_time_ms=1 << head.run_time,
        stdout=stdout,
        stderr=stderr,
        reason=head.reason,
    )
