"""One running instance: its memory, its fuel, and its way back to whoever watches it."""

import wasmtime

from fogbank.sandbox import fuel_yield
from fogbank.sandbox.host_calls import Gauge
from fogbank.sandbox.meter import Line, Meter


class OutOfFuel(Exception):
    """A host call cost more fuel than was left."""


class Unbound(Exception):
    """The module called the host from its start section, before it had a memory to speak of."""


class Execution:
    """A running program, as the system sees it (`wasi.system.Guest`).

    The store holds the task's whole fuel; where the program has to stop before that is the
    meter's matter, and done by yields and at host calls.
    """

    def __init__(self, store: wasmtime.Store, limit: int, granted: int, line: Line) -> None:
        self._store = store
        self._gauge = Gauge(store)
        self._memory: wasmtime.Memory | None = None
        self._view = memoryview(bytearray())
        self._step = 0
        self.begin(limit, granted, line)

    def begin(self, limit: int, granted: int, line: Line) -> None:
        """Count the program's fuel from here on, up to `limit`.

        A host call may do this, for a process that goes on with a task after it was forked.
        """
        self._meter = Meter(limit, granted, line)
        self._low = 0
        self._gauge.set(limit)
        self.look()

    def bind(self, memory: wasmtime.Memory) -> None:
        """Make the instance's memory known, once there is one."""
        self._memory = memory
        self._gauge.watch(memory)

    def memory(self) -> memoryview:
        """Return the memory as it is now. It can have moved only if it has grown."""
        if self._memory is None:
            raise Unbound
        size = self._gauge.memory_size()
        if size != len(self._view):
            self._view = self._gauge.memory(size)
        return self._view

    def memory_extent(self) -> tuple[int, int]:
        """Return where the memory, which there must be, begins and ends."""
        begin = self._gauge.memory_begin()
        return begin, begin + self._gauge.memory_size()

    def memory_size(self) -> int:
        """Return the memory's present size in bytes."""
        return self._gauge.memory_size()

    def fuel_used(self) -> int:
        """Return the fuel used so far."""
        return self._meter.limit - self._gauge.read()

    def charge(self, fuel: int) -> None:
        """Take fuel away, or end the program with none left; wait if more must be granted."""
        left = self._gauge.take(fuel)
        if left < 0:
            self._gauge.set(0)
            raise OutOfFuel
        if left <= self._low:
            self.look()

    def look(self) -> None:
        """Tell how far the program has got; wait here if it has used up what was granted."""
        meter = self._meter
        meter.look(self.fuel_used())
        self._low = meter.limit - meter.mark
        if meter.step != self._step:
            fuel_yield.set_interval(self._store, meter.step)
            self._step = meter.step

    def settle(self, used: int) -> None:
        """Wait until all that the program has used, now that it has ended, has been granted."""
        self._meter.settle(used)
