"""The decoders of the sandbox: its processes are hostile too, and it has an error of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fogbank.sandbox.jail import MANDATORY, JailReport, Layer, SandboxUnavailable, decode_report
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.process_shell import _read_report
from fogbank.sandbox.task import SEED_SIZE, Task
from fogbank.sandbox.wire import (
    HEADER,
    INLINE,
    REPORT,
    Control,
    Frame,
    Packet,
    WireError,
    decode_packet,
    decode_reading,
    decode_refusal,
    decode_result,
    decode_task,
    encode_packet,
    encode_reading,
    encode_refusal,
    encode_result,
    encode_task,
    frame_length,
)
from tests.fuzz.kinds import Decoder, Form

REPORTED = JailReport(tuple(Layer(name, active=True) for name in MANDATORY))
TASK = Task(
    args=("a", "b"),
    env=(("N", "v"),),
    files=(("f", b"data"),),
    stdin=b"in",
    limits=Limits(),
    seed=bytes(SEED_SIZE),
)


@dataclass(frozen=True, slots=True)
class Unread:
    """An input that is to be asked for, and is not."""

    size: int

    def __len__(self) -> int:
        return self.size

    def read(self, start: int, size: int) -> bytes:
        raise AssertionError((start, size))


BOUNDS = {Frame.RESULT: 4096, Frame.REFUSED: 16}


def frame_header(data: bytes) -> tuple[Frame, int]:
    """Read a frame's header, of which there are always as many bytes as it has."""
    return frame_length(data.ljust(HEADER.size, b"\0")[: HEADER.size], BOUNDS)


SANDBOX = [
    Decoder(
        "packet",
        decode_packet,
        encode_packet(Packet(Control.EXITED, 7, -9)),
        WireError,
        again=encode_packet,
        form=Form.BYTES,
    ),
    Decoder(
        "frame header",
        frame_header,
        HEADER.pack(Frame.RESULT, 4096),
        WireError,
        exact=False,
        form=Form.BYTES,
        limit=8,
    ),
    Decoder(
        "task",
        lambda b: decode_task(b, Unread),
        encode_task(TASK, 1),
        WireError,
        more=(encode_task(replace(TASK, stdin=bytes(INLINE + 1)), 1),),
        again=lambda decoded: encode_task(*decoded),
        form=Form.BYTES,
    ),
    Decoder(
        "reading of a meter",
        lambda b: decode_reading(Frame.PROGRESS, b),
        encode_reading(Reading(1 << 40, 0.5)),
        WireError,
        again=encode_reading,
        form=Form.BYTES,
    ),
    Decoder(
        "result",
        lambda b: decode_result(b, Limits()),
        encode_result(Result(Outcome.COMPLETED, 0, 5, b"out", b"err", "")),
        WireError,
        more=(encode_result(Result(Outcome.TRAP, None, 5, b"out", b"err", "why")),),
        again=encode_result,
        # A reason is cleaned of control characters, and cut.
        canonical=False,
        form=Form.BYTES,
    ),
    Decoder(
        "refusal",
        decode_refusal,
        encode_refusal(ModuleRefused(Outcome.INVALID_MODULE, "why")),
        WireError,
        exact=False,
        again=encode_refusal,
        canonical=False,
        form=Form.BYTES,
    ),
    Decoder(
        "jail report",
        decode_report,
        REPORTED.encode(),
        SandboxUnavailable,
        again=lambda report: report.encode(),
        canonical=False,
        form=Form.JSON,
    ),
    Decoder(
        "launcher's first packet",
        _read_report,
        REPORT + REPORTED.encode(),
        SandboxUnavailable,
        exact=False,
        form=Form.BYTES,
    ),
]
