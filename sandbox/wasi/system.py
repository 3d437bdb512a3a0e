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

_GROUPS: dict[str, type] = {
    name: {"fd": FdCalls, "path": PathCalls}.get(name.partition("_")[0], ProcessCalls)
    for name in SIGNATURES
}


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
        self._task = task
        self._guest = guest
        self.output = Output(task.limits.output, drain)
        self._time = VirtualTime(guest.fuel_used)
        self._memory = memory = GuestMemory(guest.memory, self._settle)
        self._files = FileSystem(task.limits.memory, memory.count, self._time.real)
        self._files.place(task.files)
        self._descriptors = Descriptors(self._files, task.stdin, self.output)
        # What is called is made then: a program makes few of the calls, and most tasks are short.
        self._groups: dict[type, object] = {}
        self._calls: dict[str, Callable[..., None]] = {}

    def call(self, name: str, arguments: Sequence[int]) -> int:
        """Carry out one call, with unsigned arguments, and return its error number.

        Raises `ProcExit`, `OutputLimit`, or what the guest's `charge` raises: the program ends.
        """
        memory = self._memory
        memory.begin(CALL_FUEL)
        errno = 0
        try:
            (self._calls.get(name) or self._find(name))(*arguments)
        except GuestError as error:
            errno = int(error.errno)
        self._guest.charge(memory.owed)
        return errno

    def _find(self, name: str) -> Callable[..., None]:
        kind = _GROUPS[name]
        if kind not in self._groups:
            self._groups[kind] = self._group(kind)
        call: Callable[..., None] = getattr(self._groups[kind], name)
        self._calls[name] = call
        return call

    def _group(self, kind: type) -> object:
        if kind is FdCalls:
            return FdCalls(self._memory, self._descriptors, self._files, self.output)
        if kind is PathCalls:
            return PathCalls(self._memory, self._descriptors, self._files)
        return ProcessCalls(self._memory, self._descriptors, self._time, self._task)

    def _settle(self) -> None:
        owed, self._memory.owed = self._memory.owed, 0
        self._guest.charge(owed)
