"""What a jailed process says is parsed strictly (spec/07 §8)."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox import wire
from fogbank.sandbox.data import PORTION, Data
from fogbank.sandbox.jail import MANDATORY, JailReport, Layer, SandboxUnavailable, decode_report
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.task import Task
from fogbank.sandbox.wire import Control, Frame, Packet, WireError

LIMITS = Limits(fuel=1000, output=100)
RESULT = Result(Outcome.COMPLETED, 7, 999, b"out", b"err", "why")


def test_a_task_survives_its_encoding() -> None:
    task = Task(
        args=("prog", "-x", "ü"),
        env=(("A", "1"),),
        files=(("d/f", b"\0\1"), ("e", b"")),
        stdin=b"input",
        limits=Limits(5, 65536, 0.5, 9),
        seed=bytes(range(32)),
    )
    assert wire.decode_task(wire.encode_task(task, 3), never) == (task, 3)
    assert list(wire.portions_of(task)) == []


def never(size: int) -> Data:
    raise AssertionError(f"{size} bytes are asked for")


def test_large_inputs_stay_out_of_the_frame_and_are_asked_for_in_order() -> None:
    large, stdin = bytes(range(256)) * 2500, b"x" * (wire.INLINE + 1)
    task = Task(files=(("a", large), ("b", bytes(wire.INLINE))), stdin=stdin)
    sizes: list[int] = []

    def asked(size: int) -> Data:
        sizes.append(size)
        return b"asked for"

    encoded = wire.encode_task(task, 3)
    assert len(encoded) < wire.INLINE + 1000
    decoded, _ = wire.decode_task(encoded, asked)
    assert sizes == [len(large), len(stdin)]
    assert decoded.files == (("a", b"asked for"), ("b", bytes(wire.INLINE)))
    parts = list(wire.portions_of(task))
    assert b"".join(parts) == large + stdin
    assert [len(part) for part in parts] == [PORTION, PORTION, len(large) - 2 * PORTION, len(stdin)]


def test_a_portion_of_output_is_whole_and_of_one_output() -> None:
    body = wire.encode_output(2, bytes(PORTION))
    stream, part = wire.decode_output(body)
    assert (stream, len(part)) == (2, PORTION)
    for wrong in (body[:-1], b"\x00" + body[1:], b"\x03" + body[1:], b""):
        with pytest.raises(WireError):
            wire.decode_output(wrong)


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        Result(Outcome.COMPLETED, 0xFFFF_FFFF, 0),
        Result(Outcome.TRAP, None, 5, reason="unreachable"),
        Result(Outcome.OUT_OF_MEMORY, 3, 5, memory=LIMITS.memory),
        Result(Outcome.OUTPUT_LIMIT, None, 1000, bytes(60), bytes(40)),
    ],
)
def test_a_result_survives_its_encoding(result: Result) -> None:
    encoded = wire.encode_result(result)
    assert len(encoded) <= wire.result_bound(LIMITS)
    assert wire.decode_result(encoded, LIMITS) == result


@pytest.mark.parametrize(
    "result",
    [
        Result(Outcome.COMPLETED, None),
        Result(Outcome.TRAP, 0),
        Result(Outcome.TIMEOUT),
        Result(Outcome.CANCELLED),
        Result(Outcome.TOO_SLOW),
        Result(Outcome.UNKNOWN_RUNTIME),
        Result(Outcome.COMPLETED, 0, fuel=1001),
        Result(Outcome.COMPLETED, 0, memory=LIMITS.memory + 1),
        Result(Outcome.COMPLETED, 0, stdout=bytes(51), stderr=bytes(50)),
    ],
)
def test_a_process_cannot_claim_what_cannot_be(result: Result) -> None:
    with pytest.raises(WireError):
        wire.decode_result(wire.encode_result(result), LIMITS)


def test_a_result_is_taken_whole_or_not_at_all() -> None:
    encoded = wire.encode_result(RESULT)
    for end in range(len(encoded)):
        with pytest.raises(WireError):
            wire.decode_result(encoded[:end], LIMITS)
    with pytest.raises(WireError):
        wire.decode_result(encoded + b"\0", LIMITS)


@given(st.integers(0, 2**50), st.integers(0, 2**50), st.booleans())
def test_a_reading_and_a_grant_survive_their_encoding(
    fuel: int, microseconds: int, paused: bool
) -> None:
    reading = Reading(fuel, microseconds / 1e6, paused)
    body = wire.encode_reading(reading)
    assert len(body) == wire.READING_SIZE
    decoded = wire.decode_reading(Frame.PAUSED if paused else Frame.PROGRESS, body)
    assert decoded == reading
    assert wire.decode_grant(wire.encode_grant(fuel)) == fuel


@given(st.binary(max_size=200))
def test_any_bytes_are_a_result_or_a_wire_error(body: bytes) -> None:
    for decode in (
        lambda: wire.decode_result(body, LIMITS),
        lambda: wire.decode_task(body, bytes),
        lambda: wire.decode_output(body),
        lambda: wire.decode_reading(Frame.PAUSED, body),
        lambda: wire.decode_grant(body),
        lambda: wire.decode_refusal(body),
        lambda: wire.decode_packet(body),
    ):
        with contextlib.suppress(WireError):
            decode()


@given(st.integers(0, len(wire.encode_result(RESULT)) - 1), st.integers(0, 255))
def test_a_result_with_a_byte_changed_stays_within_the_limits(at: int, byte: int) -> None:
    body = bytearray(wire.encode_result(RESULT))
    body[at] = byte
    try:
        result = wire.decode_result(bytes(body), LIMITS)
    except WireError:
        return
    assert result.fuel <= LIMITS.fuel
    assert len(result.stdout) + len(result.stderr) <= LIMITS.output
    assert result.reason.isprintable()


def test_reasons_from_a_process_are_one_printable_line() -> None:
    hostile = Result(Outcome.TRAP, reason="a\x1b[31m\nb" + "x" * 4000)
    reason = wire.decode_result(wire.encode_result(hostile), LIMITS).reason
    assert reason.startswith("a?[31m b")
    assert len(reason) == 500
    refusal = ModuleRefused(Outcome.INVALID_MODULE, "a\nb\x07")
    assert wire.decode_refusal(wire.encode_refusal(refusal)).reason == "a b?"


@pytest.mark.parametrize("body", [b"", b"\0why", b"\x04why", b"\x0cwhy", b"\xffwhy"])
def test_a_refusal_has_an_outcome_of_its_own(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_refusal(body)


def test_frames_are_bounded_before_they_are_read() -> None:
    bounds = {Frame.RESULT: 10, Frame.REFUSED: 5}
    assert wire.frame_length(wire.HEADER.pack(Frame.RESULT, 10), bounds) == (Frame.RESULT, 10)
    for kind, length in ((Frame.RESULT, 11), (Frame.REFUSED, 6), (Frame.LOADED, 0), (99, 0)):
        with pytest.raises(WireError):
            wire.frame_length(wire.HEADER.pack(kind, length), bounds)


def test_control_packets_survive_their_encoding() -> None:
    packet = Packet(Control.EXITED, 7, -1)
    assert wire.decode_packet(wire.encode_packet(packet)) == packet


def report(missing: str = "") -> JailReport:
    return JailReport(
        tuple(Layer(name, name != missing, "no such call") for name in (*MANDATORY, "empty_root"))
    )


def test_a_report_survives_its_encoding() -> None:
    assert decode_report(report("seccomp").encode()) == report("seccomp")
    assert "empty_root" in report().active
    assert [layer.name for layer in report("empty_root").missing] == ["empty_root"]


@pytest.mark.parametrize("missing", MANDATORY)
def test_a_mandatory_layer_cannot_be_missing(missing: str) -> None:
    report("empty_root").require()
    with pytest.raises(SandboxUnavailable, match=f"the layer {missing} .*no such call"):
        report(missing).require()
    with pytest.raises(SandboxUnavailable, match="was not reported"):
        JailReport(()).require()


@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "active", "detail"]), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_report_or_refused(data: bytes) -> None:
    with contextlib.suppress(SandboxUnavailable):
        decode_report(data)
