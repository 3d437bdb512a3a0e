"""Both state machines of a job's session (spec/08 §3, §6): every message in every state."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.events import CancelRunning, GrantRunning, ModuleArrived, TaskArrived
from fogbank.relay.job.frames import Blobs, Frames, frame, portions
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import TASK_OVERHEAD, Budget, JobLimits, Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Grant,
    Hello,
    Load,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.sandbox.data import Data, whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import REFUSALS, Outcome, Result
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task

MODULE = b"\0asm of a test"
SMALL = Limits(fuel=1000, memory=65536, wall_seconds=2.0, output=8)
RUNTIME = RuntimeId(b"r" * 32)
OFFER = Offer(
    "engine", Limits(10_000, 1 << 20, 10.0, 64), 100, 50, 3, Load(1, 0, 0), (RUNTIME.digest,)
)
LIMITS = JobLimits(held=1 << 20)
ANNOUNCED = ModuleHead(hashlib.sha256(MODULE).digest(), len(MODULE))
NAMED = ModuleHead(RUNTIME.digest, 0)


GRANTED = 500
"""What tasks are granted of their 1000 of fuel at first."""


def head(number: int, stdin: int = 0, limits: Limits = SMALL) -> TaskHead:
    return TaskHead(number, ("program",), (), (), stdin, limits, bytes(32), GRANTED)


def result_head(number: int, **changes: Any) -> ResultHead:
    return replace(ResultHead(number, Outcome.COMPLETED, 0, 10, 3, 0, 0, ""), **changes)


def heard(parts: Sequence[Data]) -> list[tuple[Any, tuple[Data, ...]]]:
    """What a worker said: its messages, but for padding, and their attachments."""
    frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
    said = b"".join(map(whole, parts))
    return [
        (message, blobs.take() if blobs else ())
        for message, blobs in frames.feed(said)
        if not isinstance(message, Pad)
    ]


# The worker's side.


def worker_in(phase: Phase, budget: Budget | None = None) -> WorkerSession:
    """A worker's session in `phase`; from WAITING on, with task 1 there, which runs in OPEN."""
    session = WorkerSession(OFFER, LIMITS, budget or Budget(LIMITS.held), 0.0)
    if phase >= Phase.GREETED:
        session.receive(frame(Hello()), 0.0)
    if phase >= Phase.WAITING:
        session.receive(frame(ANNOUNCED) + MODULE + frame(head(1)), 0.0)
    if phase >= Phase.LOADING:
        session.work.load_module()
    if phase >= Phase.OPEN:
        session.work.accept_module(0.0)
        session.work.start_task(0.0)
    session.data_to_send()
    assert session.phase is phase
    return session


FROM_CLIENT: dict[str, tuple[bytes, set[Phase]]] = {
    "hello": (frame(Hello()), {Phase.OPENED}),
    "module": (frame(ANNOUNCED) + MODULE, {Phase.GREETED}),
    "module by runtime": (frame(NAMED), {Phase.GREETED}),
    "task": (frame(head(2)), {Phase.WAITING, Phase.LOADING, Phase.OPEN}),
    "cancel": (frame(Cancel(1)), {Phase.WAITING, Phase.LOADING, Phase.OPEN}),
    "grant": (frame(Grant(1, GRANTED + 1)), {Phase.WAITING, Phase.LOADING, Phase.OPEN}),
    "a grant of all": (frame(Grant(1, 1000)), {Phase.WAITING, Phase.LOADING, Phase.OPEN}),
    "a grant that does not grow": (frame(Grant(1, GRANTED)), set()),
    "a grant over the limit": (frame(Grant(1, 1001)), set()),
    "an unknown grant": (frame(Grant(2, 600)), set()),
    "an id that does not grow": (frame(head(1)), set()),
    "an unknown cancel": (frame(Cancel(2)), set()),
    "another module's hash": (frame(ANNOUNCED) + b"x" * len(MODULE), set()),
    "a worker's word": (frame(Accepted()), set()),
}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase <= Phase.OPEN])
@pytest.mark.parametrize("name", FROM_CLIENT)
def test_a_worker_takes_each_message_in_its_phases_only(name: str, phase: Phase) -> None:
    data, allowed = FROM_CLIENT[name]
    session = worker_in(phase)
    if phase in allowed:
        session.receive(data, 1.0)
        assert not session.is_over
    else:
        with pytest.raises(ProtocolError):
            session.receive(data, 1.0)


