"""A held session at its worker: every message in every state, and any order of anything at all.

The second half knows what was promised: what a client was told is queued durably, or done, is there
until it is settled, over broken streams, failing disks and ends by force.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.kept import KeepTask
from fogbank.relay.job.held.messages import Ack, Resume, Resumed
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import (
    Cancel,
    Grant,
    ModuleHead,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.work import Work
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.sandbox.outcome import Outcome
from tests.relay.held_fakes import DISK, DURABLE, HOLD, RESUME, Worker, held_in
from tests.relay.test_job_sessions import ANNOUNCED, LIMITS, MODULE, head, heard
from tests.relay.test_job_states import MESSAGES

_WORKS: set[type] = {TaskHead, Cancel, Grant, Ack, Pad}
TAKES: dict[Phase, set[type]] = {
    Phase.GREETED: {ModuleHead, Pad},
    Phase.WAITING: _WORKS,
    Phase.LOADING: _WORKS,
    Phase.OPEN: _WORKS,
    # Its one task has ended: a grant for it comes too late, and is nothing.
    Phase.PARKED: _WORKS,
}


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("phase", TAKES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_held_session_takes_its_messages_or_loses_its_stream_alone(
    name: str, phase: Phase, durable: bool
) -> None:
    worker, session = held_in(phase, durable=durable)
    work = worker.work
    assert work is not None
    known = set(work.ended) | {entry.id for entry in work._waiting}
    if name in {kind.__name__ for kind in TAKES[phase]}:
        session.receive(MESSAGES[name], 1.0)
        assert not session.is_over
        return
    with pytest.raises(ProtocolError):
        session.receive(MESSAGES[name], 1.0)
    assert session.is_over
    assert not work.is_attached
    assert work.is_over == (phase is Phase.GREETED), "more ended than the stream"
    assert known <= set(work.ended) | {entry.id for entry in work._waiting}
    for data in MESSAGES.values():
        with pytest.raises(ProtocolError):
            session.receive(data, 2.0)
    assert session.data_to_send() == []


@pytest.mark.parametrize("phase", TAKES)
def test_the_end_of_a_session_is_taken_in_each_phase_that_has_one(phase: Phase) -> None:
    worker, session = held_in(phase)
    session.receive(frame(Cancel(0)), 1.0)
    assert session.is_over
    assert session.is_forgotten
    assert worker.memory.left == LIMITS.held
    assert worker.disk.left == DISK


@pytest.mark.parametrize("message", [HOLD, RESUME, frame(Cancel(0)), frame(Ack(1))])
def test_a_session_is_held_or_resumed_at_its_beginning_only(message: bytes) -> None:
    session = Worker().open()
    session.receive(frame(ANNOUNCED) + MODULE + frame(head(1)), 0.0)
    with pytest.raises(ProtocolError):
        session.receive(message, 0.0)


def test_a_ticket_is_new_or_known() -> None:
    worker, _ = held_in(Phase.OPEN)
    with pytest.raises(ProtocolError):
        worker.hear(worker.open(), HOLD)
    stranger = worker.open()
    worker.hear(stranger, frame(Resume(b"s" * 32)))
    [(refused, _)] = heard(stranger.data_to_send())
    assert refused.cause is Cause.UNKNOWN


class AnythingHeld(RuleBasedStateMachine):
    """A held session, clients that come and go, a disk that may fail, a worker that may die."""

    polite = False

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker()
        self.stream: WorkerSession | None = None
        self.is_durable = False
        self.sent = 0
        self.promised: set[int] = set()
        self.refused: set[int] = set()
        self.told: set[int] = set()
        self.done: set[int] = set()

    @initialize(durable=st.booleans(), tasks=st.integers(0, 3), polite=st.booleans())
    def begin(self, durable: bool, tasks: int, polite: bool) -> None:
        """A polite client breaks no rule and stays, and so gets further."""
        self.polite = polite
        self.a_client_comes(durable)
        for _ in range(tasks):
            self.a_task(9, whole=True)
        self.the_disk(fails=False)
        self.the_module_is_ready()

    # The client.

    @precondition(lambda self: self.stream is None)
    @rule(durable=st.booleans())
    def a_client_comes(self, durable: bool) -> None:
        self.stream = self.worker.open()
        self.told = set()
        if self.worker.work is None or self.worker.work.is_over:
            self.is_durable = durable
            self.sent = 0
            self.promised.clear()
            self.refused.clear()
            self.done.clear()
            self.hear((DURABLE if durable else HOLD) + frame(ANNOUNCED) + MODULE)
        else:
            self.hear(RESUME)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def a_second_stream_takes_over(self) -> None:
        before, self.stream = self.stream, self.worker.open()
        self.told = set()
        self.hear(RESUME)
        assert before is not None
        assert before.is_over or self.worker.work is None
        before.close()

    @precondition(lambda self: self.stream is not None)
    @rule()
    def it_goes(self) -> None:
        assert self.stream is not None
        self.listen()
        self.stream.close()
        self.stream = None

    @rule(size=st.integers(0, 50), whole=st.booleans())
    def a_task(self, size: int, whole: bool) -> None:
        self.sent += 1
        self.hear((frame(head(self.sent, size)) + bytes(size))[: None if whole else -1])

    @rule(which=st.integers(0, 3))
    def an_acknowledgement(self, which: int) -> None:
        work = self.worker.work
        if work is not None and work.ended and self.stream is not None:
            task = sorted(work.ended)[which % len(work.ended)]
            self.promised.discard(task)
            self.done.discard(task)
            self.hear(frame(Ack(task)))

    @rule(task=st.integers(1, 9))
    def a_cancel(self, task: int) -> None:
        if task <= self.sent:
            self.hear(frame(Cancel(task)))

    @rule(task=st.integers(1, 9), fuel=st.sampled_from([600, 1000]))
    def a_grant(self, task: int, fuel: int) -> None:
        if task <= self.sent:
            self.hear(frame(Grant(task, fuel)))

    @precondition(lambda self: not self.polite)
    @rule(data=st.binary(min_size=1, max_size=9) | st.sampled_from(sorted(MESSAGES.values())))
    def anything(self, data: bytes) -> None:
        self.hear(data)

    @precondition(lambda self: not self.polite)
    @rule()
    def the_end_for_good(self) -> None:
        if self.stream is not None:
            self.promised.clear()
            self.hear(frame(Cancel(0)))

    def hear(self, data: bytes) -> None:
        if self.stream is None:
            return
        try:
            self.worker.hear(self.stream, data)
        except ProtocolError:
            self.stream.data_to_send()
        else:
            self.listen()
        if self.stream.is_over:
            self.stream.close()
            self.stream = None

    def listen(self) -> None:
        """Hear what the worker says, and remember what was promised."""
        if self.stream is None:
            return
        for message, _ in heard(self.stream.data_to_send()):
            match message:
                case TaskState(task=int(task), state=State.QUEUED) if task and self.is_durable:
                    self.promised.add(task)
                case ResultHead(task=task):
                    assert task not in self.told, "a result came twice over one stream"
                    assert task not in self.refused
                    self.told.add(task)
                case Refused(task=int(task)):
                    self.refused.add(task)
                    self.promised.discard(task)
                case Refused():
                    self.promised.clear()
                case Resumed(tasks=tasks):
                    there = {number for number, _ in tasks}
                    assert self.promised <= there, "what was promised is lost"

    # The worker.

    @rule(fails=st.booleans())
    def the_disk(self, fails: bool) -> None:
        changes = self.worker.store(fails=fails)
        if fails and self.worker.work is not None and not self.worker.work.is_attached:
            # Nobody could be told that they were refused; none of them was said to be queued.
            kept = {change.head.id for change in changes if isinstance(change, KeepTask)}
            self.refused |= kept - self.known()
        work = self.worker.work
        if not fails and work is not None and work.is_durable:
            self.done |= {task for task, end in work.ended.items() if end.output is None}
        self.listen()

    def ready(self) -> Work | None:
        work = self.worker.work
        return work if work is not None and work.has_module and not work.is_over else None

    @rule()
    def the_module_is_ready(self) -> None:
        work = self.ready()
        if work is not None and work.place.name in {"QUEUED", "PARKED"}:
            self.worker.load()
            self.listen()

    @rule()
    def a_task_starts(self) -> None:
        self.worker.start()
        self.listen()

    @rule(fuel=st.sampled_from([0, 500, 600, 1000]), now=st.floats(1, 99))
    def the_task_gets_on(self, fuel: int, now: float) -> None:
        work = self.ready()
        if work is not None:
            work.tell_progress(fuel, now)
            work.tell_pause(fuel, now)
            self.listen()

    @rule(size=st.sampled_from([0, 7, (1 << 20) + 1]), outcome=st.sampled_from(Outcome))
    def the_task_ends(self, size: int, outcome: Outcome) -> None:
        work = self.ready()
        if work is not None and work.is_running:
            self.worker.finish(bytes(size), outcome)
            self.listen()

    @rule()
    def the_worker_stops_the_task(self) -> None:
        work = self.ready()
        if work is not None and work.is_running:
            running = work._running
            assert running is not None
            if not running.stored:
                self.refused.add(running.id)
                self.promised.discard(running.id)
            work.put_back(1.0)
            self.listen()

    @rule()
    def it_is_sealed(self) -> None:
        work = self.worker.work
        if work is None or work.is_attached or work.is_over:
            return
        for _, ended in work.unsealed():
            if work.take_room(ended.head.stdout + ended.head.stderr):
                work.seal(ended.head.task, self.worker.seal(ended.head))

    @rule()
    def its_place_is_given_back(self) -> None:
        work = self.worker.work
        if work is not None and work.is_idle and work.has_module:
            work.park()

    @rule()
    def the_worker_dies(self) -> None:
        if self.stream is not None:
            self.listen()
            self.stream.hand_over()
            self.stream = None
        self.worker.session = None
        self.worker.die()
        work = self.worker.work
        if work is None or not self.is_durable:
            self.promised.clear()
        assert work is None or self.done <= set(work.ended), "what had ended is run again"
        self.done &= set() if work is None else set(work.ended)

    def known(self) -> set[int]:
        work = self.worker.work
        if work is None:
            return set()
        running = set() if work._running is None else {work._running.id}
        return set(work.ended) | {entry.id for entry in work._waiting} | running

    @invariant()
    def what_was_promised_is_there(self) -> None:
        assert self.promised <= self.known()

    @invariant()
    def what_it_holds_is_bounded(self) -> None:
        assert self.worker.memory.left <= LIMITS.held
        assert self.worker.disk.left <= DISK
        work = self.worker.work
        if work is None or work.is_over:
            assert self.worker.disk.left == DISK
            return
        entries = [*work._waiting, *([work._running] if work._running else [])]
        stored = sum(entry.stored for entry in entries)
        stored += sum(ended.stored for ended in work.ended.values())
        arrives = self.stream is not None and self.stream._arriving is not None
        assert arrives or not work._arriving
        stored += 0 if work.part is None else work.part.stored
        assert DISK - self.worker.disk.left == stored + work._module_stored + work._arriving

    def teardown(self) -> None:
        if self.stream is not None:
            self.stream.close()
        if self.worker.work is not None:
            self.worker.work.close()
        assert self.worker.memory.left == LIMITS.held
        assert self.worker.disk.left == DISK


AnythingHeld.TestCase.settings = settings(
    max_examples=250, stateful_step_count=40, deadline=None, derandomize=True
)
TestAnythingHeld = AnythingHeld.TestCase
