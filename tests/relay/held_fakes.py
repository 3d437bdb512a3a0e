"""A held session without a shell: its work, streams that come to it, a disk that is a list."""

from __future__ import annotations

from dataclasses import replace

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.kept import Change, KeepModule, KeepTask
from fogbank.relay.job.held.messages import Hold, Resume
from fogbank.relay.job.held.records import AnyRecord, EndRecord, SessionRecord, TaskRecord
from fogbank.relay.job.held.restored import Restored
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.limits import Budget
from fogbank.relay.job.messages import Hello, Holding, Offer, ResultHead
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.sandbox.data import Data
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task
from tests.relay.test_job_sessions import ANNOUNCED, LIMITS, MODULE, OFFER, head

TICKET = b"t" * 32
KEY = b"k" * 32
HOLDING = replace(OFFER, holding=Holding(86400, 1 << 20, 4))
DISK = 8 << 20
HOLD = frame(Hold(TICKET, KEY))
DURABLE = frame(Hold(TICKET, KEY, durable=True))
RESUME = frame(Resume(TICKET))


class Worker:
    """A worker that holds one session at most, and does what it is told."""

    def __init__(self) -> None:
        self.memory = Budget(LIMITS.held)
        self.disk = Budget(DISK)
        self.work: HeldWork | None = None
        self.session: WorkerSession | None = None
        self.journal: list[AnyRecord] = []
        self.sealed: dict[int, bytes] = {}
        self.inputs: dict[int, Task] = {}

    # What a session asks of its holder.

    def hold(self, hold: Hold, offer: Offer) -> HeldWork | None:
        if self.work is not None and not self.work.is_over:
            raise ProtocolError("a ticket that is known already")
        self.work = HeldWork(hold, offer, self.memory, self.disk)
        self.journal = [SessionRecord(hold.key)]
        return self.work

    def resume(self, ticket: bytes) -> HeldWork | None:
        if self.work is None or self.work.is_over or ticket != TICKET:
            return None
        if self.session is not None:
            self.session.hand_over()
        return self.work

    # Streams.

    def open(self) -> WorkerSession:
        """A new stream, greeted; whatever the one before it was."""
        session = WorkerSession(HOLDING, LIMITS, self.memory, 0.0, holder=self)
        session.receive(frame(Hello()), 0.0)
        session.data_to_send()
        return session

    def hear(self, session: WorkerSession, data: bytes) -> None:
        """Hear what a client says; the session is this stream's from its hold or resumption on."""
        session.receive(data, 1.0)
        if isinstance(session.work, HeldWork) and session.work is self.work:
            self.session = session

    # The disk.

    def store(self, *, fails: bool = False) -> list[Change]:
        """Put on the disk what is to be there, or do not."""
        if self.work is None:
            return []
        changes = self.work.take_changes()
        if fails:
            self.work.not_stored(changes, "the disk is full")
            return changes
        for change in changes:
            match change:
                case KeepModule():
                    self.journal.append(change.record)
                case KeepTask():
                    self.journal.append(TaskRecord(change.head))
                    self.inputs[change.head.id] = change.task
                case _:
                    self.journal.append(change)
        self.work.stored(changes)
        return changes

    def seal(self, end: ResultHead) -> Data:
        """Put a sealed output on the disk."""
        size = sealed_size(end.stdout + end.stderr)
        self.journal.append(EndRecord(replace(end, sealed=Sealed(size))))
        self.sealed[end.task] = bytes(size)
        return self.sealed[end.task]

    def restored(self) -> Restored:
        """What is on the disk."""
        state = Restored()
        for record in self.journal:
            state.take(state.size + 1, record)
        return state

    def die(self) -> None:
        """End by force, and begin anew with what is on the disk."""
        state = self.restored()
        if self.work is not None:
            self.work.close()
        if self.session is not None:
            self.session.close()
        self.work = self.session = None
        assert self.memory.left == LIMITS.held
        assert self.disk.left == DISK
        if state.module is not None:
            self.work = HeldWork(Hold(TICKET, KEY, durable=True), HOLDING, self.memory, self.disk)
            known = {task: self.sealed[task] for task, end in state.ended.items() if end.sealed}
            self.work.restore(state, dict(known), len(MODULE))

    # Working.

    def load(self) -> None:
        """Have the module ready, from memory or the disk."""
        work = self.work
        assert work is not None
        if work.module is None:
            work.reload(MODULE)
        work.load_module()
        work.accept_module(1.0)

    def start(self) -> int | None:
        """Start the next task, if there is one, and return its id."""
        work = self.work
        entry = None if work is None else work.start_task(1.0)
        if entry is not None and entry.task is None:
            entry.task = self.inputs[entry.id]
        return None if entry is None else entry.id

    def finish(self, output: bytes, outcome: Outcome = Outcome.COMPLETED) -> None:
        """End the running task as the shell does."""
        work = self.work
        assert work is not None
        entry = work._running
        assert entry is not None
        result = Result(outcome, 0, 5, output)
        if work.fits(result):
            work.finish_task(result, 1.0)
            return
        end = work.end_of(entry, result)
        if work.take_room(len(output)):
            work.finish_sealed(end, self.seal(end), 1.0)
        else:
            work.finish_task(Result(Outcome.HOST_FAILURE), 1.0)


def held_in(phase: Phase, *, durable: bool = True) -> tuple[Worker, WorkerSession]:
    """A worker and the stream of a held session in `phase`; from WAITING on with task 1 there.

    Task 1 runs in OPEN; in PARKED it has ended, and its client has come back.
    """
    worker = Worker()
    session = worker.open()
    worker.hear(session, DURABLE if durable else HOLD)
    if phase >= Phase.WAITING:
        worker.hear(session, frame(ANNOUNCED) + MODULE + frame(head(1)))
        worker.store()
    if phase is Phase.LOADING:
        assert worker.work is not None
        worker.work.load_module()
    if phase >= Phase.OPEN:
        worker.load()
        worker.start()
    if phase is Phase.PARKED:
        worker.finish(b"out")
        session.close()
        assert worker.work is not None
        worker.store()
        worker.work.park()
        session = worker.open()
        worker.hear(session, RESUME)
    session.data_to_send()
    assert session.phase is phase
    return worker, session
