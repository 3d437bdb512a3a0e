"""The whole of preview 1 for one task: which calls there are, and what each costs."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import SIGNATURES, GuestError
from fogbank.sandbox.wasi.clock import VirtualTime
from fogbank.sandbox.wasi.descriptors import Descriptors, Output
from fogbank.sandbox.wasi.fd_calls import FdCalls
from fogbank.sandbox.wasi.files import FileSystem
from fogbank.sandbox.wasi.memory import GuestMemory
from fogbank.sandbox.wasi.path_calls import PathCalls
from fogbank.sandbox.wasi.process import ProcessCalls, Strings

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
    """All of a task's state outside its memory, and the calls that reach it."""

    def __init__(self, task: Task, guest: Guest) -> None:
        self._guest = guest
        self.output = Output(task.limits.output)
        time = VirtualTime(guest.fuel_used)
        self._memory = memory = GuestMemory(guest.memory, self._settle)
        self._files = FileSystem(task.limits.memory, memory.count, time.real)
        self._descriptors = Descriptors(self._files, self.output)
        self._process = ProcessCalls(memory, self._descriptors, time)
        groups = {
            "fd": FdCalls(memory, self._descriptors, self._files, self.output),
            "path": PathCalls(memory, self._descriptors, self._files),
        }
        self._calls: dict[str, Callable[..., None]] = {
            name: getattr(groups.get(name.partition("_")[0], self._process), name)
            for name in SIGNATURES
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
        self._process.args = Strings(task.args)
        self._process.environ = Strings(f"{name}={value}" for name, value in task.env)
        self._process.seed, self._process.draws = task.seed, 0

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