def test_a_worker_offers_and_takes_a_module() -> None:
    session = worker_in(Phase.OPENED)
    assert session.receive(frame(Hello()), 0.0) == []
    assert heard(session.data_to_send()) == [(OFFER, ())]
    assert session.receive(frame(ANNOUNCED) + MODULE, 0.0) == [ModuleArrived(MODULE)]


def test_a_worker_takes_a_runtime_that_it_offers_and_holds_nothing_for_it() -> None:
    budget = Budget(0)
    session = worker_in(Phase.GREETED, budget)
    assert session.receive(frame(NAMED), 0.0) == [ModuleArrived(RUNTIME)]
    session.work.load_module()
    session.work.accept_module(0.0)
    assert session.phase is Phase.OPEN


def test_a_runtime_that_is_not_offered_is_refused_at_once() -> None:
    session = worker_in(Phase.GREETED)
    assert session.receive(frame(ModuleHead(b"s" * 32, 0)) + frame(head(1)), 0.0) == []
    assert session.is_over
    ((refused, _),) = heard(session.data_to_send())
    assert (refused.cause, refused.outcome) == (Cause.MODULE, Outcome.UNKNOWN_RUNTIME)


def test_tasks_wait_in_order_and_run_one_at_a_time() -> None:
    session = worker_in(Phase.WAITING)
    assert session.work.start_task(0.0) is None
    assert session.receive(frame(head(2, 3)) + b"abc", 0.0) == [TaskArrived()]
    session.work.load_module()
    session.work.accept_module(0.0)
    first = session.work.start_task(0.0)
    assert first is not None
    assert (first.task, first.granted) == (Task(limits=SMALL), GRANTED)
    assert session.work.start_task(0.0) is None
    session.work.finish_task(Result(Outcome.COMPLETED, 300, 5, b"out", b"err", seconds=0.003), 1.0)
    second = session.work.start_task(0.0)
    assert second is not None
    assert second.task is not None
    assert second.task.stdin == b"abc"
    said = heard(session.data_to_send())
    queued = TaskState(2, State.QUEUED, "the module is not ready yet")
    result = result_head(1, exit_code=44, fuel=5, run_time=2, stdout=3, stderr=3)
    assert said == [
        (queued, ()),
        (Accepted(), ()),
        (TaskState(1, State.RUNNING, fuel=0), ()),
        (result, (b"out", b"err")),
        (TaskState(2, State.RUNNING, fuel=0), ()),
    ]


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.COMPLETED])
def test_an_exit_code_is_told_of_completed_tasks_only(outcome: Outcome) -> None:
    session = worker_in(Phase.OPEN)
    session.work.finish_task(Result(outcome, 1, 5000), 1.0)
    [(message, _)] = heard(session.data_to_send())
    assert (message.outcome, message.exit_code, message.fuel) == (outcome, None, GRANTED)


def test_cancelling_a_waiting_a_running_and_an_answered_task() -> None:
    session = worker_in(Phase.OPEN)
    session.receive(frame(head(2)), 0.0)
    session.data_to_send()
    assert session.receive(frame(Cancel(2)), 0.0) == []
    [(message, _)] = heard(session.data_to_send())
    assert (message.task, message.outcome) == (2, Outcome.CANCELLED)
    assert session.receive(frame(Cancel(1)), 0.0) == [CancelRunning()]
    session.work.finish_task(Result(Outcome.CANCELLED), 0.0)
    session.data_to_send()
    assert session.receive(frame(Cancel(1)) + frame(Cancel(2)), 0.0) == []
    assert session.data_to_send() == []
    assert session.work.start_task(0.0) is None


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (head(2, limits=replace(SMALL, fuel=10_001)), Cause.LIMITS),
        (head(2, stdin=51), Cause.LIMITS),
        (replace(head(2), files=(("../up", 1),)), Cause.TASK),
        (replace(head(2), env=(("A=B", ""),)), Cause.TASK),
    ],
)
def test_a_task_that_asks_for_too_much_is_refused_alone(message: TaskHead, cause: Cause) -> None:
    session = worker_in(Phase.OPEN)
    data = frame(message) + bytes(message.input_size) + frame(head(3))
    assert session.receive(data, 0.0) == [TaskArrived()]
    said = [message for message, _ in heard(session.data_to_send())]
    assert [(one.task, type(one)) for one in said] == [(2, Refused), (3, TaskState)]
    assert said[0].cause is cause
    assert said[0].reason


