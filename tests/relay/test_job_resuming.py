"""A held session at its client: what its worker may say of it, and when (spec/08 §3.1, §6)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
)
from nacl.public import PublicKey, SealedBox

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.client_tasks import ClientTasks, Keep
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.errors import Cause, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.sealing import CHUNK, Sealed, sealed_size
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    Holding,
    ModuleHead,
    Pad,
    Refused,
    TaskHead,
    TaskState,
)
from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task
from tests.relay.test_job_sessions import MODULE, OFFER, result_head

KEEP = Keep(b"t" * 32, b"s" * 32)
HOLDING = replace(OFFER, holding=Holding(86400, 1 << 30, 4))
LARGE = Limits(fuel=1000, memory=65536, wall_seconds=2.0, output=4 * CHUNK)
ROOMY = replace(HOLDING, ceilings=replace(HOLDING.ceilings, output=4 * CHUNK))


def seal(public: bytes, data: bytes) -> bytes:
    """Seal an output as a worker does (spec/08 §2.1)."""
    key = os.urandom(32)
    state = crypto_secretstream_xchacha20poly1305_state()
    sealed = SealedBox(PublicKey(public)).encrypt(key)
    sealed += crypto_secretstream_xchacha20poly1305_init_push(state, key)
    starts = range(0, max(len(data), 1), CHUNK)
    for at in starts:
        tag = 3 if at == starts[-1] else 0
        part = data[at : at + CHUNK]
        sealed += crypto_secretstream_xchacha20poly1305_push(state, part, None, tag)
    assert len(sealed) == sealed_size(len(data))
    return sealed


def said(session: ClientSession) -> list[Any]:
    """What a client said, but for padding."""
    frames = Frames(decode_from_client, lambda _: None)
    heard = frames.feed(b"".join(map(whole, session.data_to_send())))
    return [message for message, _ in heard if not isinstance(message, Pad)]


def opened(tasks: ClientTasks) -> ClientSession:
    """A session over a new stream, with an offer."""
    session = ClientSession(Patience(), 0.0, tasks)
    session.receive(frame(ROOMY), 0.0)
    session.data_to_send()
    return session


def begun(count: int = 2, limits: Limits = LARGE) -> ClientSession:
    """A held session with a module and so many tasks."""
    session = opened(ClientTasks(KEEP))
    session.send_module(MODULE)
    for _ in range(count):
        session.send_task(Task(limits=limits))
    session.data_to_send()
    session.sent_all()
    return session


def resumed(tasks: ClientTasks, module: ModulePlace, *there: tuple[int, State]) -> ClientSession:
    """The session over its next stream."""
    session = opened(tasks)
    session.resume()
    session.receive(frame(Resumed(module, there)), 0.0)
    return session


def results(events: list[Any]) -> dict[int, Any]:
    return {event.task: event.answer for event in events if isinstance(event, TaskDone)}


def test_a_session_is_held_and_its_results_are_acknowledged_once_they_are_safe() -> None:
    session = opened(ClientTasks(KEEP))
    session.send_module(MODULE)
    number = session.send_task(Task(limits=LARGE))
    hold, module, task = said(session)
    assert isinstance(hold, Hold)
    assert (hold.ticket, hold.durable) == (KEEP.ticket, False)
    assert isinstance(module, ModuleHead)
    assert isinstance(task, TaskHead)
    session.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    session.receive(frame(TaskState(1, State.RUNNING, fuel=0)), 1.0)
    events = session.receive(frame(result_head(1, stdout=2)) + b"ab", 1.0)
    assert results(events)[number].stdout == b"ab"
    assert said(session) == []
    session.acknowledge(number)
    session.acknowledge(number)
    assert said(session) == [Ack(number)]


def test_a_worker_that_holds_no_sessions_is_not_given_one_to_hold() -> None:
    session = ClientSession(Patience(), 0.0, ClientTasks(KEEP))
    session.receive(frame(OFFER), 0.0)
    session.send_module(MODULE)
    assert [type(message) for message in said(session)] == [Hello, ModuleHead]
    assert not session.tasks.begun
    session = ClientSession(Patience(), 0.0, ClientTasks(replace(KEEP, durable=True)))
    session.receive(frame(OFFER), 0.0)
    with pytest.raises(JobRefused, match="holds no sessions"):
        session.send_module(MODULE)


def test_a_held_session_has_room_for_what_is_not_settled() -> None:
    session = begun(4)
    assert not session.has_room_for(Task())
    session.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    session.receive(frame(TaskState(1, State.RUNNING, fuel=0)) + frame(result_head(1)), 1.0)
    assert not session.has_room_for(Task())
    session.acknowledge(1)
    assert session.has_room_for(Task())


def test_what_the_worker_has_goes_on_and_what_it_lost_is_said() -> None:
    first = begun(4)
    first.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    first.receive(frame(TaskState(1, State.RUNNING, fuel=64)), 1.0)
    session = opened(first.tasks)
    session.resume()
    assert said(session) == [Resume(KEEP.ticket)]
    there = ((1, State.DONE), (2, State.RUNNING), (3, State.QUEUED))
    events = session.receive(frame(Resumed(ModulePlace.OPEN, there)), 9.0)
    lost = results(events)[4]
    assert isinstance(lost, JobInterrupted)
    assert lost.progress is Progress.SENT
    assert session.unanswered == (1, 2, 3)
    done = session.receive(frame(result_head(1, stdout=1)) + b"x", 9.0)
    assert results(done)[1].stdout == b"x"
    # It may have begun anew: its meter does not go on from what was told before.
    session.receive(frame(TaskState(2, State.RUNNING, fuel=0)) + frame(result_head(2)), 9.0)
    assert session.send_task(Task(limits=LARGE)) == 5
    assert [*session.unanswered] == [3, 5]


def test_what_nobody_wants_any_more_is_called_off_and_forgotten() -> None:
    tasks = ClientTasks(KEEP, 4, begun=True)
    tasks.expect(2, LARGE)
    session = opened(tasks)
    session.resume()
    session.data_to_send()
    there = ((1, State.DONE), (2, State.QUEUED), (3, State.QUEUED))
    session.receive(frame(Resumed(ModulePlace.QUEUED, there)), 0.0)
    assert said(session) == [Cancel(3)]
    assert session.receive(frame(result_head(1, stdout=3)) + b"old", 0.0) == []
    cancelled = result_head(3, outcome=Outcome.CANCELLED, exit_code=None)
    assert session.receive(frame(cancelled), 0.0) == []
    assert said(session) == [Ack(1), Ack(3)]
    assert session.unanswered == (2,)


def test_a_result_that_is_not_safe_yet_is_sent_again_and_not_given_again() -> None:
    first = begun(1)
    first.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    first.receive(frame(TaskState(1, State.RUNNING, fuel=0)) + frame(result_head(1)), 1.0)
    session = resumed(first.tasks, ModulePlace.PARKED, (1, State.DONE))
    assert session.receive(frame(result_head(1)), 2.0) == []
    assert said(session)[1:] == []
    session.acknowledge(1)
    assert said(session) == [Ack(1)]


def test_an_acknowledgement_that_was_lost_is_said_again() -> None:
    first = begun(1)
    first.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    first.receive(frame(TaskState(1, State.RUNNING, fuel=0)) + frame(result_head(1)), 1.0)
    first.acknowledge(1)
    session = resumed(first.tasks, ModulePlace.PARKED, (1, State.DONE))
    said(session)
    assert session.receive(frame(result_head(1)), 2.0) == []
    assert said(session) == [Ack(1)]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_sealed_output_opens_and_goes_on_where_it_was_cut(size: int) -> None:
    data = os.urandom(size)
    sealed = seal(KEEP.hold.key, data)
    head = result_head(1, stdout=size // 3, stderr=size - size // 3)
    for cut in {0, 1, 80, 103, 104, 105, len(sealed) // 2, len(sealed) - 1}:
        session = resumed(_sent(), ModulePlace.OPEN, (1, State.DONE))
        whole = frame(replace(head, sealed=Sealed(len(sealed)))) + sealed
        session.receive(whole[: len(whole) - len(sealed) + cut], 0.0)
        after = opened(session.tasks)
        after.resume()
        (resume,) = said(after)
        assert resume.have == (((1, cut),) if cut else ())
        after.receive(frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))), 0.0)
        rest = frame(replace(head, sealed=Sealed(len(sealed), cut))) + sealed[cut:]
        answer = results(after.receive(rest, 0.0))[1]
        assert answer.stdout + answer.stderr == data
        assert len(answer.stdout) == size // 3


def test_a_sealed_output_may_begin_anew() -> None:
    data = os.urandom(CHUNK + 9)
    sealed, anew = seal(KEEP.hold.key, data), seal(KEEP.hold.key, data)
    head = result_head(1, stdout=len(data), sealed=Sealed(len(sealed)))
    first = resumed(_sent(), ModulePlace.OPEN, (1, State.DONE))
    first.receive(frame(head) + sealed[:-5], 0.0)
    session = resumed(first.tasks, ModulePlace.OPEN, (1, State.DONE))
    assert results(session.receive(frame(head) + anew, 0.0))[1].stdout == data


HONEST = seal(KEEP.hold.key, bytes(CHUNK + 9))
LIES = {
    "a seal of another": seal(Keep(b"", b"x" * 32).hold.key, bytes(CHUNK + 9)),
    "a byte that is changed": HONEST[:-20] + bytes([HONEST[-20] ^ 1]) + HONEST[-19:],
    "chunks that change places": HONEST[:104] + HONEST[-26:] + HONEST[104:-26],
    "a stream that ends early": seal(KEEP.hold.key, bytes(CHUNK)) + bytes(26),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_seal_that_does_not_open_is_a_breach(lie: str) -> None:
    sealed = LIES[lie]
    session = resumed(_sent(), ModulePlace.OPEN, (1, State.DONE))
    head = result_head(1, stdout=CHUNK + 9, sealed=Sealed(len(sealed)))
    with pytest.raises(ProtocolError, match="seal"):
        session.receive(frame(head) + sealed, 0.0)
    assert session.unanswered == (1,)


def _sent() -> ClientTasks:
    return begun(1).tasks


RESUMED = frame(Resumed(ModulePlace.OPEN, ((1, State.QUEUED),)))
SEALED = seal(KEEP.hold.key, b"12345678")
BREACHES: dict[str, tuple[bytes, ...]] = {
    "a task that was never sent": (frame(Resumed(ModulePlace.OPEN, ((3, State.QUEUED),))),),
    "two tasks at once": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.RUNNING), (2, State.PAUSED)))),
    ),
    "a state before": (frame(TaskState(1, State.QUEUED)),),
    "a result before": (frame(result_head(1)),),
    "an acceptance before": (frame(Accepted()),),
    "an offer again": (frame(ROOMY),),
    "resumed twice": (RESUMED, RESUMED),
    "accepted again": (RESUMED, frame(Accepted())),
    "the result of a task that waits": (RESUMED, frame(result_head(1))),
    "a result of what it does not have": (RESUMED, frame(result_head(2))),
    "a state of what has ended": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
        frame(TaskState(1, State.RUNNING, fuel=0)),
    ),
    "a result twice": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
        frame(result_head(1)),
        frame(result_head(1)),
    ),
    "a task that nobody cancelled": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
        frame(result_head(1, outcome=Outcome.CANCELLED, exit_code=None)),
    ),
    "more output than may be": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
        frame(result_head(1, stdout=LARGE.output, stderr=1)),
    ),
    "a seal that begins in the middle": (
        frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))),
        frame(result_head(1, stdout=8, sealed=Sealed(len(SEALED), 20))),
    ),
    "running before the module is there": (
        frame(Resumed(ModulePlace.PARKED, ((1, State.QUEUED),))),
        frame(TaskState(1, State.RUNNING, fuel=0)),
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_worker_that_lies_about_what_it_holds_is_left(breach: str) -> None:
    *before, lie = BREACHES[breach]
    session = opened(begun(2).tasks)
    session.resume()
    for data in before:
        session.receive(data, 1.0)
    unanswered = session.unanswered
    with pytest.raises(ProtocolError):
        session.receive(lie, 1.0)
    assert session.unanswered == unanswered
    with pytest.raises(ProtocolError):
        session.receive(RESUMED, 1.0)


def test_a_task_waits_before_it_runs_in_a_held_session() -> None:
    session = begun(1)
    session.receive(frame(Accepted()), 1.0)
    with pytest.raises(ProtocolError, match="cannot run now"):
        session.receive(frame(TaskState(1, State.RUNNING, fuel=0)), 1.0)


def test_a_ticket_that_is_not_known_is_told_to_each_task() -> None:
    first = begun(2)
    first.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    first.receive(frame(TaskState(1, State.RUNNING, fuel=0)), 1.0)
    session = opened(first.tasks)
    session.resume()
    answers = results(session.receive(frame(Refused(Cause.UNKNOWN, "")), 1.0))
    assert isinstance(answers[1], JobInterrupted)
    assert isinstance(answers[2], JobRefused)
    assert answers[2].cause is Cause.UNKNOWN


@given(st.binary(max_size=300), st.integers(0, 99))
def test_any_seal_opens_in_any_portions_or_is_a_breach(data: bytes, seed: int) -> None:
    sealed = bytearray(seal(KEEP.hold.key, data))
    spoilt = seed % 3 == 0
    if spoilt:
        sealed[seed * 7 % len(sealed)] ^= 1 + seed % 255
    session = resumed(_sent(), ModulePlace.OPEN, (1, State.DONE))
    whole = frame(result_head(1, stdout=len(data), sealed=Sealed(len(sealed)))) + sealed
    step = 1 + seed
    try:
        events = [
            event
            for at in range(0, len(whole), step)
            for event in session.receive(whole[at : at + step], 0.0)
        ]
    except ProtocolError:
        assert spoilt
    else:
        assert not spoilt
        assert results(events)[1].stdout == data


@pytest.mark.parametrize("cause", [Cause.BUSY, Cause.SHUTDOWN])
def test_a_worker_without_room_still_has_what_it_holds(cause: Cause) -> None:
    first = begun(2)
    session = opened(first.tasks)
    session.resume()
    refused = Refused(cause, "full")
    assert session.receive(frame(refused), 1.0) == [refused]
    assert session.may_be_asked_again
    after = resumed(first.tasks, ModulePlace.OPEN, (1, State.DONE), (2, State.QUEUED))
    assert after.unanswered == (1, 2)


def test_a_worker_that_shuts_down_still_has_what_it_holds() -> None:
    first = begun(2)
    first.receive(frame(Accepted()) + frame(TaskState(1, State.QUEUED)), 1.0)
    refused = Refused(Cause.SHUTDOWN, "")
    assert first.receive(frame(refused), 1.0) == [refused]
    assert first.may_be_asked_again
    after = resumed(first.tasks, ModulePlace.PARKED, (1, State.DONE), (2, State.QUEUED))
    assert after.unanswered == (1, 2)


class AnythingAtAHeldSession(RuleBasedStateMachine):
    """A held session, a worker that says what it likes, and streams that are cut at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.session = begun(3)
        self.given: list[int] = []
        self.acknowledged: list[int] = []
        self.breached = False

    @initialize()
    def begin(self) -> None:
        self.hear(frame(Accepted()) + frame(TaskState(1, State.QUEUED)))

    def hear(self, data: bytes) -> None:
        try:
            events = self.session.receive(data, 1.0)
        except ProtocolError:
            self.breached = True
            return
        assert not (self.breached and data), "it listens after a breach"
        answers = [event for event in events if isinstance(event, TaskDone)]
        self.given += [each.task for each in answers if isinstance(each.answer, TaskResult)]

    @rule()
    def the_stream_is_cut(self) -> None:
        self.session = opened(self.session.tasks)
        self.session.resume()
        self.breached = False

    @rule(
        module=st.sampled_from(ModulePlace),
        states=st.dictionaries(st.integers(1, 5), st.sampled_from(State), max_size=4),
    )
    def it_is_resumed(self, module: ModulePlace, states: dict[int, State]) -> None:
        self.hear(frame(Resumed(module, tuple(sorted(states.items())))))

    @rule(number=st.integers(0, 4), state=st.sampled_from(list(State)[:3]), fuel=st.booleans())
    def a_state(self, number: int, state: State, fuel: bool) -> None:
        self.hear(frame(TaskState(number, state, fuel=64 if fuel else None)))

    @rule(number=st.integers(1, 4), size=st.integers(0, 9), cancelled=st.booleans())
    def a_result(self, number: int, size: int, cancelled: bool) -> None:
        outcome = Outcome.CANCELLED if cancelled else Outcome.COMPLETED
        code = None if cancelled else 0
        head = result_head(number, stdout=size, fuel=64, outcome=outcome, exit_code=code)
        self.hear(frame(head) + bytes(size))

    @rule(number=st.integers(1, 4), part=st.integers(0, 200))
    def a_part_of_a_sealed_result(self, number: int, part: int) -> None:
        self.hear(
            frame(result_head(number, stdout=8, fuel=64, sealed=Sealed(len(SEALED))))
            + SEALED[:part]
        )

    @rule(data=st.sampled_from([frame(Accepted()), frame(Pad(2)) + b"\0\0", frame(ROOMY)]))
    def another_message(self, data: bytes) -> None:
        self.hear(data)

    @rule(number=st.integers(1, 4))
    def a_result_is_safe(self, number: int) -> None:
        if number in self.given:
            self.session.acknowledge(number)
            self.acknowledged.append(number)

    @rule(number=st.integers(1, 4))
    def a_task_is_cancelled(self, number: int) -> None:
        self.session.cancel(number)

    @precondition(lambda self: self.session.takes_tasks)
    @rule()
    def a_task_is_sent(self) -> None:
        if self.session.has_room_for(Task()):
            self.session.send_task(Task(limits=LARGE))

    @invariant()
    def each_task_is_answered_once_and_forgotten_once_it_is_safe(self) -> None:
        assert len(set(self.given)) == len(self.given)
        self.session.deadline()
        for message in said(self.session):
            if isinstance(message, Ack):
                owed = message.task in self.given
                assert not owed or message.task in self.acknowledged, "forgotten too early"
            assert not isinstance(message, Hold), "held twice"


