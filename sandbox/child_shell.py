"""What a jailed process does: compile one module, or run one job's tasks.

It reads frames from its channel and answers on it until the channel closes. It is jailed before
it reads the first byte.
"""

import os
import time

import wasmtime

from fogbank.sandbox import wire
from fogbank.sandbox.data import PORTION
from fogbank.sandbox.jail_shell import CHANNEL
from fogbank.sandbox.limits import MODULE_SIZE
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.module_check import compile_module, compiled
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result, clean
from fogbank.sandbox.runner import Order, Runner
from fogbank.sandbox.wire import Frame

_CHUNK = 1 << 20
_PROGRESS_SECONDS = 0.1
"""How often a running task is heard of, at most."""
_TRUSTED = (1 << 32) - 1
"""The sandbox itself is on the other side: what it sends is bounded there."""
# What may come, made ready once: to name a member of an enumeration is to call a function.
_MODULE, _LOADED, _RESULT = Frame.MODULE, Frame.LOADED, Frame.RESULT
_MODULES = {Frame.MODULE: MODULE_SIZE}
_PROGRAMS = {Frame.ARTIFACT: _TRUSTED, Frame.MODULE: MODULE_SIZE}
_TASKS = {Frame.TASK: _TRUSTED}
_INPUTS = {Frame.INPUT: PORTION}
_GRANTS = {Frame.GRANT: wire.GRANT_SIZE}


def serve_compiler(engine: wasmtime.Engine) -> None:
    """Compile the one module that arrives."""
    received = _receive(_MODULES)
    if received is None:
        return
    try:
        _send(Frame.ARTIFACT, compile_module(engine, received[1]))
    except ModuleRefused as refusal:
        _refuse(refusal.outcome, refusal.reason)
    except MemoryError:
        _refuse(Outcome.COMPILE_LIMIT, "compiling needs more memory than is granted")


def serve_job(runner: Runner, engine: wasmtime.Engine) -> None:
    """Take compiled code, or a small module, then run tasks on it one by one."""
    received = _receive(_PROGRAMS)
    if received is None:
        return
    kind, body = received
    try:
        if kind is _MODULE:
            runner.take(compiled(engine, body))
        else:
            runner.load(body)
    except ModuleRefused as refusal:
        _refuse(refusal.outcome, refusal.reason)
        return
    except (wasmtime.WasmtimeError, MemoryError) as error:
        _refuse(Outcome.HOST_FAILURE, clean(str(error)))
        return
    del received, body
    _send(_LOADED, b"")
    while (order := receive_order()) is not None:
        send_result(runner.carry_out(order))


def receive_order() -> Order | None:
    """Wait for a task; return None once the channel is closed."""
    received = _receive(_TASKS)
    if received is None:
        return None
    return Order(*wire.decode_task(received[1], ChannelData), ChannelLine(), _send_output)


def send_result(result: Result) -> None:
    """Tell how a task ended."""
    _send(_RESULT, wire.encode_result(result))


class ChannelData:
    """An input that is asked for over this process's channel, once, from beginning to end.

    A program that does not read its input to the end has not asked for the rest.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._part = b""
        self._end = 0

    def __len__(self) -> int:
        """Return its length in bytes."""
        return self._size

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`, where the last ones ended."""
        at = start - self._end + len(self._part)
        if at == len(self._part) and start < self._size:
            self._part, at = self._next(), 0
        return self._part[at : at + size]

    def _next(self) -> bytes:
        _send(Frame.WANT, b"")
        received = _receive(_INPUTS)
        if received is None:
            # The sandbox is gone; there is nobody to run for.
            os._exit(0)
        self._end += len(received[1])
        return received[1]


class ChannelLine:
    """A task's line to the sandbox (`meter.Line`), over this process's channel.

    The clocks here time messages and nothing else: no program sees them.
    """

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def progress(self, fuel: int) -> None:
        """Say how far the task is, now and then."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            _send(Frame.PROGRESS, self._reading(fuel))

    def pause(self, fuel: int) -> int:
        """Say that the task waits, and wait for a grant."""
        _send(Frame.PAUSED, self._reading(fuel))
        received = _receive(_GRANTS)
        if received is None:
            # The sandbox is gone; there is nobody to run for.
            os._exit(0)
        self._next = time.monotonic() + _PROGRESS_SECONDS
        return wire.decode_grant(received[1])

    def _reading(self, fuel: int) -> bytes:
        return wire.encode_reading(Reading(fuel, time.process_time() - self._cpu))


def _send_output(stream: int, part: bytearray) -> None:
    _send(Frame.OUTPUT, wire.encode_output(stream, part))


def _refuse(outcome: Outcome, reason: str) -> None:
    _send(Frame.REFUSED, wire.encode_refusal(ModuleRefused(outcome, reason)))


def _receive(bounds: dict[Frame, int]) -> tuple[Frame, bytes] | None:
    """Return the next frame, or None once the channel is closed."""
    header = _read(wire.HEADER.size)
    if header is None:
        return None
    kind, length = wire.frame_length(header, bounds)
    body = _read(length)
    return None if body is None else (kind, body)


def _read(count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(CHANNEL, min(count - len(parts), _CHUNK))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _send(kind: Frame, body: bytes) -> None:
    header = wire.HEADER.pack(kind, len(body))
    # Two pieces would wake the sandbox twice.
    for part in (header + body,) if len(body) < _CHUNK else (header, body):
        left = memoryview(part)
        while left:
            left = left[os.write(CHANNEL, left[:_CHUNK]) :]