def test_a_session_holds_so_many_tasks_and_so_much_input() -> None:
    session = worker_in(Phase.OPEN)
    session.receive(frame(head(2, 30)) + bytes(30) + frame(head(3, 30)) + bytes(30), 0.0)
    session.receive(frame(head(4)) + frame(head(5)), 0.0)
    said = [message for message, _ in heard(session.data_to_send())]
    refused = [message.task for message in said if isinstance(message, Refused)]
    assert refused == [3, 5]


def test_a_worker_without_memory_refuses_and_gives_back_what_it_held() -> None:
    budget = Budget(len(MODULE) + 2 * TASK_OVERHEAD)
    session = worker_in(Phase.OPEN, budget)
    session.receive(frame(head(2)) + frame(head(3)), 0.0)
    said = [message for message, _ in heard(session.data_to_send())]
    assert [(one.task, one.cause) for one in said if isinstance(one, Refused)] == [(3, Cause.BUSY)]
    assert budget.left == 0
    session.work.finish_task(Result(Outcome.TRAP), 0.0)
    assert budget.left == TASK_OVERHEAD
    other = WorkerSession(OFFER, LIMITS, Budget(len(MODULE) - 1), 0.0)
    other.receive(frame(Hello()) + frame(ANNOUNCED), 0.0)
    assert heard(other.data_to_send())[1][0].cause is Cause.BUSY
    assert other.is_over
    session.close()
    session.close()
    assert budget.left == len(MODULE) + 2 * TASK_OVERHEAD


def test_an_unknown_version_and_a_large_module_end_the_session() -> None:
    session = worker_in(Phase.OPENED)
    session.receive(frame(Hello((1, 2))), 0.0)
    assert session.is_over
    assert heard(session.data_to_send())[0][0].cause is Cause.VERSION
    session = worker_in(Phase.GREETED)
    session.receive(frame(ModuleHead(bytes(32), 101)), 0.0)
    assert session.is_over
    assert heard(session.data_to_send())[0][0].cause is Cause.LIMITS


def test_a_worker_waits_for_silent_and_slow_clients_just_so_long() -> None:
    session = worker_in(Phase.OPENED)
    assert session.deadline() == LIMITS.idle_seconds
    hello = frame(Hello())
    session.receive(hello[:2], 5.0)
    slow = 5 + LIMITS.pace.seconds_for(65536)
    assert session.deadline() == slow
    session.receive(hello[2:3], 9.0)
    assert session.deadline() == slow
    session.receive(hello[3:], 10.0)
    assert session.deadline() == 10 + LIMITS.idle_seconds
    assert worker_in(Phase.WAITING).deadline() is None
    assert worker_in(Phase.LOADING).deadline() is None
    session = worker_in(Phase.OPEN)
    assert session.deadline() is None
    session.work.finish_task(Result(Outcome.TRAP), 20.0)
    assert session.deadline() == 20 + LIMITS.idle_seconds


def test_nothing_more_is_said_after_a_session_was_refused() -> None:
    session = worker_in(Phase.OPEN)
    session.refuse(Cause.SILENT, "nothing came")
    session.refuse(Cause.SILENT, "nothing came")
    session.work.finish_task(Result(Outcome.TRAP), 0.0)
    session.work.refuse_task(Cause.TASK, "", 0.0)
    session.work.queue_module("")
    session.work.load_module()
    session.work.accept_module(0.0)
    assert session.work.start_task(0.0) is None
    said = [message for message, _ in heard(session.data_to_send())]
    assert said == [Refused(Cause.SILENT, "nothing came")]