AnythingAtAHeldSession.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, derandomize=True
)
TestAnythingAtAHeldSession = AnythingAtAHeldSession.TestCase


def test_an_input_goes_on_where_the_worker_has_it() -> None:
    task = Task(stdin=b"stdin", files=(("a", b"file a"), ("b", b""), ("c", b"c")), limits=LARGE)
    sent = b"stdinfile ac"
    for size in range(1, len(sent) + 1):
        first = opened(ClientTasks(KEEP))
        first.send_module(MODULE)
        assert first.send_task(task) == 1
        said(first)
        after = opened(first.tasks)
        after.resume()
        said(after)
        (done,) = results(
            after.receive(frame(Resumed(ModulePlace.OPEN, (), (1, size))), 0.0)
        ).items()
        assert done[0] == 1
        assert isinstance(done[1], JobInterrupted)
        # Another task is sent whole; this one, once, without what is there.
        assert after.send_task(replace(task)) == 2
        assert after.send_task(task) == 3
        assert after.send_task(task) == 4
        frames = Frames(decode_from_client, lambda message: Blobs(message.attachments))
        heard = {
            message.id: (message.skipped, b"".join(map(whole, blobs.take())) if blobs else b"")
            for message, blobs in frames.feed(b"".join(map(whole, after.data_to_send())))
            if isinstance(message, TaskHead)
        }
        assert heard == {2: (None, sent), 3: (size, sent[size:]), 4: (None, sent)}


@pytest.mark.parametrize("arriving", [(2, 1), (1, 6)])
def test_a_worker_has_no_more_of_an_input_than_was_sent(arriving: tuple[int, int]) -> None:
    first = opened(ClientTasks(KEEP))
    first.send_module(MODULE)
    first.send_task(Task(stdin=b"stdin", limits=LARGE))
    after = opened(first.tasks)
    after.resume()
    with pytest.raises(ProtocolError):
        after.receive(frame(Resumed(ModulePlace.OPEN, (), arriving)), 0.0)
