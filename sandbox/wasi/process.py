"""Calls about the process: arguments, environment, clocks, randomness, waiting, ending."""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import (
    CLOCK_ABSOLUTE,
    EVENT_CLOCK,
    EVENT_HANGUP,
    EVENT_READ,
    EVENT_WRITE,
    RIGHT_POLL,
    Errno,
    GuestError,
)
from fogbank.sandbox.wasi.clock import VirtualTime
from fogbank.sandbox.wasi.descriptors import Descriptors, OpenDirectory, OpenFile, Source
from fogbank.sandbox.wasi.memory import GuestMemory

SUBSCRIPTIONS = 1024
SIGNALS = 30
"""The signals of preview 1 are numbered from 1 to here."""
_HARMLESS = frozenset({0, 16, 17, 22, 27})
"""No signal, CHLD, CONT, URG, WINCH: they do nothing to a program that handles none."""
_STOPPING = frozenset({18, 19, 20, 21})
"""STOP, TSTP, TTIN, TTOU: nobody could make the program go on."""
_KILLED = 128
"""A program ended by a signal exits with its number above this, as shells have it."""
_CLOCK_ID = struct.Struct("<I4xQQH")
_EVENT = struct.Struct("<QHB5xQH6x")


class ProcExit(Exception):
    """The program ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Wait:
    """One subscription: ready now (`remaining` 0) or once `remaining` nanoseconds have passed.

    `size` and `flags` are what a descriptor's event tells: bytes to be read, whether no more come.
    """

    userdata: int
    kind: int
    errno: Errno = Errno.SUCCESS
    remaining: int = 0
    size: int = 0
    flags: int = 0


class _Strings:
    """Arguments or environment as a program gets them: each ended by a NUL byte, on end."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        encoded = [string.encode() + b"\0" for string in strings]
        ends = tuple(accumulate(map(len, encoded)))
        self.joined = b"".join(encoded)
        self.starts = (0, *ends)[: len(encoded)]


class ProcessCalls:
    """The calls of this module, as methods named like them."""

    def __init__(
        self,
        memory: GuestMemory,
        descriptors: Descriptors,
        time: VirtualTime,
        task: Task,
    ) -> None:
        self._memory = memory
        self._descriptors = descriptors
        self._time = time
        self._args = _Strings(task.args)
        self._environ = _Strings(f"{name}={value}" for name, value in task.env)
        self._seed = task.seed
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
        part = self._memory.part(buffer, length)
        label = b"fogbank sandbox random" + self._seed + struct.pack("<Q", self._draws)
        self._draws += 1
        part[:] = hashlib.shake_256(label).digest(length)

    def sched_yield(self) -> None:
        """There is nobody to yield to."""

    def proc_exit(self, code: int) -> None:
        """End the program."""
        raise ProcExit(code)

    def proc_raise(self, signal: int) -> None:
        """Send the program a signal, which ends it unless that signal does nothing."""
        if signal > SIGNALS:
            raise GuestError(Errno.INVAL)
        if signal in _STOPPING:
            raise GuestError(Errno.NOTSUP)
        if signal not in _HARMLESS:
            raise ProcExit(_KILLED + signal)

    def sock_accept(self, fd: int, _flags: int, _result: int) -> None:
        """There are no sockets."""
        self._no_socket(fd)

    def sock_recv(
        self, fd: int, _vectors: int, _count: int, _flags: int, _result: int, _result_flags: int
    ) -> None:
        """There are no sockets."""
        self._no_socket(fd)

    def sock_send(self, fd: int, _vectors: int, _count: int, _flags: int, _result: int) -> None:
        """There are no sockets."""
        self._no_socket(fd)

    def sock_shutdown(self, fd: int, _how: int) -> None:
        """There are no sockets."""
        self._no_socket(fd)

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
        told = (_EVENT.pack(w.userdata, w.errno, w.kind, w.size, w.flags) for w in due)
        self._memory.write(events, b"".join(told))
        self._memory.write_u32(result, len(due))

    def _subscribed(self, raw: bytes) -> _Wait:
        userdata, kind = struct.unpack_from("<QB", raw)
        try:
            if kind == EVENT_CLOCK:
                return _Wait(userdata, kind, remaining=self._remaining(raw))
            if kind in {EVENT_READ, EVENT_WRITE}:
                size, flags = self._ready(struct.unpack_from("<I", raw, 16)[0], kind)
                return _Wait(userdata, kind, size=size, flags=flags)
        except GuestError as error:
            return _Wait(userdata, kind, error.errno)
        raise GuestError(Errno.INVAL)

    def _remaining(self, raw: bytes) -> int:
        """Return in how many nanoseconds a clock's subscription is due."""
        clock, timeout, _, flags = _CLOCK_ID.unpack_from(raw, 16)
        now = self._time.now(clock)
        if flags & ~CLOCK_ABSOLUTE:
            raise GuestError(Errno.INVAL)
        past = now if flags & CLOCK_ABSOLUTE else 0
        return int(max(timeout - past, 0))

    def _ready(self, fd: int, kind: int) -> tuple[int, int]:
        """Return how many bytes a descriptor has to be read, and flags: it is always ready."""
        found = self._descriptors.get(fd, RIGHT_POLL)
        if isinstance(found, OpenDirectory):
            raise GuestError(Errno.BADF)
        if kind == EVENT_READ and isinstance(found, Source):
            return found.left, 0 if found.left else EVENT_HANGUP
        if kind == EVENT_READ and isinstance(found, OpenFile):
            return max(len(found.node.data) - found.offset, 0), 0
        return 0, 0

    def _no_socket(self, fd: int) -> None:
        if isinstance(self._descriptors.get(fd), OpenDirectory):
            raise GuestError(Errno.BADF)
        raise GuestError(Errno.NOTSOCK)

    def _put_strings(self, strings: _Strings, pointers: int, buffer: int) -> None:
        self._memory.span(pointers, 4 * len(strings.starts))
        self._memory.write(buffer, strings.joined)
        addresses = (buffer + start for start in strings.starts)
        self._memory.write(pointers, struct.pack(f"<{len(strings.starts)}I", *addresses))

    def _put_sizes(self, strings: _Strings, count: int, size: int) -> None:
        self._memory.write_u32(count, len(strings.starts))
        self._memory.write_u32(size, len(strings.joined))
