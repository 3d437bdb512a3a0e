"""The whole of preview 1 for one task: which calls there are, and what each costs."""

from collections.abc import Callable
from typing import Protocol

from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import NO_RESULT, SIGNATURES, Errno, GuestError
from fogbank.sandbox.wasi.clock import VirtualTime
from fogbank.sandbox.wasi.descriptors import Descriptors, Output
from fogbank.sandbox.wasi.fd_calls import FdCalls
from fogbank.sandbox.wasi.files import FileSystem
from fogbank.sandbox.wasi.memory import GuestMemory
from fogbank.sandbox.wasi.path_calls import PathCalls
from fogbank.sandbox.wasi.process import ProcessCalls

CALL_FUEL = 10_000
"""Fuel that every host call costs."""
BYTE_FUEL = 1
"""Fuel for each byte that a host call copies into or out of the guest, or adds to a file."""
_SETTLE = 1 << 20
_MASKS = {"i": 0xFFFF_FFFF, "I": 0xFFFF_FFFF_FFFF_FFFF}


class Guest(Protocol):
    """What the system sees of a running program."""

    def memory(self) -> memoryview:
        """Return the program's memory as it is now, writable."""

    def fuel_used(self) -> int:
        """Return the fuel used since the task began."""

    def charge(self, fuel: int) -> None:
        """Take fuel away; raise to end the program if there is not so much left."""


class System:
    """All of a task's state outside its memory, and the calls that reach it."""

    def __init__(self, task: Task, guest: Guest) -> None:
        self._guest = guest
        self._owed = 0
        self.output = Output(task.limits.output)
        time = VirtualTime(guest.fuel_used)
        self._files = FileSystem(task.limits.memory, self._moved, time.real)
        self._descriptors = Descriptors(self._files, self.output)
        memory = GuestMemory(guest.memory, self._moved)
        self._process = ProcessCalls(memory, self._descriptors, time)
        groups = (
            self._process,
            FdCalls(memory, self._descriptors, self._files, self.output),
            PathCalls(memory, self._descriptors, self._files),
        )
        self._calls: dict[str, Callable[..., None]] = {
            name: getattr(group, name)
            for group in groups
            for name in SIGNATURES
            if hasattr(group, name)
        }
        self.give(task)

    def give(self, task: Task) -> None:
        """Put a task's data where the program finds them: strings, seed, input, files, limits.

        Besides the first time this may happen once more, in a copy of a program that has started
        and has seen none of it yet: what it has made by then stays.
        """
        self.output.limit = task.limits.output
        self._files.capacity = task.limits.memory
        self._files.place(task.files)
        self._descriptors.stdin.data = bytearray(task.stdin)
        self._process.args = tuple(arg.encode() + b"\0" for arg in task.args)
        self._process.environ = tuple(
            f"{name}={value}".encode() + b"\0" for name, value in task.env
        )
        self._process.seed, self._process.draws = task.seed, 0

    def call(self, name: str, arguments: tuple[int, ...]) -> int | None:
        """Carry out one call: return its error number, or None where it has no result.

        Raises `ProcExit`, `OutputLimit`, or what the guest's `charge` raises: the program ends.
        """
        self._owed = CALL_FUEL
        masked = (
            value & _MASKS[kind] for value, kind in zip(arguments, SIGNATURES[name], strict=True)
        )
        errno = Errno.SUCCESS
        function = self._calls.get(name)
        if function is None:
            errno = Errno.NOSYS
        else:
            try:
                function(*masked)
            except GuestError as error:
                errno = error.errno
        self._settle()
        return None if name in NO_RESULT else int(errno)

    def _moved(self, count: int) -> None:
        """Count bytes; large amounts are paid before they are copied."""
        self._owed += count * BYTE_FUEL
        if self._owed >= _SETTLE:
            self._settle()

    def _settle(self) -> None:
        owed, self._owed = self._owed, 0
        self._guest.charge(owed)
