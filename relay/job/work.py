"""The tasks of a job session at its worker: what waits, runs, and is held (spec/08 §3, §4).

Pure. The session's stream tells it what its client asks for, the shell how the module and the tasks
fare; what is to be said of them goes to whoever listens. A breach is a `ProtocolError`.

    QUEUED -load_module-> LOADING -accept_module-> OPEN
    any of these -refuse, close-> over
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attestation import Statement
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import PROGRESS_SECONDS, TASK_OVERHEAD, Budget
from fogbank.relay.job.messages import (
    Accepted,
    Grant,
    Offer,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
    run_time_bucket,
    told_fuel,
    wire_exit_code,
)
from fogbank.relay.job.statement import Ended, program_digest, statement
from fogbank.sandbox.data import Data
from fogbank.sandbox.limits import LimitError
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task, TaskError

LOADING_WORDS: Final = "the module is being compiled"
Say: TypeAlias = Callable[..., None]
"""Takes a message and the attachments that follow it."""
Attest: TypeAlias = Callable[[Statement], bytes]
"""Signs what a task came to (spec/12 §1), and returns the attestation as it is sent."""
_UNATTESTED: Final = frozenset({Outcome.CANCELLED, Outcome.HOST_FAILURE})


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
class Entry:
    """A task that waits or runs, and what it counts; the fuel granted, and when that was told."""

    id: int
    task: Task
    input_size: int
    granted: int
    told: int = 0
    told_at: float = 0.0
    is_paused: bool = False


class Work:
    """What a session's module and tasks are doing; `budget` is shared by all of a worker."""

    def __init__(
        self, offer: Offer, budget: Budget, say: Say, attest: Attest | None = None
    ) -> None:
        self.place = ModulePlace.QUEUED
        self.module: bytes | RuntimeId | None = None
        """What it runs, once it is here."""
        self.is_over = False
        self.quiet_since = 0.0
        """When it last ran a task or got ready for one."""
        self._offer = offer
        self._budget = budget
        self._say = say
        self._attest = attest
        self._program: bytes | None = None
        self._last_id = 0
        self._waiting: deque[Entry] = deque()
        self._running: Entry | None = None
        self._input_size = 0
        self._taken = 0

    @property
    def is_busy(self) -> bool:
        """Whether it is this side's turn, not the client's."""
        ready = self.place is ModulePlace.OPEN
        return bool(not ready or self._running or self._waiting)

    @property
    def has_more(self) -> bool:
        """Whether tasks wait for their turn."""
        return bool(self._waiting)

    # What the shell tells. Once the session is over, nothing of it matters.

    def queue_module(self, reason: str) -> None:
        """The module waits for a place."""
        if not self.is_over:
            self._say(TaskState(0, State.QUEUED, reason))

    def load_module(self) -> None:
        """The module has its place and is being compiled."""
        if not self.is_over:
            self.place = ModulePlace.LOADING
            self._say(TaskState(0, State.RUNNING, LOADING_WORDS))

    def accept_module(self, now: float) -> None:
        """The module is ready to run tasks."""
        if not self.is_over:
            self.place = ModulePlace.OPEN
            self.quiet_since = now
            self._say(Accepted())

    def start_task(self, now: float) -> tuple[Task, int] | None:
        """Return the next task to run and the fuel granted to it, if there is one to start now."""
        ready = self.place is ModulePlace.OPEN and not self.is_over
        if not ready or self._running is not None or not self._waiting:
            return None
        entry = self._running = self._waiting.popleft()
        entry.told_at = now
        self._say(TaskState(entry.id, State.RUNNING, fuel=0))
        return entry.task, entry.granted

    def tell_progress(self, fuel: int, now: float) -> None:
        """The running task has used so much; the client hears of it now and then."""
        entry = self._running
        if entry is not None and now - entry.told_at >= PROGRESS_SECONDS:
            entry.told, entry.told_at = max(entry.told, told_fuel(fuel)), now
            self._say(TaskState(entry.id, State.RUNNING, fuel=entry.told))

    def tell_pause(self, fuel: int, now: float) -> None:
        """The running task has used up the `fuel` granted; it goes on when more is."""
        entry = self._running
        if entry is not None and entry.granted <= fuel and not entry.is_paused:
            entry.told, entry.told_at, entry.is_paused = fuel, now, True
            self._say(TaskState(entry.id, State.PAUSED, "its granted fuel is used up", fuel))

    def finish_task(self, result: Result, now: float) -> None:
        """The running task has ended so."""
        entry = self._release_running(now)
        if entry is not None:
            head = self._attested(result_head(entry, result), entry.task, result)
            self._say(head, result.stdout, result.stderr)

    def _attested(self, head: ResultHead, task: Task, result: Result) -> ResultHead:
        """Return the result with this worker's signature, unless it came to nothing."""
        if self._attest is None or self.module is None or head.outcome in _UNATTESTED:
            return head
        if self._program is None:
            self._program = program_digest(self.module)
        outputs = result.stdout, result.stderr
        ended = Ended(head.outcome, head.exit_code, head.fuel, *outputs)
        said = statement(self._program, task, self._offer.engine, ended)
        return replace(head, attestation=self._attest(said))

    def refuse_task(self, cause: Cause, reason: str, now: float) -> None:
        """The running task cannot be run after all."""
        entry = self._release_running(now)
        if entry is not None:
            self._say(Refused(cause, clean(reason), entry.id))

    def refuse(self, cause: Cause, reason: str, outcome: Outcome | None = None) -> None:
        """Refuse the session, which ends it."""
        if not self.is_over:
            self._say(Refused(cause, clean(reason), None, outcome))
            self.close()

    def close(self) -> None:
        """Forget all tasks and give back what is held."""
        self.is_over = True
        self._waiting.clear()
        self._running = None
        self.give_back(self._taken)

    # What the client says.

    def admit_task(self, message: TaskHead) -> bool:
        """Judge a task before its input is read: whether it is taken, and room held for it."""
        require(message.id > self._last_id, "a task's id that does not grow")
        self._last_id = message.id
        objection = self._objection(message)
        if objection is not None:
            self._refuse(message.id, *objection)
            return False
        self._input_size += message.input_size
        return True

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
        if not self.hold(message.input_size + TASK_OVERHEAD):
            return Cause.BUSY, "the worker has no memory for the task now"
        return None

    def queue_task(self, message: TaskHead, contents: tuple[Data, ...]) -> list[WorkerEvent]:
        """Take in a task that was admitted, with all its input."""
        stdin, *files = contents
        paths = (path for path, _ in message.files)
        named = tuple(zip(paths, files, strict=True))
        task = Task(message.args, message.env, named, stdin, message.limits, message.seed)
        granted = task.limits.fuel if message.granted is None else message.granted
        entry = Entry(message.id, task, message.input_size, granted)
        try:
            task.check(self._offer.ceilings)
        except (TaskError, LimitError) as error:
            self._release(entry)
            self._refuse(entry.id, Cause.TASK, str(error))
            return []
        ahead = len(self._waiting) + (self._running is not None)
        if self.place is not ModulePlace.OPEN:
            self._say(TaskState(entry.id, State.QUEUED, "the module is not ready yet"))
        elif ahead:
            self._say(TaskState(entry.id, State.QUEUED, f"{ahead} of this job's tasks come first"))
        self._waiting.append(entry)
        return [TaskArrived()]

    def lose_task(self, message: TaskHead) -> None:
        """Refuse a task that was admitted, but whose input could not be kept."""
        self._give_back_input(message.input_size)
        self._refuse(message.id, Cause.BUSY, "the worker has no room for the input now")

    def require_sent(self, task: int) -> None:
        """Raise `ProtocolError` unless the client sent such a task."""
        require(0 < task <= self._last_id, "a word about a task that was never sent")

    def grant(self, grant: Grant) -> list[WorkerEvent]:
        """Let a task use more fuel; one that is answered needs none."""
        entry = self._running
        if entry is None or entry.id != grant.task:
            entry = next((one for one in self._waiting if one.id == grant.task), None)
        if entry is None:
            # It was answered before this arrived.
            return []
        fits = entry.granted < grant.fuel <= entry.task.limits.fuel
        require(fits, "a grant that does not grow, or is over the limit")
        entry.granted = grant.fuel
        if entry is not self._running:
            return []
        if entry.is_paused:
            entry.is_paused = False
            self._say(TaskState(entry.id, State.RUNNING, fuel=entry.told))
        return [GrantRunning(grant.fuel)]

    def cancel(self, task: int) -> list[WorkerEvent]:
        """End a task, unless it is answered."""
        if self._running is not None and self._running.id == task:
            return [CancelRunning()]
        for entry in self._waiting:
            if entry.id == task:
                self._waiting.remove(entry)
                self._release(entry)
                result = Result(Outcome.CANCELLED, reason="cancelled before it began")
                self._say(result_head(entry, result))
                break
        return []

    # Room.

    def hold(self, size: int) -> bool:
        """Take so much of the worker's memory, if it is there."""
        if not self._budget.take(size):
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        """Give back so much of the worker's memory."""
        self._taken -= size
        self._budget.give_back(size)

    def _release(self, entry: Entry) -> None:
        self._give_back_input(entry.input_size)

    def _give_back_input(self, size: int) -> None:
        self._input_size -= size
        self.give_back(size + TASK_OVERHEAD)

    def _release_running(self, now: float) -> Entry | None:
        entry, self._running = self._running, None
        if entry is not None:
            self.quiet_since = now
            self._release(entry)
        return entry

    def _refuse(self, task: int, cause: Cause, reason: str) -> None:
        self._say(Refused(cause, clean(reason), task))


def require(allowed: bool, what: str) -> None:
    """Raise `ProtocolError` that names `what` a client may not say, unless it is allowed."""
    if not allowed:
        raise ProtocolError(f"in a job's session: {what}")


def result_head(entry: Entry, result: Result) -> ResultHead:
    """Return what is told of a task's end."""
    outcome = result.outcome
    code = wire_exit_code(result.exit_code or 0) if outcome is Outcome.COMPLETED else None
    return ResultHead(
        task=entry.id,
        outcome=outcome,
        exit_code=code,
        fuel=min(result.fuel, entry.granted),
        run_time=run_time_bucket(result.seconds),
        stdout=len(result.stdout),
        stderr=len(result.stderr),
        reason=clean(result.reason),
    )
