"""A job's session at either side: every message of the codec in every state (spec/08 §3, §6).

What `test_job_sessions.py` lists by hand is here taken from the codec's own unions, so a message
that is added to them and has no example fails. After a breach a side is closed and stays so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.client_session import ClientSession, TaskDone
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.kinds import Kind, ModulePlace, State
from fogbank.relay.job.limits import Budget
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    FromClient,
    FromWorker,
    Grant,
    Hello,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.sandbox.data import Data
from fogbank.sandbox.outcome import Outcome, Result
from tests.relay.test_job_sessions import (
    ANNOUNCED,
    LIMITS,
    MODULE,
    OFFER,
    SENT,
    STAGES,
    client_in,
    head,
    heard,
    result_head,
    worker_in,
)

EXAMPLES: dict[type, bytes] = {
    Hello: frame(Hello()),
    ModuleHead: frame(ANNOUNCED) + MODULE,
    TaskHead: frame(head(2)),
    Cancel: frame(Cancel(1)),
    Grant: frame(Grant(1, 900)),
    Offer: frame(OFFER),
    Accepted: frame(Accepted()),
    Refused: frame(Refused(Cause.BUSY, "full")),
    TaskState: frame(TaskState(1, State.QUEUED)),
    ResultHead: frame(result_head(1, stdout=8, fuel=500)) + bytes(8),
    Hold: frame(Hold(b"t" * 32, b"k" * 32)),
    Resume: frame(Resume(b"t" * 32)),
    Resumed: frame(Resumed(ModulePlace.PARKED)),
    Ack: frame(Ack(1)),
    Pad: frame(Pad(3)) + bytes(3),
}
UNKNOWN = {
    f"kind {number}": len(body).to_bytes(4, "big") + body
    for number in (0, 11, max(Kind) + 1, 255)
    for body in [encode({0: number})]
}
MESSAGES = {kind.__name__: data for kind, data in EXAMPLES.items()} | UNKNOWN
WORKER_TAKES: dict[Phase, set[type]] = {
    Phase.OPENED: {Hello},
    Phase.GREETED: {ModuleHead, Pad},
    Phase.WAITING: {TaskHead, Cancel, Grant, Pad},
    Phase.LOADING: {TaskHead, Cancel, Grant, Pad},
    Phase.OPEN: {TaskHead, Cancel, Grant, Pad},
    Phase.OVER: set(),
}
CLIENT_TAKES: dict[str, set[type]] = {
    "opened": {Offer, Refused},
    "offered": {Refused, Pad},
    "submitted": {Accepted, Refused, TaskState, Pad},
    "accepted": {Refused, TaskState, Pad},
    "queued": {Refused, TaskState, Pad},
    "running": {Refused, ResultHead, Pad},
    "paused": {Refused, ResultHead, Pad},
}
PHASES = [phase for phase in Phase if phase not in {Phase.PARKED, Phase.OVER}]
"""Those of a session that is not held; `test_held_states.py` has the others."""


def test_every_message_has_an_example() -> None:
    of_either = {*get_args(FromClient), *get_args(FromWorker)}
    assert set(EXAMPLES) == of_either
    assert len(of_either) == len(Kind)
    assert set(WORKER_TAKES) == {*PHASES, Phase.OVER}
    assert tuple(CLIENT_TAKES) == STAGES
    assert set(STAGES) > SENT


def every_act(session: WorkerSession) -> None:
    """Do all that a shell may still do with a session."""
    session.work.queue_module("full")
    session.work.load_module()
    session.work.accept_module(2.0)
    assert session.work.start_task(0.0) is None
    session.work.tell_progress(5, 2.0)
    session.work.tell_pause(500, 2.0)
    session.work.finish_task(Result(Outcome.COMPLETED, 0), 2.0)
    session.work.refuse_task(Cause.TASK, "no", 2.0)
    session.refuse(Cause.SILENT, "no")
    session.deadline()
    session.close()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_worker_takes_its_messages_or_is_closed_for_good(name: str, phase: Phase) -> None:
    budget = Budget(LIMITS.held)
    session = worker_in(phase, budget)
    if name in {kind.__name__ for kind in WORKER_TAKES[phase]}:
        session.receive(MESSAGES[name], 1.0)
        assert not session.is_over
        return
    with pytest.raises(ProtocolError):
        session.receive(MESSAGES[name], 1.0)
    assert session.is_over
    assert budget.left == LIMITS.held, "what it held was not given back"
    every_act(session)
    for data in MESSAGES.values():
        session = worker_in(phase)
        for late in (MESSAGES[name], data):
            with pytest.raises(ProtocolError):
                session.receive(late, 2.0)
        assert session.data_to_send() == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_client_takes_its_messages_or_takes_nothing_more(name: str, stage: str) -> None:
    session = client_in(stage)
    if name in {kind.__name__ for kind in CLIENT_TAKES[stage]}:
        assert bool(session.receive(MESSAGES[name], 1.0)) == (name != "Pad")
        return
    unanswered = session.unanswered
    for data in MESSAGES.values():
        session = client_in(stage)
        for late in (MESSAGES[name], data):
            with pytest.raises(ProtocolError):
                session.receive(late, 2.0)
        assert session.unanswered == unanswered, "a task was answered after the breach"


class AnythingAtASession(RuleBasedStateMachine):
    """A worker's session, a client that says what it likes, and a shell that goes on regardless."""

    polite = False

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(LIMITS.held)
        self.session = WorkerSession(OFFER, LIMITS, self.budget, 0.0)
        self.said: list[Data] = []
        self.breached = False

    @initialize(phase=st.sampled_from(PHASES), polite=st.booleans())
    def begin(self, phase: Phase, polite: bool) -> None:
        """A polite client breaks no rule but that of ids, and so lives longer."""
        self.session = worker_in(phase, self.budget)
        self.polite = polite

    @precondition(lambda self: not self.polite)
    @rule(name=st.sampled_from(sorted(MESSAGES)))
    def a_message(self, name: str) -> None:
        self.hear(MESSAGES[name])

    @rule(number=st.integers(1, 6), size=st.integers(0, 60))
    def a_task(self, number: int, size: int) -> None:
        self.hear(frame(head(number, size)) + bytes(size))

    @precondition(lambda self: not self.polite)
    @rule(number=st.integers(2, 6))
    def the_last_task(self, number: int) -> None:
        self.hear(frame(replace(head(number), is_last=True)))

    @precondition(lambda self: not self.polite)
    @rule(number=st.integers(1, 6), fuel=st.sampled_from([500, 600, 1000, 1001]))
    def a_grant(self, number: int, fuel: int) -> None:
        self.hear(frame(Grant(number, fuel)))

    @precondition(lambda self: not self.polite)
    @rule(data=st.binary(max_size=12))
    def bytes_of_any_kind(self, data: bytes) -> None:
        self.hear(data)

    def hear(self, data: bytes) -> None:
        try:
            self.session.receive(data, 1.0)
        except ProtocolError:
            self.session.data_to_send()
            self.breached = True

    @precondition(lambda self: self.session.phase is Phase.WAITING)
    @rule()
    def the_module_loads(self) -> None:
        self.session.work.load_module()

    @precondition(lambda self: self.session.phase is Phase.LOADING)
    @rule()
    def the_module_is_ready(self) -> None:
        self.session.work.accept_module(1.0)

    @rule()
    def a_task_starts(self) -> None:
        self.session.work.start_task(0.0)

    @rule(fuel=st.integers(0, 1000), now=st.floats(1, 9))
    def the_task_gets_on(self, fuel: int, now: float) -> None:
        self.session.work.tell_progress(fuel, now)

    @rule(fuel=st.sampled_from([500, 600, 1000]))
    def the_task_pauses(self, fuel: int) -> None:
        self.session.work.tell_pause(fuel, 1.0)

    @rule(outcome=st.sampled_from(Outcome))
    def the_task_ends(self, outcome: Outcome) -> None:
        self.session.work.finish_task(Result(outcome, 0, 5), 1.0)

    @rule()
    def it_is_refused(self) -> None:
        self.session.refuse(Cause.SILENT, "nothing came")

    @invariant()
    def the_end_is_the_end(self) -> None:
        new = self.session.data_to_send()
        assert not (self.breached and new), "it speaks after a breach"
        self.said += new
        assert 0 <= self.budget.left <= LIMITS.held
        assert not self.session.work.is_done or self.session.work.has_all
        if self.session.is_over:
            assert self.budget.left == LIMITS.held

    @invariant()
    def no_task_is_answered_twice(self) -> None:
        said: list[Any] = [message for message, _ in heard(self.said)]
        ends = [one.task for one in said if isinstance(one, ResultHead | Refused)]
        assert len(set(ends)) == len(ends)

    def teardown(self) -> None:
        self.session.close()
        assert self.budget.left == LIMITS.held


