"""A task's fuel in its owner's hands: grants go in, readings come out (spec/07 §5.1)."""

from collections.abc import Callable

import trio

from fogbank.sandbox.limits import CEILINGS
from fogbank.sandbox.meter import Reading

OnReading = Callable[[Reading], None]
"""Hears how far a task is, some ten times a second, and when it pauses; must not raise."""


class Supply:
    """The fuel that a task may use so far, and what is known of its use.

    `granted`: units in all, growing; at first everything, if not said otherwise. `reading`: the
    last word of the task's meter.
    """

    def __init__(self, granted: int = CEILINGS.fuel, on_reading: OnReading | None = None) -> None:
        self.granted = granted
        self.reading = Reading()
        self._on_reading = on_reading
        self._more = trio.Event()

    def grant(self, total: int) -> None:
        """Let the task use `total` units in all; less than before changes nothing."""
        if total > self.granted:
            self.granted = total
            self._more.set()
            self._more = trio.Event()

    def hear(self, reading: Reading) -> None:
        """Take note of a reading, and pass it on."""
        self.reading = reading
        if self._on_reading is not None:
            self._on_reading(reading)

    async def beyond(self, fuel: int) -> int:
        """Wait until more than `fuel` is granted, and return how much."""
        while self.granted <= fuel:
            await self._more.wait()
        return self.granted
