"""What jobs cost a worker, and how long each side waits; the numbers of spec/08 §4 and §5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STORED_OVERHEAD: Final = 1 << 10
"""Bytes that a task or module on the disk counts beyond its own, there and in memory."""
TASK_OVERHEAD: Final = 256 << 10
"""Bytes that a held task counts beyond its input: its strings, and what keeps them."""
ROW_SECONDS: Final = 0.005
"""Seconds for which a word that is not urgent may wait for others to be sent with."""
LAST_SECONDS: Final = 0.5
"""The same, once all tasks of a session are with the worker: then its client awaits answers."""
GATHER_SECONDS: Final = 0.02
"""Seconds for which a result, behind which others of its session come, may wait for them."""
PROGRESS_SECONDS: Final = 1.0
"""Seconds between two words on a running task's fuel, at least."""
REPEAT_SECONDS: Final = 60.0
"""Seconds after which a worker repeats that a session waits for a place."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a frame must arrive once it has begun."""

    slow_seconds: float = 30.0
    bytes_per_second: int = 16 << 10

    def seconds_for(self, size: int) -> float:
        """Return the seconds that a frame of `size` bytes may take."""
        return self.slow_seconds + size / self.bytes_per_second


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What one worker spends on all its sessions. Times in seconds, sizes in bytes.

    `places`: jobs with a process at once, the donor's cores. `waiting`: sessions that may wait for
    one. `tasks`, `input_size`: of one session. `held`: modules and inputs of all sessions.
    """

    places: int = 2
    waiting: int = 32
    sessions: int = 64
    tasks: int = 32
    input_size: int = 256 << 20
    held: int = 1 << 30
    idle_seconds: float = 60.0
    send_seconds: float = 60.0
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class HoldingLimits:
    """What one worker spends on sessions whose clients are away. Sizes in bytes, on its disk.

    `seconds`: how long after its client's leave a session is forgotten. `tasks`: of one session.
    """

    seconds: float = 86400.0
    sessions: int = 256
    tasks: int = 1024
    size: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for a worker, in seconds."""

    offer_seconds: float = 30.0
    word_seconds: float = 180.0
    slack_seconds: float = 30.0
    pace: Pace = Pace()


class Budget:
    """Bytes that may be held in all; each holder gives back what it took."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def left(self) -> int:
        """How much may still be taken."""
        return self._left

    def take(self, size: int) -> bool:
        """Take `size` bytes, if so many are left."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def charge(self, size: int) -> None:
        """Take `size` bytes that are in use already, whether they are left or not."""
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        self._left += size


class Share:
    """What one holder has of a budget; when it is closed it gives back all, and takes no more."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0
        self._is_closed = False

    @property
    def taken(self) -> int:
        """How much it has."""
        return self._taken

    @property
    def left(self) -> int:
        """How much may still be taken."""
        return 0 if self._is_closed else self._budget.left

    def take(self, size: int) -> bool:
        """Take `size` bytes, if so many are left."""
        if self._is_closed or not self._budget.take(size):
            return False
        self._taken += size
        return True

    def charge(self, size: int) -> None:
        """Take `size` bytes that are in use already."""
        if not self._is_closed:
            self._budget.charge(size)
            self._taken += size

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        if not self._is_closed:
            self._budget.give_back(size)
            self._taken -= size

    def close(self) -> None:
        """Give back all."""
        self._budget.give_back(self._taken)
        self._taken, self._is_closed = 0, True
