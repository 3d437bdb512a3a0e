"""What the scheduler of an array allows itself (spec/11 §3). Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArrayLimits:
    """The numbers of one array. The first two are its user's.

    `concurrent`: sessions at once, and so tasks that run at once. `retries`: how often a task is
    tried again because a worker failed it.
    """

    concurrent: int = 128
    retries: int = 5

    opening: int = 64
    """Sessions that are being opened at once, and one more for each two that are open."""
    lanes_per_worker: int = 16
    depth: int = 24
    """Tasks that a session holds at once, if they are short."""
    lookahead: float = 2.0
    """A session holds so much work beyond what it runs, as far as is known."""
    copies: int = 2
    """Runs of one task at the same time, near the end."""
    gain: float = 0.9
    """A copy must be expected to need at most this share of the time that is left otherwise."""
    start: float = 0.5
    """What a copy costs beside running, in seconds: for tiny tasks there are none."""
    budget: int = 64
    """Sessions that may fail beyond half of those that are opened, and all answers."""
    budget_seconds: float = 30.0
    """The time after which one more may fail."""
    rest: tuple[float, float] = (5.0, 600.0)
    """How long a worker that failed is left alone, at first and at most."""
    sound_rest: float = 60.0
    """The most for one that has run a part of a task, at least, before."""
    busy_rest: float = 20.0
    trusted_tries: int = 2
    """A task that failed so often goes to workers that have answered before, if there are any."""
    doubters: int = 3
    """Workers that must refuse a program, for each that began it, before all are believed to."""
    first: int = 4
    """Sessions at most until a worker has begun a task, and one more every two seconds."""
    idle_seconds: float = 50.0
    """How long a session without work is kept."""
    give_up: int = 8
    """Failures in a row, of any workers, after which an array with nothing left may end."""
    give_up_seconds: float = 120.0
