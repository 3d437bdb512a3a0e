"""What the scheduler and its shell say to each other: small values (spec/11 §3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from fogbank.relay.keys import NodeId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that the consensus lists. `speed`: fuel per second of one place, at least 1."""

    identity: NodeId
    speed: int
    places: int

    @property
    def weight(self) -> int:
        """The weight with which it is drawn."""
        return max(1, self.speed) * max(1, self.places)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker's offer grants: places that are free, tasks that a session may hold."""

    free: int
    tasks: int


class Verdict(Enum):
    """What an attempt came to, or the opening of a session."""

    ANSWERED = auto()
    """The program ended in some way of its own: this is the task's end."""
    FAILED = auto()
    """The worker failed it, or its answer was lost: it counts as one try."""
    NOT_TAKEN = auto()
    """The worker was not reached, or has no room: nothing has run."""
    UNFIT = auto()
    """This worker takes no task of this array."""
    REFUSED = auto()
    """This worker says that the program is no program."""
    HOPELESS = auto()
    """No worker could take this task."""


class Ending(Enum):
    """How a task ended, for good."""

    DONE = auto()
    FAILED = auto()
    EXPIRED = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True)
class Open:
    """Open a session at a worker, and call it this lane."""

    lane: int
    worker: NodeId


@dataclass(frozen=True, slots=True)
class Close:
    """End a lane's session; what it says from now on does not count."""

    lane: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run a task in a lane, behind what was sent there before."""

    attempt: int
    task: int
    lane: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an attempt; its answer does not count any more."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Finish:
    """A task ended; said once for each. `answer` is what its last attempt came to, if any did."""

    task: int
    ending: Ending
    answer: object = None


Action: TypeAlias = Open | Close | Run | Cancel | Finish
