"""What is known of workers, lanes, attempts and unfinished tasks of one array (spec/11 §3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fogbank.client.scheduling.words import Candidate, Reply, Terms


@dataclass(slots=True, eq=False)
class Worker:
    """What is known of a worker.

    `mean`: seconds that its tasks take. `rate`: the fuel per second that was seen of it.
    `is_sound`: it has run a part of a task at least; `is_well`: since it failed last, too. `most`:
    how many lanes it may have.
    """

    candidate: Candidate
    lanes: set[int] = field(default_factory=set)
    listed: bool = True
    barred: bool = False
    most: int = 1
    mean: float | None = None
    rate: float | None = None
    is_sound: bool = False
    is_well: bool = True
    failures: int = 0
    rests_until: float = -math.inf

    def is_free(self, now: float) -> bool:
        """Tell whether it may be drawn, having no lane yet."""
        return self.listed and not self.barred and not self.lanes and self.rests_until <= now


@dataclass(slots=True, eq=False)
class Lane:
    """One session at a worker: it runs its attempts one after the other.

    `head_since`: when its first attempt came to its turn. `terms` are None until it is open.
    """

    number: int
    worker: Worker
    terms: Terms | None = None
    attempts: list[Attempt] = field(default_factory=list)
    head_since: float = 0.0
    draining: bool = False


@dataclass(slots=True, eq=False)
class Attempt:
    """One run of a task in a lane. `fuel`: what it has used, when that was last `heard_at`."""

    number: int
    task: Unfinished
    lane: Lane
    fuel: float = 0.0
    heard_at: float = -math.inf


@dataclass(slots=True, eq=False)
class Unfinished:
    """A task that has not ended. `last` is what its last attempt came to.

    `wanted`: how many replies it takes, as far as is known. `replaced`: how often a run of it made
    way for another.
    """

    number: int
    wanted: int = 1
    replies: list[Reply] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    tries: int = 0
    replaced: int = 0
    avoid: set[Worker] = field(default_factory=set)
    last: object = None

    @property
    def missing(self) -> int:
        """How many workers are to be found for it, beyond those that answered or run it."""
        return self.wanted - len(self.replies) - len(self.attempts)
