"""Time as a task sees it (spec/07 §7.1)."""

from collections.abc import Callable

from fogbank.sandbox.wasi.abi import Clock, Errno, GuestError

EPOCH = 1_735_689_600_000_000_000
"""What the real-time clock shows when a task begins: 2025-01-01T00:00:00Z, in nanoseconds."""
_MOST_TIME = 1 << 62


class VirtualTime:
    """Time as a task sees it: one nanosecond for each unit of fuel, and what it slept."""

    def __init__(self, fuel_used: Callable[[], int]) -> None:
        self._fuel_used = fuel_used
        self._slept = 0

    def real(self) -> int:
        """Return what the real-time clock shows, in nanoseconds."""
        return EPOCH + self._fuel_used() + self._slept

    def now(self, clock: int) -> int:
        """Return the time of `clock` in nanoseconds."""
        if clock == Clock.REALTIME:
            return self.real()
        if clock == Clock.MONOTONIC:
            return self._fuel_used() + self._slept
        if clock in {Clock.PROCESS_CPU, Clock.THREAD_CPU}:
            return self._fuel_used()
        raise GuestError(Errno.INVAL)

    def sleep(self, nanoseconds: int) -> None:
        """Let time pass at once."""
        self._slept = min(self._slept + max(nanoseconds, 0), _MOST_TIME)
