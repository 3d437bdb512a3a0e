"""What of a task's fuel is used and granted, and where it must stop (spec/07 §5).

Pure: it is asked at points of a program's run how far the program may go from there. Between the
points it costs nothing.
"""

from dataclasses import dataclass
from typing import Protocol

INTERVAL = 50_000_000
"""Fuel after which a program is looked at: some 2 ms of fast code, 0.4 s of the slowest."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A task's meter while it runs: fuel used of what was granted, seconds of CPU time so far."""

    fuel: int = 0
    cpu_seconds: float = 0.0
    is_paused: bool = False


class Line(Protocol):
    """Who hears how far a task has got, and grants it more."""

    def progress(self, fuel: int) -> None:
        """Hear that so much is used. Called often: it is the line's matter what it passes on."""

    def pause(self, fuel: int) -> int:
        """Hear that the task has used up the `fuel` granted; return the new total, once there."""


class Silent:
    """A line for a task that has all its fuel and whose progress nobody watches."""

    def progress(self, fuel: int) -> None:
        """Tell nobody."""

    def pause(self, fuel: int) -> int:
        """Never happens: such a task has all its fuel from the start."""
        raise ValueError(f"a task stopped at {fuel} whose fuel nobody grants")


class Meter:
    """The fuel of one task: `limit` in all, of which `granted` so far.

    `step`: how much fuel may be used until the next look. `mark`: from this use on a host call
    must have a look too, since it begins the count of a step anew.
    """

    def __init__(self, limit: int, granted: int, line: Line) -> None:
        self.limit = limit
        self.granted = min(granted, limit)
        self.step = 1
        self.mark = 0
        self._line = line

    def look(self, used: int) -> None:
        """Take note of what is used; wait here if that is all that was granted."""
        self._line.progress(min(used, self.granted))
        while self.granted < self.limit and used >= self.granted:
            self._wait()
        if self.granted == self.limit:
            self.step, self.mark = INTERVAL, used + INTERVAL
        else:
            self.step = min(self.granted - used, INTERVAL)
            # A step that begins anew less than an interval before the end would end behind it.
            self.mark = max(used + 1, min(used, self.granted - 2 * INTERVAL + 1) + INTERVAL)

    def settle(self, used: int) -> None:
        """Wait until all that is used has been granted, for a program that has ended."""
        while self.granted < self.limit and used > self.granted:
            self._wait()

    def _wait(self) -> None:
        more = min(self._line.pause(self.granted), self.limit)
        if more <= self.granted:
            raise ValueError(f"a grant of {more} in place of more than {self.granted}")
        self.granted = more