ids = st.integers(1, 5)
client_words = st.one_of(
    st.just(frame(Hello())),
    st.just(frame(ANNOUNCED) + MODULE),
    st.just(frame(NAMED)),
    st.builds(lambda n, size: frame(head(n, size)) + bytes(size), ids, st.integers(0, 60)),
    st.builds(lambda n: frame(Cancel(n)), ids),
    st.builds(lambda n, fuel: frame(Grant(n, fuel)), ids, st.integers(1, 1100)),
    st.binary(max_size=12),
)
results = st.builds(
    Result,
    st.sampled_from(Outcome),
    st.none() | st.integers(0, 2**32 - 1),
    st.integers(0, 5000),
    st.binary(max_size=4),
    st.binary(max_size=4),
    st.text(max_size=30),
    st.floats(0, 1e7),
)
shell_acts: st.SearchStrategy[Callable[[WorkerSession], object]] = st.one_of(
    st.just(lambda session: session.phase is Phase.WAITING and session.work.load_module()),
    st.just(lambda session: session.phase is Phase.LOADING and session.work.accept_module(1.0)),
    st.just(lambda session: session.work.start_task(0.0)),
    st.builds(lambda result: lambda session: session.work.finish_task(result, 1.0), results),
    st.builds(lambda fuel: lambda one: one.work.tell_progress(fuel, 1.0), st.integers(0, 999)),
    st.builds(lambda fuel: lambda one: one.work.tell_pause(fuel, 1.0), st.integers(0, 999)),
    st.builds(lambda text: lambda one: one.work.refuse_task(Cause.TASK, text, 1.0), st.text()),
    st.builds(lambda text: lambda session: session.refuse(Cause.BUSY, text), st.text()),
)


@settings(max_examples=300)
@given(st.lists(client_words | shell_acts, max_size=30), st.sampled_from(Phase))
def test_a_worker_survives_any_order_of_anything(acts: list[Any], phase: Phase) -> None:
    budget = Budget(LIMITS.held)
    session = worker_in(min(phase, Phase.OPEN), budget)
    said: list[Data] = []
    for act in acts:
        if callable(act):
            act(session)
        else:
            try:
                session.receive(act, 1.0)
            except ProtocolError:
                break
        said += session.data_to_send()
        session.deadline()
    session.close()
    heard(said)
    assert budget.left == LIMITS.held


# The client's side.

STAGES = ("opened", "offered", "submitted", "accepted", "queued", "running", "paused")


def client_in(stage: str) -> ClientSession:
    """A client's session at `stage`; from "submitted" on, tasks 1 and 2 were sent."""
    session = ClientSession(Patience(), 0.0)
    reached = STAGES.index(stage)
    if reached >= 1:
        session.receive(frame(OFFER), 0.0)
    if reached >= 2:
        session.send_module(MODULE)
        session.send_task(Task(limits=SMALL), GRANTED)
        session.send_task(Task(limits=SMALL), GRANTED)
        session.data_to_send()
        session.sent_all()
    if reached >= 3:
        session.receive(frame(Accepted()), 0.0)
    if reached >= 4:
        session.receive(frame(TaskState(1, State.QUEUED)), 0.0)
    if reached >= 5:
        session.receive(frame(TaskState(1, State.RUNNING, fuel=0)), 0.0)
    if reached >= 6:
        session.receive(frame(TaskState(1, State.PAUSED, fuel=GRANTED)), 0.0)
    return session


