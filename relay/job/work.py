"""The tasks of a job session at its worker: what waits, runs, and is held (spec/08 §3, §4).

Pure. The session's stream tells it what its client asks for, the shell how the module and the tasks
fare; what is to be said of them goes to whoever listens. A breach is a `ProtocolError`.

    QUEUED -load_module-> LOADING -accept_module-> OPEN
    any of these -refuse, close-> over
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attestation import Statement
from fogbank.relay.job.attesting import Attest, Attesting
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.events import CancelRunning, GrantRunning, TaskArrived, WorkerEvent
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import PROGRESS_SECONDS, TASK_OVERHEAD, Budget, Share
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
from fogbank.relay.job.statement import program_digest
from fogbank.sandbox.data import Data
from fogbank.sandbox.limits import LimitError
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task, TaskError

LOADING_WORDS: Final = "the module is being compiled"
SHUTDOWN_WORDS: Final = "the worker is shutting down"
Say: TypeAlias = Callable[..., None]
"""Takes a message and the attachments that follow it."""


@dataclass(slots=True)
class Entry:
    """A task that waits or runs, and what it counts; the fuel granted, and when that was told.

    `task`: None while it waits on the disk. `is_ready`: it may be run. `memory`, `stored`: bytes
    that it holds of the worker's memory and disk.
    """

    id: int
    head: TaskHead
    task: Task | None
    granted: int
    memory: int
    stored: int = 0
    is_ready: bool = True
    told: int = 0
    told_at: float = 0.0
    is_paused: bool = False
    said: Statement | None = None


class Work:
    """What a session's module and tasks are doing; `budget` is shared by all of a worker."""

    def __init__(
        self, offer: Offer, budget: Budget, say: Say, attest: Attest | None = None
    ) -> None:
        self.place = ModulePlace.QUEUED
        self.module: bytes | RuntimeId | None = None
        """What it runs, once it is here."""
        self.is_over = False
        self.is_draining = False
        """Whether it takes and begins no task any more, because the worker shuts down."""
        self.quiet_since = 0.0
        """When it last ran a task or got ready for one."""
        self._offer = offer
        self._budget = Share(budget)
        self._say = say
        self.has_all = False
        """Whether its last task is here: it is over once all are answered."""
        self.is_done = False
        """Whether it is over because all are."""
        self._knows_last = False
        self._attesting = Attesting(attest, offer.engine)
        self._program: bytes | None = None
        self._last_id = 0
        self._waiting: deque[Entry] = deque()
        self._running: Entry | None = None
        self._input_size = 0

    @property
    def has_module(self) -> bool:
        """Whether it is known what it runs."""
        return self.module is not None

    @property
    def is_running(self) -> bool:
        """Whether a task runs."""
        return self._running is not None

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

    def take_module(self, module: bytes | RuntimeId) -> None:
        """The module has arrived."""
        self.module = module

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

    def start_task(self, now: float) -> Entry | None:
        """Return the next task to run, if there is one to start now."""
        ready = self.place is ModulePlace.OPEN and not (self.is_over or self.is_draining)
        if not ready or self._running is not None or not self._waiting:
            return None
        if not self._waiting[0].is_ready:
            return None
        entry = self._running = self._waiting.popleft()
        entry.told_at = now
        self._say(TaskState(entry.id, State.RUNNING, fuel=0))
        return entry

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
        entry = self._running
        if entry is not None:
            head = self.end_of(entry, result)
            self._release_running(now)
            self._answer(head, result)
            self._end_if_done()

    def _answer(self, head: ResultHead, result: Result) -> None:
        """Tell of a task's end."""
        self._say(head, result.stdout, result.stderr)

    def end_of(self, entry: Entry, result: Result) -> ResultHead:
        """Return what is told of a task's end, with this worker's signature if it came to any."""
        said = entry.said or self.statement_of(entry, result)
        return self._attesting.attested(result_head(entry, result), said)

    @property
    def attests(self) -> bool:
        """Whether ends of tasks are signed."""
        return self._attesting.is_active

    def statement_of(self, entry: Entry, result: Result) -> Statement | None:
        """Return what is to be signed of a task's end; made beforehand, it is left in the entry."""
        if not self.attests or self.module is None:
            return None
        if self._program is None:
            self._program = program_digest(self.module)
        head = result_head(entry, result)
        return self._attesting.statement_of(self._program, entry.task, head, result)

    def refuse_task(self, cause: Cause, reason: str, now: float) -> None:
        """The running task cannot be run after all."""
        entry = self._release_running(now)
        if entry is not None:
            self._refuse(entry.id, cause, reason)
            self._end_if_done()

    def refuse(self, cause: Cause, reason: str, outcome: Outcome | None = None) -> None:
        """Refuse the session, which ends it."""
        if not self.is_over:
            self._say(Refused(cause, clean(reason), None, outcome))
            self.close()

    def drain(self) -> None:
        """Begin no task any more; refuse those that wait."""
        self.is_draining = True
        while self._waiting:
            entry = self._waiting.popleft()
            self._release(entry)
            self._refuse(entry.id, Cause.SHUTDOWN, SHUTDOWN_WORDS)
        self._end_if_done()

    def put_back(self, now: float) -> None:
        """The worker ends before the running task has."""
        self.refuse_task(Cause.SHUTDOWN, SHUTDOWN_WORDS, now)

    def close(self) -> None:
        """Forget all tasks and give back what is held."""
        self.is_over = True
        self._waiting.clear()
        self._running = None
        self._budget.close()

    # What the client says.

    def admit_task(self, message: TaskHead) -> bool:
        """Judge a task before its input is read: whether it is taken, and room held for it."""
        require(message.id > self._last_id, "a task's id that does not grow")
        require(not self._knows_last, "a task after the last one")
        self._last_id = message.id
        self._knows_last = message.is_last
        objection = self._objection(message)
        if objection is not None:
            self._refuse_last(message, *objection)
            return False
        self._input_size += message.input_size
        return True

    def _full(self) -> str:
        """Say why not one task more is taken, if none is."""
        unanswered = self._unanswered
        many = unanswered >= self._offer.tasks
        return f"{unanswered} tasks of this job are unanswered" if many else ""

    @property
    def _unanswered(self) -> int:
        return len(self._waiting) + (self._running is not None)

    def _objection(self, message: TaskHead) -> tuple[Cause, str] | None:
        """Say why a task is not taken, or hold room for it."""
        offer = self._offer
        if self.is_draining:
            return Cause.SHUTDOWN, SHUTDOWN_WORDS
        try:
            message.limits.check(offer.ceilings)
        except LimitError as error:
            return Cause.LIMITS, str(error)
        if message.input_size > offer.input_size:
            return Cause.LIMITS, f"a task may have {offer.input_size} bytes of input here"
        full = self._full()
        if full:
            return Cause.BUSY, full
        if self._input_size + message.input_size > offer.input_size:
            return Cause.BUSY, "the tasks of this job hold as much input as they may"
        reason = self._hold_task(message)
        return (Cause.BUSY, reason) if reason else None

    def _hold_task(self, message: TaskHead) -> str:
        """Hold room for a task; say why there is none."""
        held = self.hold(message.input_size + TASK_OVERHEAD)
        return "" if held else "the worker has no memory for the task now"

    def abandon(self, message: TaskHead) -> None:
        """A task that was admitted will not arrive: its stream has ended."""
        if not self.is_over:
            self._free(message)

    def _free(self, message: TaskHead) -> None:
        """Give back the room of a task that was admitted and is not queued."""
        self._input_size -= message.input_size
        self.give_back(message.input_size + TASK_OVERHEAD)

    def queue_task(self, message: TaskHead, contents: tuple[Data, ...]) -> list[WorkerEvent]:
        """Take in a task that was admitted, with all its input."""
        stdin, *files = contents
        paths = (path for path, _ in message.files)
        named = tuple(zip(paths, files, strict=True))
        task = Task(message.args, message.env, named, stdin, message.limits, message.seed)
        granted = task.limits.fuel if message.granted is None else message.granted
        memory = message.input_size + TASK_OVERHEAD
        entry = Entry(message.id, message, task, granted, memory)
        try:
            task.check(self._offer.ceilings)
        except (TaskError, LimitError) as error:
            self._free(message)
            self._refuse_last(message, Cause.TASK, str(error))
            return []
        self.has_all = message.is_last
        self._queue(entry, self._unanswered)
        return [TaskArrived()]

    def lose_task(self, message: TaskHead) -> None:
        """Refuse a task that was admitted, but whose input could not be kept."""
        self._free(message)
        self._refuse_last(message, Cause.BUSY, "the worker has no room for the input now")

    def _refuse_last(self, message: TaskHead, cause: Cause, reason: str) -> None:
        """Refuse the task that came last; it may be that none comes any more."""
        self._refuse(message.id, cause, reason)
        self.has_all = message.is_last
        self._end_if_done()

    def _end_if_done(self) -> None:
        """End if no task is here, and none will come."""
        if self.has_all and not self._unanswered and not self.is_over:
            self.is_done = True
            self.close()

    def _queue(self, entry: Entry, ahead: int) -> None:
        """Have a task wait behind `ahead` others."""
        self._waiting.append(entry)
        if ahead or self.place is not ModulePlace.OPEN:
            self._tell_queued(entry, ahead)

    def _tell_queued(self, entry: Entry, ahead: int) -> None:
        ready = self.place is ModulePlace.OPEN
        why = f"{ahead} of this job's tasks come first" if ahead else ""
        why = why if ready else "the module is not ready yet"
        self._say(TaskState(entry.id, State.QUEUED, why))

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
        fits = entry.granted < grant.fuel <= entry.head.limits.fuel
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
                self._answer(result_head(entry, result), result)
                self._end_if_done()
                break
        return []

    # Room.

    def hold(self, size: int) -> bool:
        """Take so much of the worker's memory, if it is there."""
        return self._budget.take(size)

    @property
    def memory(self) -> int:
        """The bytes of the worker's budget that it has."""
        return self._budget.taken

    def give_back(self, size: int) -> None:
        """Give back so much of the worker's memory."""
        self._budget.give_back(size)

    def _release(self, entry: Entry) -> None:
        self._input_size -= entry.head.input_size
        self.give_back(entry.memory)
        entry.memory = 0

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
