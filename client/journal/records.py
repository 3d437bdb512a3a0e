"""What a journal tells of jobs and tasks: small values (spec/13). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job is. `OPEN` is what the journal says of one that is not over."""

    OPEN = "open"
    QUEUED = "queued"
    RUNNING = "running"
    DETACHED = "detached"
    DONE = "done"
    FAILED = "failed"
    DISPUTED = "disputed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a task is."""

    QUEUED = "queued"
    SENT = "sent"
    RUNNING = "running"
    PAUSED = "paused"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    DISPUTED = "disputed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDS: Final = frozenset({Stage.DONE, Stage.FAILED, Stage.DISPUTED, Stage.EXPIRED, Stage.CANCELLED})
"""Stages that a task stays in."""


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a pack: bytes from `offset` on."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What makes a task of a job: its number, the value for `{}`, and where its own bytes lie.

    `files`: pairs of a name and a place in the pack of inputs.
    """

    number: int
    value: str | None = None
    stdin: Span | None = None
    files: tuple[tuple[str, Span], ...] = ()

    @property
    def size(self) -> int:
        """The bytes that are the task's own."""
        own = 0 if self.stdin is None else self.stdin.size
        return own + sum(span.size for _, span in self.files)


@dataclass(frozen=True, slots=True)
class Kept:
    """A task as the journal has it.

    `place`: where it stands in the order of tasks, from 0. `outcome`: the sandbox's, or empty.
    `code`: what the command line makes of its end; `reason` says why it is where it is. `seconds`:
    how long the last answer took. `stdout`, `stderr`: places in the pack of outputs, None if it has
    no result. `digest` tells it from any other, if it was asked for.
    """

    origin: Origin
    place: int
    stage: Stage = Stage.QUEUED
    reason: str = ""
    code: int = 0
    outcome: str = ""
    fuel: int = 0
    seconds: float = 0.0
    worker: str = ""
    stdout: Span | None = None
    stderr: Span | None = None
    digest: str = ""
    delivered: bool = False

    @property
    def number(self) -> int:
        """Its number."""
        return self.origin.number

    @property
    def is_over(self) -> bool:
        """Whether it has ended, for good."""
        return self.stage in ENDS

    @property
    def output_size(self) -> int:
        """How many bytes of output it has."""
        return sum(span.size for span in (self.stdout, self.stderr) if span is not None)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the journal has it. Times in seconds since 1970.

    `title`: its command, for people. `spec`: what its maker needs to go on with it. `total`: how
    many tasks it has; None while its inputs are still read. `counts`: tasks by stage. `failed`: of
    those that ended, how many did not succeed; `undelivered`: whose results are not yet where they
    belong. `state`: of a job that is not over, by whether a process drives it.
    """

    id: str
    created: float
    title: str
    spec: str
    total: int | None
    state: JobState
    reason: str
    code: int
    ended: float | None
    counts: Mapping[Stage, int]
    failed: int
    undelivered: int
    fuel: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done for it."""
        return self.state not in _LIVE

    @property
    def over(self) -> int:
        """How many of its tasks have ended."""
        return sum(count for stage, count in self.counts.items() if stage in ENDS)


_LIVE: Final = {JobState.OPEN, JobState.QUEUED, JobState.RUNNING, JobState.DETACHED}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job's tasks came to: how many there are, how many failed, and the first that did.

    The first by its number. `stages`: how each of those that failed ended.
    """

    total: int
    over: int
    failed: int
    stages: frozenset[Stage]
    first: Kept | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, or to a task of it, at `time`."""

    time: float
    number: int | None
    text: str
