"""The speed floor: who uses less fuel per second than the worker's owner puts up with (spec/07 §5).

Pure. Fuel is not time: code that waits for memory with each step uses hundreds of times less of it
per second than other code. The floor is of CPU time, so that a busy machine convicts nobody, and
slow moments do not count: only one slow window after another does.
"""

WINDOW = 2.0
"""Seconds of CPU time that are judged together."""
STRIKES = 3
"""Slow windows, with no fast one between them, that make a task too slow."""
_FAST = 1.25
"""A window so much above the floor clears all slow ones before it; one in between does nothing."""


class SpeedFloor:
    """Judges one task; `rate` is fuel per second of CPU time, 0 for no floor at all."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._fuel = 0
        self._cpu = 0.0
        self._strikes = 0

    def hear(self, fuel: int, cpu_seconds: float) -> bool:
        """Hear of a task's use so far; return whether it is too slow."""
        seconds = cpu_seconds - self._cpu
        if seconds < WINDOW:
            return False
        speed = (fuel - self._fuel) / seconds
        self._fuel, self._cpu = fuel, cpu_seconds
        if speed < self._rate:
            # One reading may come after many windows' time: it counts for all of them.
            self._strikes += int(seconds / WINDOW)
        elif speed >= _FAST * self._rate:
            self._strikes = 0
        return self._strikes >= STRIKES
