"""What the scheduler and its shell say to each other: small values (spec/11 §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    WRONG = auto()
    """The program ended, but its answer is proven wrong: the worker is not believed any more."""


class Ending(Enum):
    """How a task ended, for good."""

    DONE = auto()
    FAILED = auto()
    DISPUTED = auto()
    """Workers told different things, and no further ones settled it."""
    EXPIRED = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answered, with `Verdict.ANSWERED`."""

    worker: NodeId
    answer: object


class Kind(Enum):
    """What a judge makes of the replies to a task."""

    ENOUGH = auto()
    MORE = auto()
    DISPUTED = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a task.

    `answer`: what it ends with. `more`: how many further replies it takes, those that workers are
    at work on counted. `wrong`: workers that are not believed any more.
    """

    kind: Kind
    answer: object = None
    more: int = 1
    wrong: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many workers answer each task, and who says what the replies are worth.

    `count`: so many are asked at first, at most `most` in all; no two that `conflicts`. `judge` is
    called with the number of a task and its replies, whenever there is one more.
    """

    count: int
    most: int
    conflicts: Callable[[NodeId, NodeId], bool]
    judge: Callable[[int, Sequence[Reply]], Judgement]


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
    """A task ended; said once for each. `answer` is what its last attempt came to, if any did.

    `replies`: all that workers answered. `wrong`: those of them that the judge says are wrong.
    """

    task: int
    ending: Ending
    answer: object = None
    replies: tuple[Reply, ...] = ()
    wrong: tuple[NodeId, ...] = ()


Action: TypeAlias = Open | Close | Run | Cancel | Finish
