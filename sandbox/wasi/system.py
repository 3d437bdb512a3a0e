"""The whole of preview 1 for one task: which calls there are, and what each costs."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import SIGNATURES, GuestError
from fogbank.sandbox.wasi.clock import VirtualTime
from fogbank.sandbox.wasi.descriptors import Descriptors, Drain, Output
from fogbank.sandbox.wasi.fd_calls import FdCalls
from fogbank.sandbox.wasi.files import FileSystem
from fogbank.sandbox.wasi.memory import GuestMemory
from fogbank.sandbox.wasi.path_calls import PathCalls
from fogbank.sandbox.wasi.process import ProcessCalls

CALL_FUEL = 10_000
"""Fuel that every host call costs."""


class Guest(Protocol):
    """What the system sees of a running program."""

    def memory(self) -> memoryview:
        """Return the program's memory as it is now, writable."""

    def fuel_used(self) -> int:
        """Return the fuel used since the task began."""

    def charge(self, fuel: int) -> None:
        """Take fuel away; raise to end the program if there is not so much left."""


class System:
    """All of a task's state outside its memory, and the calls that reach it.

    `drain` takes what the program writes, in portions.
    """

    def __init__(self, task: Task, guest: Guest, drain: Drain | None = None) -> None:
        self._guest = guest
        self.output = Output(task.limits.output, drain)
        time = VirtualTime(guest.fuel_used)
        self._memory = memory = GuestMemory(guest.memory, self._settle)
        files = FileSystem(task.limits.memory, memory.count, time.real)
        files.place(task.files)
        descriptors = Descriptors(files, task.stdin, self.output)
        process = ProcessCalls(memory, descriptors, time, task)
        groups = {
            "fd": FdCalls(memory, descriptors, files, self.output),
            "path": PathCalls(memory, descriptors, files),
        }
        self._calls: dict[str, Callable[..., None]] = {
            name: getattr(groups.get(name.partition("_")[0], process), name) for name in SIGNATURES
        }

    def call(self, name: str, arguments: Sequence[int]) -> int:
        """Carry out one call, with unsigned arguments, and return its error number.

        Raises `ProcExit`, `OutputLimit`, or what the guest's `charge` raises: the program ends.
        """
        memory = self._memory
        memory.begin(CALL_FUEL)
        errno = 0
        try:
            self._calls[name](*arguments)
        except GuestError as error:
            errno = int(error.errno)
        self._guest.charge(memory.owed)
        return errno

    def _settle(self) -> None:
        owed, self._memory.owed = self._memory.owed, 0
        self._guest.charge(owed)
