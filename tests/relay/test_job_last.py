"""Sessions whose client sends all at once, and says which task is the last (spec/08 §3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame, portions
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import LAST_SECONDS, Budget, Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskState,
)
from fogbank.relay.job.rows import ROW_SIZE
from fogbank.relay.job.worker_session import Phase, WorkerSession
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task
from tests.relay.job_fakes import MODULE, FakeRunner, make_service, serve, task
from tests.relay.test_job_sessions import ANNOUNCED, LIMITS, OFFER, SMALL, head, worker_in
from tests.relay.test_job_states import MESSAGES

LAST = frame(replace(head(2), is_last=True))
OPENING = frame(Hello()) + frame(ANNOUNCED) + MODULE
ENDED = Result(Outcome.COMPLETED, 0, 5)


def said(session: WorkerSession) -> list[str]:
    """Return the names of what a session says next."""
    frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
    data = b"".join(portions(session.data_to_send(), 1 << 20))
    return [type(message).__name__ for message, _ in frames.feed(data)]


def is_over(session: WorkerSession) -> bool:
    return session.is_over


def all_at_once() -> ClientSession:
    """A client's session that has sent all that it has to send."""
    session = ClientSession(Patience(), 0.0)
    assert session.send_all(MODULE, Task(limits=SMALL)) == 1
    assert session.within == 0
    row = b"".join(portions(session.data_to_send(), 1 << 20))
    assert len(row) == ROW_SIZE
    session.sent_all()
    return session


async def test_one_row_each_way_is_a_whole_session(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    client = ClientSession(Patience(), 0.0)
    client.send_all(MODULE, task("echo", stdin=b"what for"))
    runner = FakeRunner()
    came: list[tuple[float, int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, make_service(runner), far)
        for portion in portions(client.data_to_send(), 1 << 20):
            await near.send_all(portion)
        began = trio.current_time()
        events = []
        while data := await near.receive_some():
            came.append((trio.current_time() - began, len(data)))
            events += client.receive(data, trio.current_time())
    (answer,) = (event.answer for event in events if isinstance(event, TaskDone))
    assert isinstance(answer, TaskResult)
    assert answer.stdout == b"what for"
    assert runner.open_jobs == 0
    # The fake takes a second to make the module ready: the offer could not wait that long.
    (soon, small), (later, row) = came
    assert soon == pytest.approx(LAST_SECONDS)
    assert later == pytest.approx(1.0)
    assert small < row == ROW_SIZE


def test_an_offer_waits_only_for_who_has_sent_all() -> None:
    for sent, within in (
        (frame(Hello()), 0.0),
        (OPENING[:-1], 0.0),
        (OPENING, 0.005),
        (OPENING + frame(head(1)), 0.005),
        (OPENING + LAST, LAST_SECONDS),
        (OPENING + LAST[:-1], 0.005),
    ):
        session = WorkerSession(OFFER, LIMITS, Budget(LIMITS.held), 0.0)
        session.receive(sent, 0.0)
        assert session.within == within, sent
        assert said(session)[0] == "Offer"


@pytest.mark.parametrize("end", ["result", "refusal", "cancel", "drain", "not taken"])
def test_a_session_is_over_once_its_last_task_is_answered(end: str) -> None:
    budget = Budget(LIMITS.held)
    session = worker_in(Phase.OPEN, budget)
    work = session.work
    task_of_limits = replace(head(2, limits=replace(SMALL, fuel=1 << 40)), is_last=True)
    session.receive(frame(task_of_limits) if end == "not taken" else LAST, 0.0)
    assert work.has_all
    assert not is_over(session), "its first task still runs"
    work.finish_task(ENDED, 1.0)
    if end in {"result", "refusal"}:
        assert not is_over(session)
        assert work.start_task(1.0) is not None
    match end:
        case "result":
            work.finish_task(ENDED, 2.0)
        case "refusal":
            work.refuse_task(Cause.TASK, "no", 2.0)
        case "cancel":
            session.receive(frame(Cancel(2)), 2.0)
        case "drain":
            work.drain()
    assert work.is_done
    assert is_over(session)
    assert budget.left == LIMITS.held
    assert said(session)[-1] == ("Refused" if end in {"refusal", "drain"} else "ResultHead")
    session.refuse(Cause.SILENT, "too late")
    assert said(session) == []


def test_nothing_comes_behind_the_last_task() -> None:
    session = worker_in(Phase.OPEN)
    session.receive(LAST, 0.0)
    session.receive(frame(Cancel(1)) + frame(Pad(3)) + bytes(3), 0.0)
    with pytest.raises(ProtocolError):
        session.receive(frame(head(3)), 0.0)
    assert is_over(session)
    assert not session.work.is_done


@pytest.mark.parametrize("name", MESSAGES)
def test_before_its_offer_a_worker_pads_or_refuses(name: str) -> None:
    session = all_at_once()
    if name in {"Offer", "Refused", "Pad"}:
        session.receive(MESSAGES[name], 1.0)
        return
    with pytest.raises(ProtocolError):
        session.receive(MESSAGES[name], 1.0)
    assert session.unanswered == (1,)


def test_an_answer_to_all_at_once_is_taken_as_any_other() -> None:
    session = all_at_once()
    pad = frame(Pad(5)) + bytes(5)
    states = frame(TaskState(0, State.RUNNING)) + frame(TaskState(1, State.QUEUED))
    running = frame(Accepted()) + frame(TaskState(1, State.RUNNING, fuel=0))
    result = ResultHead(1, Outcome.COMPLETED, 0, 10, 3, 0, 0, "")
    events = session.receive(pad + frame(OFFER) + states + running + frame(result), 1.0)
    assert isinstance(events[0], Offer)
    assert isinstance(events[-1], TaskDone)
    assert session.unanswered == ()
    refused = all_at_once()
    events = refused.receive(frame(Refused(Cause.BUSY, "full")), 1.0)
    assert [type(event) for event in events] == [TaskDone, Refused]


def test_what_no_worker_takes_is_not_sent() -> None:
    for module, asked in (
        (b"", Task()),
        (MODULE, Task(args=("\0",))),
        (MODULE, Task(limits=Limits(fuel=0))),
        (MODULE, Task(args=("x" * 70_000,))),
    ):
        session = ClientSession(Patience(), 0.0)
        session.data_to_send()
        with pytest.raises(Exception, match=r"refused|worker"):
            session.send_all(module, asked)
        assert session.data_to_send() == []
        assert session.unanswered == ()