SENT = {"submitted", "accepted", "queued", "running", "paused"}
AT_WORK = {"running", "paused"}
BEGINS = {"accepted", "queued", "running"}
FROM_WORKER: dict[str, tuple[bytes, set[str]]] = {
    "offer": (frame(OFFER), {"opened"}),
    "an offer of another version": (frame(replace(OFFER, version=1)), set()),
    "accepted": (frame(Accepted()), {"submitted"}),
    "refused": (frame(Refused(Cause.BUSY, "full")), set(STAGES)),
    "module refused": (
        frame(Refused(Cause.MODULE, "", None, Outcome.INVALID_MODULE)),
        {"submitted"},
    ),
    "host failed": (frame(Refused(Cause.MODULE, "", None, Outcome.HOST_FAILURE)), SENT),
    "task refused": (frame(Refused(Cause.BUSY, "full", 1)), SENT),
    "unknown task refused": (frame(Refused(Cause.BUSY, "full", 3)), set()),
    "module queued": (frame(TaskState(0, State.QUEUED, "2 wait")), {"submitted"}),
    "module running": (frame(TaskState(0, State.RUNNING)), {"submitted"}),
    "task queued": (frame(TaskState(1, State.QUEUED)), SENT - AT_WORK),
    "task running": (frame(TaskState(1, State.RUNNING, fuel=0)), BEGINS),
    "task at work": (
        frame(TaskState(1, State.RUNNING, fuel=64)),
        BEGINS,
    ),
    "task paused": (frame(TaskState(1, State.PAUSED, fuel=GRANTED)), {"running"}),
    "task at work with more than granted": (
        frame(TaskState(1, State.RUNNING, fuel=GRANTED + 1)),
        set(),
    ),
    "task running without its fuel": (frame(TaskState(1, State.RUNNING)), set()),
    "task queued with fuel": (frame(TaskState(1, State.QUEUED, fuel=1)), set()),
    "module paused": (frame(TaskState(0, State.PAUSED)), set()),
    "a second task running": (frame(TaskState(2, State.RUNNING, fuel=0)), {"accepted", "queued"}),
    "unknown task running": (frame(TaskState(3, State.RUNNING, fuel=0)), set()),
    "result": (frame(result_head(1, stdout=8, fuel=GRANTED)) + bytes(8), AT_WORK),
    "result of less than was told": (
        frame(result_head(1, fuel=GRANTED - 1, stdout=0)),
        {"running"},
    ),
    "result of a task that waits": (frame(result_head(2)), set()),
    "result of an unknown task": (frame(result_head(3)), set()),
    "cancelled by itself": (
        frame(result_head(1, outcome=Outcome.CANCELLED, exit_code=None)),
        set(),
    ),
    "too much fuel": (frame(result_head(1, fuel=GRANTED + 1)), set()),
    "too much output": (frame(result_head(1, stdout=5, stderr=4)), set()),
    "a client's word": (frame(Cancel(1)), set()),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", FROM_WORKER)
def test_a_client_takes_each_message_at_its_stages_only(name: str, stage: str) -> None:
    data, allowed = FROM_WORKER[name]
    session = client_in(stage)
    if stage in allowed:
        assert session.receive(data, 1.0)
        assert not session.is_cut_off
    else:
        with pytest.raises(ProtocolError):
            session.receive(data, 1.0)


def test_a_client_names_a_runtime_that_is_offered_and_no_other() -> None:
    session = client_in("offered")
    with pytest.raises(JobRefused, match="Try another worker") as refusal:
        session.send_module(RuntimeId(b"s" * 32))
    assert refusal.value.cause is Cause.MODULE
    session.data_to_send()
    session.send_module(RUNTIME)
    assert session.data_to_send()[0] == frame(NAMED)
    assert session.receive(frame(Accepted()), 0.0) == [Accepted()]


def test_nothing_may_follow_a_refused_session() -> None:
    session = client_in("accepted")
    session.receive(frame(Refused(Cause.BUSY, "")), 0.0)
    with pytest.raises(ProtocolError):
        session.receive(frame(TaskState(1, State.QUEUED)), 0.0)


def test_a_module_does_not_go_back_to_the_queue() -> None:
    session = client_in("submitted")
    session.receive(frame(TaskState(0, State.RUNNING)), 0.0)
    with pytest.raises(ProtocolError):
        session.receive(frame(TaskState(0, State.QUEUED)), 0.0)


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.COMPLETED])
def test_each_outcome_of_a_task_arrives_as_itself(outcome: Outcome) -> None:
    session = client_in("running")
    session.cancel(1)
    told = result_head(1, outcome=outcome, exit_code=None, stdout=1, stderr=2, reason="why")
    events = session.receive(frame(told) + b"abb", 1.0)
    result = TaskResult(outcome, None, 10, 8, b"a", b"bb", "why")
    assert events == [TaskDone(1, result)]
    assert not result.succeeded


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
def test_each_refusal_of_a_module_is_its_tasks_outcome(outcome: Outcome) -> None:
    session = client_in("submitted")
    refused = Refused(Cause.MODULE, "why", None, outcome)
    result = TaskResult(outcome, reason="why")
    assert session.receive(frame(refused), 1.0) == [
        TaskDone(1, result),
        TaskDone(2, result),
        refused,
    ]
    assert session.verdict() == result


def test_a_refused_session_is_an_interruption_for_what_was_running() -> None:
    session = client_in("running")
    first, second, _ = session.receive(frame(Refused(Cause.SILENT, "slow")), 1.0)
    assert isinstance(first, TaskDone)
    assert isinstance(second, TaskDone)
    assert isinstance(first.answer, JobInterrupted)
    assert first.answer.running
    assert isinstance(second.answer, JobRefused)
    assert second.answer.cause is Cause.SILENT


