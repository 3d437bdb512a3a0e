"""A job's messages and frames (spec/08 §1, §2): vectors, round trips, and bytes that are none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.decoding import decode_from_client, decode_from_worker
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.held.messages import Ack, Hold, Resume, Resumed
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.kinds import MESSAGE_SIZE, ModulePlace, State
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Grant,
    Hello,
    Holding,
    Load,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
    run_time_bucket,
    told_fuel,
    wire_exit_code,
)
from fogbank.sandbox.limits import CEILINGS, MODULE_SIZE, PAGE, Limits
from fogbank.sandbox.outcome import REFUSALS, Outcome
from tests.vectors import generated

SPEC = Path(__file__).resolve().parents[2] / "spec" / "vectors"
VECTORS: dict[str, Any] = json.loads((SPEC / "08-jobs.json").read_text())
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "client": decode_from_client,
    "worker": decode_from_worker,
}

ids = st.integers(1, 2**32 - 1)
keys = st.binary(min_size=32, max_size=32)


def ascending(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[tuple[int, Any], ...]]:
    """Pairs of a task and something, in the order of the tasks."""
    return st.dictionaries(ids, of, max_size=5).map(lambda found: tuple(sorted(found.items())))


reasons = st.text(st.characters(categories=["L", "N", "P"]), max_size=200)
strings = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
limits = st.builds(
    Limits,
    st.integers(1, CEILINGS.fuel),
    st.integers(PAGE, CEILINGS.memory),
    st.integers(1, int(CEILINGS.wall_seconds * 1000)).map(lambda ms: ms / 1000),
    st.integers(0, CEILINGS.output),
)
results = st.builds(
    lambda code, outcome, *rest: ResultHead(
        rest[0], outcome, code if outcome is Outcome.COMPLETED else None, *rest[1:]
    ),
    st.integers(0, 255),
    st.sampled_from(Outcome),
    ids,
    st.integers(0, CEILINGS.fuel),
    st.integers(0, 31),
    st.integers(0, 1000),
    st.integers(0, 1000),
    reasons,
    st.none() | st.binary(min_size=1, max_size=99),
).flatmap(
    lambda head: (
        st.just(head)
        | st.integers(0, sealed_size(head.stdout + head.stderr)).map(
            lambda at: replace(head, sealed=Sealed(sealed_size(head.stdout + head.stderr), at))
        )
    )
)
EMPTY_TASK = TaskHead(1, (), (), (), 0, CEILINGS, bytes(32))
from_client = st.one_of(
    st.builds(
        Hello,
        st.sets(st.integers(0, 65535), min_size=1, max_size=16).map(lambda s: tuple(sorted(s))),
    ),
    st.builds(
        ModuleHead,
        keys,
        st.integers(0, MODULE_SIZE),
        st.none() | st.binary(min_size=32, max_size=32),
    ),
    st.builds(Hold, keys, keys, st.booleans()),
    st.builds(Resume, keys, ascending(st.integers(0, 1 << 29))),
    st.builds(Ack, ids),
    st.builds(Pad, st.integers(0, 1 << 28)),
    st.builds(
        TaskHead,
        ids,
        st.lists(strings, max_size=4).map(tuple),
        st.lists(st.tuples(strings, strings), max_size=3).map(tuple),
        st.lists(st.tuples(strings, st.integers(0, 1000)), max_size=3).map(tuple),
        st.integers(0, 1000),
        limits,
        st.binary(min_size=32, max_size=32),
    ),
    st.builds(
        lambda granted, wanted, last: replace(
            EMPTY_TASK, limits=replace(wanted, fuel=granted + 1), granted=granted, is_last=last
        ),
        st.integers(0, CEILINGS.fuel - 1),
        limits,
        st.booleans(),
    ),
    st.builds(Cancel, st.just(0) | ids),
    st.builds(Grant, ids, st.integers(1, CEILINGS.fuel)),
)
from_worker = st.one_of(
    st.builds(
        Offer,
        reasons.map(lambda text: text[:40]),
        limits,
        st.integers(0, MODULE_SIZE),
        st.integers(0, 2**32 - 1),
        st.integers(1, 1000),
        st.builds(Load, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
        st.lists(st.binary(min_size=32, max_size=32), max_size=32).map(tuple),
        st.integers(0, CEILINGS.fuel),
        st.none()
        | st.builds(
            Holding, st.integers(1, 31 * 86400), st.integers(0, 1 << 50), st.integers(1, 4096)
        ),
    ),
    st.builds(Resumed, st.sampled_from(ModulePlace), ascending(st.sampled_from(State))),
    st.builds(Pad, st.integers(0, 1 << 28)),
    st.just(Accepted()),
    st.builds(
        Refused,
        st.sampled_from([Cause.VERSION, Cause.BUSY, Cause.SILENT, Cause.SHUTDOWN, Cause.UNKNOWN]),
        reasons,
    ),
    st.builds(
        Refused,
        st.sampled_from([Cause.LIMITS, Cause.TASK, Cause.BUSY, Cause.SHUTDOWN]),
        reasons,
        ids,
    ),
    st.builds(
        Refused, st.just(Cause.MODULE), reasons, st.none(), st.sampled_from(sorted(REFUSALS))
    ),
    st.builds(TaskState, st.integers(0, 2**32 - 1), st.just(State.QUEUED), reasons),
    st.builds(TaskState, st.just(0), st.just(State.RUNNING), reasons),
    st.builds(
        TaskState,
        ids,
        st.sampled_from([State.RUNNING, State.PAUSED]),
        reasons,
        st.integers(0, CEILINGS.fuel),
    ),
    results,
)


def test_the_vectors_are_what_their_generator_writes() -> None:
    assert generated("jobs") == VECTORS


@pytest.mark.parametrize("side", ["client", "worker"])
def test_right_messages_decode_and_encode(side: str) -> None:
    for vector in VECTORS["accepted"][side]:
        data = bytes.fromhex(vector["message"])
        assert DECODERS[side](data).encode() == data, vector["name"]


@pytest.mark.parametrize(
    ("side", "why", "message"),
    [
        pytest.param(side, item["why"], item["message"], id=f"{side}: {item['why']}")
        for side in ("client", "worker")
        for item in VECTORS["refused"][side]
    ],
)
def test_a_message_with_one_fault_is_refused(side: str, why: str, message: str) -> None:
    with pytest.raises(ProtocolError):
        DECODERS[side](bytes.fromhex(message))


@given(from_client)
def test_what_a_client_says_survives_the_way(message: Any) -> None:
    assert decode_from_client(message.encode()) == message


@given(st.integers(0, CEILINGS.fuel))
def test_fuel_is_told_by_its_6_highest_bits(fuel: int) -> None:
    told = told_fuel(fuel)
    assert told <= fuel < told + max(told // 32, 1)
    assert told_fuel(told) == told
    assert told.bit_count() <= 6


@given(from_worker)
def test_what_a_worker_says_survives_the_way(message: Any) -> None:
    assert decode_from_worker(message.encode()) == message


@given(st.integers(1, 7 * 86400 * 1000))
def test_a_wall_clock_limit_is_told_to_the_millisecond(milliseconds: int) -> None:
    head = TaskHead(1, (), (), (), 0, Limits(wall_seconds=milliseconds / 1000), bytes(32))
    back = decode_from_client(head.encode())
    assert isinstance(back, TaskHead)
    assert back.limits.wall_seconds == milliseconds / 1000


@given(
    st.sampled_from(["client", "worker"]),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.binary(max_size=40),
)
def test_only_the_protocol_error_leaves_a_decoder(
    side: str, which: int, changes: list[tuple[int, int]], tail: bytes
) -> None:
    vectors = VECTORS["accepted"][side]
    data = bytearray.fromhex(vectors[which % len(vectors)]["message"])
    for at, byte in changes:
        data[at % len(data)] = byte
    for raw in (bytes(data), bytes(data) + tail, tail):
        try:
            assert DECODERS[side](raw).encode() == raw
        except ProtocolError:
            continue


@given(st.data())
def test_frames_are_the_same_in_any_portions(data: st.DataObject) -> None:
    parts = [
        bytes.fromhex(item["frame"]) for item in VECTORS["session"] if item["from"] == "client"
    ]
    stream = b"".join(parts)
    frames = Frames(decode_from_client, lambda message: Blobs(message.attachments, hashed=True))
    seen = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        for message, blobs in frames.feed(stream[:size]):
            assert blobs is not None
            seen.append((message, blobs.take(), blobs.sha256))
        stream = stream[size:]
    assert frames.is_between
    assert [type(message) for message, _, _ in seen] == [Hello, ModuleHead, TaskHead, Grant]
    module = seen[1][0]
    assert isinstance(module, ModuleHead)
    assert (seen[1][1], seen[1][2]) == ((b"\0asm\x01\0\0\0",), module.sha256)
    assert seen[2][1] == (b"input", b"a,b\n", b"")


def test_discarded_attachments_are_counted_off() -> None:
    module = ModuleHead(bytes(32), 1 << 20)
    frames = Frames(decode_from_client, lambda _: None)
    stream = frame(module) + bytes(1 << 20) + frame(Cancel(7))
    seen = [
        pair for at in range(0, len(stream), 999) for pair in frames.feed(stream[at : at + 999])
    ]
    assert seen == [(module, None), (Cancel(7), None)]


@pytest.mark.parametrize("length", [0, MESSAGE_SIZE + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_message(length: int) -> None:
    frames = Frames(decode_from_client, lambda _: None)
    with pytest.raises(ProtocolError):
        list(frames.feed(length.to_bytes(4, "big")))


@given(st.binary(max_size=300))
def test_only_the_protocol_error_leaves_the_frames(stream: bytes) -> None:
    for portions in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        frames = Frames(decode_from_worker, lambda message: Blobs(message.attachments))
        try:
            for portion in portions:
                list(frames.feed(portion))
        except ProtocolError:
            continue


def test_a_message_beyond_the_limit_is_never_sent() -> None:
    head = TaskHead(1, ("x" * MESSAGE_SIZE,), (), (), 0, Limits(), bytes(32))
    with pytest.raises(ValueError, match="is the most"):
        frame(head)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0009, 0), (0.001, 1), (0.002, 2), (0.0039, 2), (1.0, 10), (1e9, 31)],
)
def test_run_time_is_told_in_powers_of_two(seconds: float, bucket: int) -> None:
    assert run_time_bucket(seconds) == bucket


@pytest.mark.parametrize(
    ("code", "told"), [(0, 0), (3, 3), (255, 255), (256, 1), (257, 1), (511, 255)]
)
def test_a_failure_never_looks_like_success(code: int, told: int) -> None:
    assert wire_exit_code(code) == told