AnythingAtASession.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, derandomize=True
)
TestAnythingAtASession = AnythingAtASession.TestCase


class AnythingAtAClient(RuleBasedStateMachine):
    """A client's session, and a worker that says what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[int] = []
        self.breached = False
        self.session: ClientSession

    @initialize(stage=st.sampled_from(STAGES))
    def begin(self, stage: str) -> None:
        self.session = client_in(stage)

    def hear(self, data: bytes) -> None:
        try:
            events = self.session.receive(data, 1.0)
        except ProtocolError:
            self.breached = True
            return
        assert not (self.breached and data), "it listens after a breach"
        self.answered += [event.task for event in events if isinstance(event, TaskDone)]

    @rule(name=st.sampled_from(sorted(MESSAGES)))
    def a_message(self, name: str) -> None:
        self.hear(MESSAGES[name])

    @rule(
        number=st.integers(0, 3),
        state=st.sampled_from(State),
        fuel=st.none() | st.sampled_from([0, 64, 500, 600, 1000, 1001]),
    )
    def a_state(self, number: int, state: State, fuel: int | None) -> None:
        self.hear(frame(TaskState(number, state, fuel=fuel)))

    @rule(number=st.integers(1, 3), fuel=st.sampled_from([400, 600, 1000, 2000]))
    def a_task_is_granted_more(self, number: int, fuel: int) -> None:
        self.session.grant(number, fuel)

    @rule(number=st.integers(1, 3), size=st.integers(0, 9), fuel=st.sampled_from([0, 1000, 1001]))
    def a_result(self, number: int, size: int, fuel: int) -> None:
        self.hear(frame(result_head(number, stdout=size, fuel=fuel)) + bytes(size))

    @rule(data=st.binary(max_size=12))
    def bytes_of_any_kind(self, data: bytes) -> None:
        self.hear(data)

    @rule(task=st.integers(1, 3))
    def a_task_is_cancelled(self, task: int) -> None:
        self.session.cancel(task)

    @invariant()
    def each_task_is_answered_once_at_most(self) -> None:
        assert len(set(self.answered)) == len(self.answered)
        assert not set(self.answered) & set(self.session.unanswered)
        self.session.deadline()


AnythingAtAClient.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, derandomize=True
)
TestAnythingAtAClient = AnythingAtAClient.TestCase