@pytest.mark.parametrize(
    ("stage", "data", "progress"),
    [
        ("submitted", b"", Progress.SENT),
        ("accepted", b"", Progress.SENT),
        ("queued", b"", Progress.QUEUED),
        ("running", b"", Progress.RUNNING),
        ("running", frame(result_head(1)), None),
        ("running", frame(result_head(1, stdout=1)), Progress.ARRIVING),
    ],
)
def test_an_interruption_says_how_far_the_task_got(
    stage: str, data: bytes, progress: Progress | None
) -> None:
    session = client_in(stage)
    session.receive(data, 1.0)
    if progress is None:
        assert session.unanswered == (2,)
        return
    error = session.interruption(1, "the circuit ended")
    assert error.progress is progress
    assert error.accepted == (stage in {"queued", "running"})
    assert error.running == (stage == "running")
    assert "the circuit ended" in str(error)


def test_a_task_that_did_not_go_out_was_not_sent() -> None:
    session = client_in("offered")
    session.send_module(MODULE)
    task = session.send_task(Task(limits=SMALL))
    assert session.interruption(task, "x").progress is Progress.NOT_SENT


def test_a_client_asks_for_nothing_that_was_not_offered() -> None:
    session = client_in("offered")
    with pytest.raises(JobRefused, match="module"):
        session.send_module(bytes(101))
    session.send_module(MODULE)
    for task, cause in [
        (Task(limits=replace(SMALL, memory=2 << 20)), Cause.LIMITS),
        (Task(limits=SMALL, stdin=bytes(51)), Cause.LIMITS),
        (Task(limits=SMALL, args=("x" * 70_000,)), Cause.TASK),
        (Task(limits=SMALL, files=(("/", b""),)), Cause.TASK),
    ]:
        with pytest.raises(JobRefused) as refused:
            session.send_task(task)
        assert refused.value.cause is cause
    assert session.unanswered == ()
    assert session.send_task(Task(limits=SMALL, stdin=bytes(30))) == 1
    assert not session.has_room_for(Task(limits=SMALL, stdin=bytes(21)))
    assert session.has_room_for(Task(limits=SMALL, stdin=bytes(20)))
    session.send_task(Task(limits=SMALL))
    session.send_task(Task(limits=SMALL))
    assert not session.has_room_for(Task(limits=SMALL))


def test_a_client_waits_for_a_silent_worker_just_so_long() -> None:
    patience = Patience()
    assert client_in("opened").deadline() == patience.offer_seconds
    assert client_in("offered").deadline() is None
    session = client_in("submitted")
    assert session.deadline() == patience.word_seconds
    session.sent_some(7.0)
    assert session.deadline() == 7 + patience.word_seconds
    session = client_in("running")
    running = SMALL.wall_seconds + patience.slack_seconds
    assert session.deadline() == running
    data = frame(result_head(1, stdout=8)) + bytes(8)
    session.receive(data[:-1], 3.0)
    assert session.deadline() == 3 + patience.pace.seconds_for(65536 + 8)
    session.receive(data[-1:], 4.0)
    assert session.deadline() == 4 + patience.word_seconds


worker_words = st.one_of(
    st.sampled_from([data for data, _ in FROM_WORKER.values()]),
    st.builds(
        lambda n, outcome, size: (
            frame(
                result_head(n, outcome=outcome, exit_code=0 if outcome == 0 else None, stderr=size)
            )
            + bytes(size)
        ),
        ids,
        st.sampled_from(Outcome),
        st.integers(0, 10),
    ),
    st.builds(
        lambda n, state, fuel: frame(TaskState(n, state, fuel=fuel)),
        ids,
        st.sampled_from(State),
        st.none() | st.sampled_from([0, 64, GRANTED]),
    ),
    st.binary(max_size=12),
)


@settings(max_examples=300)
@given(st.lists(worker_words, max_size=20), st.sampled_from(STAGES))
def test_a_client_survives_anything_a_worker_says(words: list[bytes], stage: str) -> None:
    session = client_in(stage)
    answered: list[int] = []
    for word in words:
        try:
            events = session.receive(word, 1.0)
        except ProtocolError:
            break
        answered += [event.task for event in events if isinstance(event, TaskDone)]
        session.deadline()
    assert len(answered) == len(set(answered))
    assert not set(answered) & set(session.unanswered)


