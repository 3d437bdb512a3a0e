"""Rows of messages and their padding (spec/08 §1.1)."""

import hashlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.decoding import decode_from_client, decode_from_worker
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import GATHER_SECONDS
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    ModuleHead,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.rows import PADDING_MAX, ROW_SIZE, Padding, Row, pads
from fogbank.sandbox.data import Data, whole
from tests.relay.job_fakes import MODULE, SMALL, FakeRunner, make_service, serve


def length(row: list[Data]) -> int:
    return sum(len(part) for part in row)


def padded_to(size: int) -> int:
    return size + sum(len(frame(pad)) + pad.size for pad in pads(size))


SIZES = st.integers(1, 2 * ROW_SIZE) | st.integers(1, (1 << 29) + 200)


@given(SIZES)
def test_any_row_is_padded_to_a_power_of_two(size: int) -> None:
    goal = padded_to(size)
    assert goal >= ROW_SIZE
    assert goal & (goal - 1) == 0
    # The next power, or, where not even the least PAD fits, the one after it.
    assert goal < 2 * max(size + 9, ROW_SIZE)
    assert all(pad.size <= 1 << 28 for pad in pads(size))
    for pad in pads(size):
        assert decode_from_worker(pad.encode()) == decode_from_client(pad.encode()) == pad


def test_each_gap_is_filled_whatever_lengths_a_pads_own_length_takes() -> None:
    for power in (ROW_SIZE, 2 * ROW_SIZE, 1 << 21):
        for gap in [*range(9, 400), *range(65_500, 65_600)]:
            if gap < power:
                assert padded_to(power - gap) in {power, ROW_SIZE}
    assert padded_to(ROW_SIZE) == ROW_SIZE
    assert padded_to(ROW_SIZE - 8) == 2 * ROW_SIZE


@pytest.mark.parametrize("pads_first", [True, False])
def test_a_row_says_the_same_padded_or_not(pads_first: bool) -> None:
    row = Row(pads_first=pads_first)
    row.add(Accepted(), within=0.5, padded=False)
    row.add(Accepted(), within=2.0, padded=True)
    assert row.within == 0.5
    parts = row.take()
    assert length(parts) == ROW_SIZE
    heard = Frames(decode_from_worker, lambda _: None).feed(b"".join(map(whole, parts)))
    kinds = [type(message) for message, _ in heard]
    assert kinds == ([Pad, Accepted, Accepted] if pads_first else [Accepted, Accepted, Pad])
    assert row.take() == []
    assert row.within is None


def test_what_is_large_waits_for_nothing_and_is_padded_alone() -> None:
    row = Row(pads_first=False)
    row.add(Cancel(1), bytes(3 * ROW_SIZE), within=1.0, padded=True)
    row.add(Cancel(2), bytes(10), within=1.0, padded=True)
    assert row.within == 0.0
    assert length(row.take()) == 4 * ROW_SIZE + ROW_SIZE


def test_small_words_alone_are_not_padded() -> None:
    row = Row(pads_first=False)
    row.add(Cancel(1), within=1.0, padded=False)
    assert row.take() == [frame(Cancel(1))]


def test_padding_has_an_end() -> None:
    padding = Padding()
    padding.hear(Pad(PADDING_MAX))
    padding.hear(Accepted())
    padding.hear(Pad(PADDING_MAX))
    with pytest.raises(ProtocolError, match="without end"):
        padding.hear(Pad(1))


# Through a service, with the times that a fake runner takes.


async def answers(count: int) -> tuple[int, list[float]]:
    """Send so many tasks of a tenth of a millisecond in one row.

    Returns the bytes that came from OFFER on, and when each answer did, in seconds after the module
    was ready.
    """
    near, far = memory_stream_pair()
    service = make_service(FakeRunner(), tasks=count)
    received, times = 0, list[float]()
    tasks = [
        frame(TaskHead(n, ("sleep", "0.0001"), (), (), 0, SMALL, bytes(32)))
        for n in range(1, count + 1)
    ]
    frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        module = frame(ModuleHead(hashlib.sha256(MODULE).digest(), len(MODULE)))
        await near.send_all(b"".join([frame(Hello()), module, MODULE, *tasks]))
        while len(times) < count:
            data = await near.receive_some()
            received += len(data)
            for message, _ in frames.feed(data):
                if isinstance(message, ResultHead):
                    # The runner takes a second to get the module ready.
                    times.append(trio.current_time() - 1.0)
        await near.aclose()
    return received, times


async def test_the_answer_that_is_waited_for_alone_does_not_wait(autojump_clock: MockClock) -> None:
    received, times = await answers(1)
    assert times == pytest.approx([0.0001])
    assert ROW_SIZE <= received < ROW_SIZE + 1000


async def test_answers_that_others_follow_share_their_padding(autojump_clock: MockClock) -> None:
    received, times = await answers(500)
    # 50 ms of work: three rows of 20 ms at most, and the last answer as soon as it is there.
    assert times[-1] == pytest.approx(0.05)
    assert len(set(times)) <= 4
    assert received < 5 * ROW_SIZE
    assert all(time <= 0.0001 * (n + 1) + GATHER_SECONDS + 1e-6 for n, time in enumerate(times))


def test_what_a_newer_word_says_need_not_be_said() -> None:
    row = Row(pads_first=True)

    def add(message: TaskState | Accepted, topic: int | None, *, passes: bool = False) -> None:
        row.add(message, within=1.0, padded=False, topic=topic, passes=passes)

    waits, loads = TaskState(0, State.QUEUED, "2 wait"), TaskState(0, State.RUNNING)
    queued, runs = TaskState(1, State.QUEUED), TaskState(1, State.RUNNING, fuel=0)
    add(waits, 0, passes=True)
    add(queued, 1, passes=True)
    add(loads, 0, passes=True)
    add(Accepted(), 0)
    add(runs, 1)
    assert whole(b"".join(map(whole, row.take()))) == frame(Accepted()) + frame(runs)
    # Not what does not pass, nor what stands before a word of another kind, nor what was sent.
    add(runs, 1)
    add(TaskState(1, State.RUNNING, fuel=64), 1)
    add(waits, 0, passes=True)
    row.add(Refused(Cause.BUSY, "", 7), within=0.0, padded=False)
    add(loads, 0, passes=True)
    assert len([part for part in row.take() if len(part)]) == 5
    add(Accepted(), 0)
    assert row.take() == [frame(Accepted())]
