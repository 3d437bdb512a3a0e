"""One job session as its worker sees it: what may come when, and what is answered (spec/08 §3).

Pure. The shell feeds it what arrived and the time, acts on the events, tells it how the module and
the tasks fared, and sends what `data_to_send` returns. A breach by the client is a `ProtocolError`,
after which the session is over.

    OPENED -HELLO-> GREETED -MODULE-> WAITING -load_module-> LOADING -accept_module-> OPEN
    any of these -refuse-> OVER
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, Message, frame
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import PROGRESS_SECONDS, TASK_OVERHEAD, Budget, JobLimits
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    FromClient,
    Grant,
    Hello,
    ModuleHead,
    Offer,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
    run_time_bucket,
    told_fuel,
    wire_exit_code,
)
from fogbank.sandbox.limits import LimitError
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task, TaskError


class Phase(IntEnum):
    """Where a session is."""

    OPENED = 0
    GREETED = 1
    WAITING = 2
    LOADING = 3
    OPEN = 4
    OVER = 5


_TAKES_TASKS = frozenset({Phase.WAITING, Phase.LOADING, Phase.OPEN})


@dataclass(frozen=True, slots=True)
class ModuleArrived:
    """The module is here whole, or its runtime named: it may wait for its place."""

    module: bytes | RuntimeId


@dataclass(frozen=True, slots=True)
class TaskArrived:
    """There is a task more to start."""


@dataclass(frozen=True, slots=True)
class CancelRunning:
    """The client wants the running task ended."""


@dataclass(frozen=True, slots=True)
class GrantRunning:
    """The running task may use so much fuel in all."""

    fuel: int


WorkerEvent: TypeAlias = ModuleArrived | TaskArrived | CancelRunning | GrantRunning


@dataclass(slots=True)
class _Held:
    """A task that waits or runs, and what it counts; the fuel granted, and when that was told."""

    id: int
    task: Task
    input_size: int
    granted: int
    told: int = 0
    told_at: float = 0.0
    is_paused: bool = False


class WorkerSession:
    """The state machine of one session; `budget` is shared by all sessions of a worker."""

    def __init__(self, offer: Offer, limits: JobLimits, budget: Budget, now: float) -> None:
        self.phase = Phase.OPENED
        self._offer = offer
        self._limits = limits
        self._budget = budget
        self._frames: Frames[FromClient] = Frames(decode_from_client, self._admit)
        self._out: list[bytes] = []
        self._last_id = 0
        self._waiting: deque[_Held] = deque()
        self._running: _Held | None = None
        self._input_size = 0
        self._taken = 0
        self._frame_since: float | None = None
        self._quiet_since = now

    @property
    def is_over(self) -> bool:
        """Whether the session was refused: what is left is to send that, and to end."""
        return self.phase is Phase.OVER

    @property
    def may_end(self) -> bool:
        """Whether the client's stream may end here without being cut off."""
        return self._frames.is_between

    def deadline(self) -> float | None:
        """Return when the client must have been heard; None while it is the worker's turn."""
        if self._frame_since is not None:
            return self._frame_since + self._limits.pace.seconds_for(self._frames.expected)
        busy = self.phase in {Phase.WAITING, Phase.LOADING} or self._running or self._waiting
        return None if busy else self._quiet_since + self._limits.idle_seconds

    def receive(self, data: bytes | bytearray, now: float) -> list[WorkerEvent]:
        """Take in what the client sent; raise `ProtocolError` if it may not be."""
        events: list[WorkerEvent] = []
        whole = 0
        try:
            for message, blobs in self._frames.feed(data):
                whole += 1
                events += self._take(message, blobs)
                if self.is_over:
                    break
        except ProtocolError:
            self.close()
            raise
        if whole:
            self._quiet_since = now
        if self._frames.is_between:
            self._frame_since = None
        elif whole or self._frame_since is None:
            self._frame_since = now
        return events

    def data_to_send(self) -> list[bytes]:
        """Return what waits to be sent, in order, and forget it."""
        out, self._out = self._out, []
        return out

    # What the shell tells. Once the session is over, nothing of it matters.

    def queue_module(self, reason: str) -> None:
        """The module waits for a place."""
        if not self.is_over:
            self._say(TaskState(0, State.QUEUED, reason))

    def load_module(self) -> None:
        """The module has its place and is being compiled."""
        if not self.is_over:
            self.phase = Phase.LOADING
            self._say(TaskState(0, State.RUNNING, "the module is being compiled"))

    def accept_module(self, now: float) -> None:
        """The module is ready to run tasks."""
        if not self.is_over:
            self.phase = Phase.OPEN
            self._quiet_since = now
            self._say(Accepted())

    def start_task(self, now: float) -> tuple[Task, int] | None:
        """Return the next task to run and the fuel granted to it, if there is one to start now."""
        if self.phase is not Phase.OPEN or self._running is not None or not self._waiting:
            return None
        held = self._running = self._waiting.popleft()
        held.told_at = now
        self._say(TaskState(held.id, State.RUNNING, fuel=0))
        return held.task, held.granted

    def tell_progress(self, fuel: int, now: float) -> None:
        """The running task has used so much; the client hears of it now and then."""
        held = self._running
        if held is not None and now - held.told_at >= PROGRESS_SECONDS:
            held.told, held.told_at = max(held.told, told_fuel(fuel)), now
            self._say(TaskState(held.id, State.RUNNING, fuel=held.told))

    def tell_pause(self, fuel: int, now: float) -> None:
        """The running task has used up the `fuel` granted; it goes on when more is."""
        held = self._running
        if held is not None and held.granted <= fuel and not held.is_paused:
            held.told, held.told_at, held.is_paused = fuel, now, True
            self._say(TaskState(held.id, State.PAUSED, "its granted fuel is used up", fuel))

    def finish_task(self, result: Result, now: float) -> None:
        """The running task has ended so."""
        held = self._release_running(now)
        if held is not None:
            self._say(_result_head(held, result))
            self._out += [part for part in (result.stdout, result.stderr) if part]

    def refuse_task(self, cause: Cause, reason: str, now: float) -> None:
        """The running task cannot be run after all."""
        held = self._release_running(now)
        if held is not None:
            self._say(Refused(cause, clean(reason), held.id))

    def refuse(self, cause: Cause, reason: str, outcome: Outcome | None = None) -> None:
        """Refuse the session, which ends it."""
        if not self.is_over:
            self._say(Refused(cause, clean(reason), None, outcome))
            self.close()

    def close(self) -> None:
        """Forget all tasks and give back what is held."""
        self.phase = Phase.OVER
        self._waiting.clear()
        self._running = None
        self._give_back(self._taken)

    # What the client says.

    def _admit(self, message: FromClient) -> Blobs | None:
        """Judge a message before its attachments are read."""
        if isinstance(message, Hello):
            self._require(self.phase is Phase.OPENED, "a second hello")
        elif isinstance(message, ModuleHead):
            self._require(self.phase is Phase.GREETED, "a module that may not come now")
            self._require(message.job_key is None, "the key of a job")
            return self._admit_module(message)
        elif isinstance(message, TaskHead):
            self._require(self.phase in _TAKES_TASKS, "a task without a module")
            self._require(message.id > self._last_id, "a task's id that does not grow")
            self._last_id = message.id
            return self._admit_task(message)
        elif not isinstance(message, Cancel | Grant):
            raise ProtocolError("in a job's session: a message that is not taken here")
        else:
            known = 0 < message.task <= self._last_id
            self._require(known, "the end of, or fuel for, a task that was never sent")
        return None

    def _take(self, message: FromClient, blobs: Blobs | None) -> list[WorkerEvent]:
        """Deal with a message that is whole."""
        if isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Cancel):
            return self._cancel(message.task)
        elif isinstance(message, Grant):
            return self._grant(message)
        elif isinstance(message, ModuleHead) and message.is_runtime and not self.is_over:
            self.phase = Phase.WAITING
            return [ModuleArrived(RuntimeId(message.sha256))]
        elif isinstance(message, ModuleHead) and blobs is not None:
            self._require(blobs.sha256 == message.sha256, "a module with another hash")
            self.phase = Phase.WAITING
            return [ModuleArrived(blobs.take()[0])]
        elif isinstance(message, TaskHead) and blobs is not None:
            return self._queue(message, blobs)
        return []

    def _greet(self, message: Hello) -> None:
        if self._offer.version in message.versions:
            self.phase = Phase.GREETED
            self._say(self._offer)
        else:
            versions = f"this worker speaks version {self._offer.version} of job sessions alone"
            self.refuse(Cause.VERSION, versions)

    def _admit_module(self, message: ModuleHead) -> Blobs | None:
        if message.is_runtime:
            if message.sha256 not in self._offer.runtimes:
                reason = "the worker does not hold this runtime"
                self.refuse(Cause.MODULE, reason, Outcome.UNKNOWN_RUNTIME)
        elif message.size > self._offer.module:
            self.refuse(Cause.LIMITS, f"a module may have {self._offer.module} bytes here")
        elif not self._hold(message.size):
            self.refuse(Cause.BUSY, "the worker has no memory for the module now")
        else:
            return Blobs(message.attachments, hashed=True)
        return None

    def _admit_task(self, message: TaskHead) -> Blobs | None:
        objection = self._objection(message)
        if objection is not None:
            self._refuse_task(message, *objection)
            return None
        self._input_size += message.input_size
        return Blobs(message.attachments)

    def _objection(self, message: TaskHead) -> tuple[Cause, str] | None:
        """Say why a task is not taken, or hold room for it."""
        offer = self._offer
        unanswered = len(self._waiting) + (self._running is not None)
        try:
            message.limits.check(offer.ceilings)
        except LimitError as error:
            return Cause.LIMITS, str(error)
        if message.input_size > offer.input_size:
            return Cause.LIMITS, f"a task may have {offer.input_size} bytes of input here"
        if unanswered >= offer.tasks:
            return Cause.BUSY, f"{unanswered} tasks of this job are unanswered"
        if self._input_size + message.input_size > offer.input_size:
            return Cause.BUSY, "the tasks of this job hold as much input as they may"
        if not self._hold(message.input_size + TASK_OVERHEAD):
            return Cause.BUSY, "the worker has no memory for the task now"
        return None

    def _refuse_task(self, message: TaskHead, cause: Cause, reason: str) -> None:
        self._say(Refused(cause, clean(reason), message.id))

    def _queue(self, message: TaskHead, blobs: Blobs) -> list[WorkerEvent]:
        stdin, *contents = blobs.take()
        paths = (path for path, _ in message.files)
        files = tuple(zip(paths, contents, strict=True))
        task = Task(message.args, message.env, files, stdin, message.limits, message.seed)
        granted = task.limits.fuel if message.granted is None else message.granted
        held = _Held(message.id, task, message.input_size, granted)
        try:
            task.check(self._offer.ceilings)
        except (TaskError, LimitError) as error:
            self._release(held)
            self._refuse_task(message, Cause.TASK, str(error))
            return []
        ahead = len(self._waiting) + (self._running is not None)
        if self.phase is not Phase.OPEN:
            self._say(TaskState(held.id, State.QUEUED, "the module is not ready yet"))
        elif ahead:
            self._say(TaskState(held.id, State.QUEUED, f"{ahead} of this job's tasks come first"))
        self._waiting.append(held)
        return [TaskArrived()]

    def _grant(self, grant: Grant) -> list[WorkerEvent]:
        held = self._running
        if held is None or held.id != grant.task:
            held = next((one for one in self._waiting if one.id == grant.task), None)
        if held is None:
            # It was answered before this arrived.
            return []
        fits = held.granted < grant.fuel <= held.task.limits.fuel
        self._require(fits, "a grant that does not grow, or is over the limit")
        held.granted = grant.fuel
        if held is not self._running:
            return []
        if held.is_paused:
            held.is_paused = False
            self._say(TaskState(held.id, State.RUNNING, fuel=held.told))
        return [GrantRunning(grant.fuel)]

    def _cancel(self, task: int) -> list[WorkerEvent]:
        if self._running is not None and self._running.id == task:
            return [CancelRunning()]
        for held in self._waiting:
            if held.id == task:
                self._waiting.remove(held)
                self._release(held)
                result = Result(Outcome.CANCELLED, reason="cancelled before it began")
                self._say(_result_head(held, result))
                break
        return []

    # Room.

    def _hold(self, size: int) -> bool:
        if not self._budget.take(size):
            return False
        self._taken += size
        return True

    def _give_back(self, size: int) -> None:
        self._taken -= size
        self._budget.give_back(size)

    def _release(self, held: _Held) -> None:
        self._input_size -= held.input_size
        self._give_back(held.input_size + TASK_OVERHEAD)

    def _release_running(self, now: float) -> _Held | None:
        held, self._running = self._running, None
        if held is not None:
            self._quiet_since = now
            self._release(held)
        return held

    def _say(self, message: Message) -> None:
        self._out.append(frame(message))

    def _require(self, allowed: bool, what: str) -> None:
        if not allowed:
            raise ProtocolError(f"in a job's session: {what}")


def _result_head(held: _Held, result: Result) -> ResultHead:
    outcome = result.outcome
    code = wire_exit_code(result.exit_code or 0) if outcome is Outcome.COMPLETED else None
    return ResultHead(
        task=held.id,
        outcome=outcome,
        exit_code=code,
        fuel=min(result.fuel, held.granted),
        run_time=run_time_bucket(result.seconds),
        stdout=len(result.stdout),
        stderr=len(result.stderr),
        reason=clean(result.reason),
    )