def test_a_client_believes_no_meter_that_cannot_be() -> None:
    """Told so far: 64 of the 500 that were granted, of 1000."""
    for late, fine in (
        (TaskState(1, State.RUNNING, fuel=63), False),
        (TaskState(1, State.RUNNING, fuel=64), True),
        (TaskState(1, State.RUNNING, fuel=501), False),
        (TaskState(1, State.PAUSED, fuel=63), False),
        (result_head(1, fuel=63, stdout=0), False),
        (result_head(1, fuel=0, stdout=0, outcome=Outcome.HOST_FAILURE, exit_code=None), True),
        (TaskState(2, State.RUNNING, fuel=0), False),
    ):
        session = client_in("running")
        session.receive(frame(TaskState(1, State.RUNNING, fuel=64)), 1.0)
        if fine:
            assert session.receive(frame(late), 1.0)
        else:
            with pytest.raises(ProtocolError):
                session.receive(frame(late), 1.0)


def test_a_worker_pauses_once_for_each_grant_at_most() -> None:
    paused = frame(TaskState(1, State.PAUSED, fuel=GRANTED))
    on = frame(TaskState(1, State.RUNNING, fuel=GRANTED))
    session = client_in("paused")
    with pytest.raises(ProtocolError, match="no grant"):
        session.receive(on, 1.0)
    session = client_in("paused")
    session.grant(1, GRANTED + 1)
    session.receive(on, 1.0)
    session.receive(paused, 1.0)
    session.receive(on, 1.0)
    with pytest.raises(ProtocolError, match="more pauses than grants"):
        session.receive(paused, 1.0)
    session = client_in("paused")
    session.grant(1, 5000)
    session.receive(on, 1.0)
    with pytest.raises(ProtocolError, match="more pauses than grants"):
        session.receive(paused, 1.0)


def test_a_client_grants_no_less_than_before_and_no_more_than_the_limit() -> None:
    session = client_in("running")
    session.data_to_send()
    session.grant(1, GRANTED)
    session.grant(3, 600)
    assert session.data_to_send() == []
    session.grant(1, 5000)
    session.grant(1, 900)
    assert session.data_to_send() == [frame(Grant(1, 1000))]
    session.cancel(2)
    session.grant(2, 900)
    assert session.data_to_send() == [frame(Cancel(2))]


def test_a_client_waits_for_a_paused_task_as_long_as_it_likes() -> None:
    """The task has 2 s; it runs for 1.5 s of them, and then for a bit more."""
    session = client_in("running")
    slack = Patience().slack_seconds
    assert session.deadline() == 2.0 + slack
    session.receive(frame(TaskState(1, State.PAUSED, fuel=GRANTED)), 1.5)
    assert session.deadline() is None
    session.grant(1, 600)
    session.sent_some(50.0)
    assert session.deadline() == 50.0 + Patience().word_seconds
    session.receive(frame(TaskState(1, State.RUNNING, fuel=GRANTED)), 51.0)
    assert session.deadline() == 51.0 + 0.5 + slack
    session.receive(frame(TaskState(1, State.RUNNING, fuel=GRANTED)), 51.4)
    assert session.deadline() == 51.0 + 0.5 + slack


def test_a_worker_tells_of_a_running_task_now_and_then_and_of_pauses_exactly() -> None:
    session = worker_in(Phase.OPEN)
    for fuel, now in ((5, 0.4), (77, 1.0), (78, 1.9), (399, 2.1)):
        session.work.tell_progress(fuel, now)
    session.work.tell_pause(GRANTED, 2.5)
    session.work.tell_pause(GRANTED, 2.6)
    assert session.receive(frame(Grant(1, 600)), 3.0) == [GrantRunning(600)]
    session.work.tell_progress(GRANTED + 1, 4.0)
    assert session.receive(frame(Grant(1, 700)), 5.0) == [GrantRunning(700)]
    session.work.tell_pause(600, 5.1)
    said = [(one.state, one.fuel) for one, _ in heard(session.data_to_send())]
    assert said == [
        (State.RUNNING, 76),
        (State.RUNNING, 392),
        (State.PAUSED, GRANTED),
        (State.RUNNING, GRANTED),
        (State.RUNNING, GRANTED),
    ]


