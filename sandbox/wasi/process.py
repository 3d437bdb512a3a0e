"""Calls about the process: arguments, environment, clocks, randomness, waiting, ending."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from fogbank.sandbox.wasi.abi import (
    CLOCK_ABSOLUTE,
    EVENT_CLOCK,
    EVENT_READ,
    EVENT_WRITE,
    Clock,
    Errno,
    GuestError,
)
from fogbank.sandbox.wasi.descriptors import Descriptors
from fogbank.sandbox.wasi.memory import GuestMemory

EPOCH = 1_735_689_600_000_000_000
"""What the real-time clock shows when a task begins: 2025-01-01T00:00:00Z, in nanoseconds."""
SUBSCRIPTIONS = 1024
_MOST_TIME = 1 << 62
_CLOCK_ID = struct.Struct("<I4xQQH")
_EVENT = struct.Struct("<QHB5xQH6x")


class ProcExit(Exception):
    """The program ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class VirtualTime:
    """Time as a task sees it: one nanosecond for each unit of fuel, and what it slept."""

    def __init__(self, fuel_used: Callable[[], int]) -> None:
        self._fuel_used = fuel_used
        self._slept = 0

    def now(self, clock: int) -> int:
        """Return the time of `clock` in nanoseconds."""
        if clock == Clock.REALTIME:
            return EPOCH + self._fuel_used() + self._slept
        if clock == Clock.MONOTONIC:
            return self._fuel_used() + self._slept
        if clock in {Clock.PROCESS_CPU, Clock.THREAD_CPU}:
            return self._fuel_used()
        raise GuestError(Errno.INVAL)

    def sleep(self, nanoseconds: int) -> None:
        """Let time pass at once."""
        self._slept = min(self._slept + max(nanoseconds, 0), _MOST_TIME)


@dataclass(frozen=True, slots=True)
class _Wait:
    """One subscription: ready now (`remaining` 0) or once `remaining` nanoseconds have passed."""

    userdata: int
    kind: int
    errno: Errno
    remaining: int


class ProcessCalls:
    """The calls of this module, as methods named like them."""

    def __init__(
        self,
        memory: GuestMemory,
        descriptors: Descriptors,
        time: VirtualTime,
        strings: tuple[tuple[bytes, ...], tuple[bytes, ...]],
        seed: bytes,
    ) -> None:
        """Take arguments and environment as `strings`, each item ended by a NUL byte."""
        self._memory = memory
        self._descriptors = descriptors
        self._time = time
        self._args, self._environ = strings
        self._seed = seed
        self._draws = 0

    def args_get(self, pointers: int, buffer: int) -> None:
        """Write the arguments, and where each begins."""
        self._put_strings(self._args, pointers, buffer)

    def args_sizes_get(self, count: int, size: int) -> None:
        """Write how many arguments there are, and how many bytes."""
        self._put_sizes(self._args, count, size)

    def environ_get(self, pointers: int, buffer: int) -> None:
        """Write the environment, and where each variable begins."""
        self._put_strings(self._environ, pointers, buffer)

    def environ_sizes_get(self, count: int, size: int) -> None:
        """Write how many variables there are, and how many bytes."""
        self._put_sizes(self._environ, count, size)

    def clock_res_get(self, clock: int, result: int) -> None:
        """Every clock counts single nanoseconds."""
        self._time.now(clock)
        self._memory.write_u64(result, 1)

    def clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        """Write what `clock` shows."""
        self._memory.write_u64(result, self._time.now(clock))

    def random_get(self, buffer: int, length: int) -> None:
        """Write bytes that follow from the task's seed (spec/07 §7.1)."""
        self._memory.span(buffer, length)
        label = b"fogbank sandbox random" + self._seed + struct.pack("<Q", self._draws)
        self._draws += 1
        self._memory.write(buffer, hashlib.shake_256(label).digest(length))

    def sched_yield(self) -> None:
        """There is nobody to yield to."""

    def proc_exit(self, code: int) -> None:
        """End the program."""
        raise ProcExit(code)

    def poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> None:
        """Wait for the first of some events; what would be waited for passes at once."""
        if not 0 < count <= SUBSCRIPTIONS:
            raise GuestError(Errno.INVAL)
        raw = self._memory.read(subscriptions, 48 * count)
        waits = [self._subscribed(raw[at : at + 48]) for at in range(0, len(raw), 48)]
        least = min(wait.remaining for wait in waits)
        self._time.sleep(least)
        due = [wait for wait in waits if wait.remaining <= least]
        self._memory.span(events, 32 * count)
        self._memory.write(
            events, b"".join(_EVENT.pack(w.userdata, w.errno, w.kind, 0, 0) for w in due)
        )
        self._memory.write_u32(result, len(due))

    def _subscribed(self, raw: bytes) -> _Wait:
        userdata, kind = struct.unpack_from("<QB", raw)
        if kind == EVENT_CLOCK:
            clock, timeout, _, flags = _CLOCK_ID.unpack_from(raw, 16)
            try:
                now = self._time.now(clock)
            except GuestError as error:
                return _Wait(userdata, kind, error.errno, 0)
            past = now if flags & CLOCK_ABSOLUTE else 0
            return _Wait(userdata, kind, Errno.SUCCESS, max(timeout - past, 0))
        if kind not in {EVENT_READ, EVENT_WRITE}:
            raise GuestError(Errno.INVAL)
        try:
            self._descriptors.get(struct.unpack_from("<I", raw, 16)[0])
        except GuestError as error:
            return _Wait(userdata, kind, error.errno, 0)
        return _Wait(userdata, kind, Errno.SUCCESS, 0)

    def _put_strings(self, strings: tuple[bytes, ...], pointers: int, buffer: int) -> None:
        self._memory.span(pointers, 4 * len(strings))
        self._memory.write(buffer, b"".join(strings))
        starts, at = bytearray(), buffer
        for string in strings:
            starts += struct.pack("<I", at)
            at += len(string)
        self._memory.write(pointers, bytes(starts))

    def _put_sizes(self, strings: tuple[bytes, ...], count: int, size: int) -> None:
        self._memory.write_u32(count, len(strings))
        self._memory.write_u32(size, sum(len(string) for string in strings))