def test_a_grant_for_a_waiting_task_counts_when_it_starts_and_a_late_one_is_nothing() -> None:
    session = worker_in(Phase.OPEN)
    assert session.receive(frame(head(2)) + frame(Grant(2, 600)), 0.0) == [TaskArrived()]
    session.work.finish_task(Result(Outcome.COMPLETED, 0, 5), 0.0)
    assert session.receive(frame(Grant(1, 5000)), 0.0) == []
    started = session.work.start_task(0.0)
    assert started is not None
    assert (started.task, started.granted) == (Task(limits=SMALL), 600)


# Both together.


class Pair:
    """Both sides and what is under way between them; each method is one step of one of them."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.client = ClientSession(Patience(), 0.0)
        self.worker = WorkerSession(OFFER, LIMITS, Budget(LIMITS.held), 0.0)
        self.pipes = {"up": b"", "down": b""}
        self.sent: dict[int, Data] = {}
        self.answers: dict[int, Any] = {}
        self.submitted = False
        self.running: Task | None = None
        self.granted = self.used = 0

    def step(self) -> None:
        self.pipes["up"] += b"".join(map(whole, self.client.data_to_send()))
        self.pipes["down"] += b"".join(map(whole, self.worker.data_to_send()))
        acts = [self.up, self.down, self.send, self.cancel, self.grant, self.work]
        self.data.draw(st.sampled_from(acts))()

    def portion(self, pipe: str) -> bytes:
        size = self.data.draw(st.integers(0, len(self.pipes[pipe])))
        part, self.pipes[pipe] = self.pipes[pipe][:size], self.pipes[pipe][size:]
        return part

    def up(self) -> None:
        for event in self.worker.receive(self.portion("up"), 0.0):
            if isinstance(event, GrantRunning):
                self.granted = event.fuel

    def down(self) -> None:
        for event in self.client.receive(self.portion("down"), 0.0):
            if isinstance(event, TaskDone):
                self.answers[event.task] = event.answer

    def send(self) -> None:
        if self.client.offer is None:
            return
        if not self.submitted:
            self.client.send_module(MODULE)
            self.submitted = True
        task = Task(limits=SMALL, stdin=bytes([len(self.sent)]))
        if self.client.has_room_for(task):
            granted = self.data.draw(st.integers(0, 3) | st.none())
            self.sent[self.client.send_task(task, granted)] = task.stdin

    def cancel(self) -> None:
        if self.client.unanswered:
            self.client.cancel(self.data.draw(st.sampled_from(self.client.unanswered)))

    def grant(self) -> None:
        if self.client.unanswered:
            task = self.data.draw(st.sampled_from(self.client.unanswered))
            self.client.grant(task, self.data.draw(st.integers(0, 5)))

    def work(self) -> None:
        if self.worker.phase is Phase.WAITING:
            self.worker.work.load_module()
        elif self.worker.phase is Phase.LOADING:
            self.worker.work.accept_module(0.0)
        elif self.running is None:
            started = self.worker.work.start_task(0.0)
            if started is not None:
                self.running, self.granted, self.used = started.task, started.granted, 0
        elif self.used < self.granted and self.used < 4:
            self.used += 1
            self.worker.work.tell_progress(self.used, self.used * 1.0)
        elif self.used == 4:
            done = Result(Outcome.COMPLETED, 0, 4, self.running.stdin)
            self.worker.work.finish_task(done, 0.0)
            self.running = None
        else:
            self.worker.work.tell_pause(self.used, 0.0)


@settings(max_examples=100)
@given(st.data())
def test_honest_sides_agree_in_any_portions_and_any_order(data: st.DataObject) -> None:
    pair = Pair(data)
    for _ in range(150):
        pair.step()
    for task, answer in pair.answers.items():
        if answer.outcome is Outcome.COMPLETED:
            assert answer.stdout == pair.sent[task]
        else:
            assert answer.outcome is Outcome.CANCELLED
    assert set(pair.answers) | set(pair.client.unanswered) == set(pair.sent)
    assert not set(pair.answers) & set(pair.client.unanswered)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 20))
def test_portions_keep_every_byte_and_the_bound(parts: list[bytes], size: int) -> None:
    cut = list(portions(parts, size))
    assert b"".join(cut) == b"".join(parts)
    assert all(0 < len(part) <= size for part in cut)
