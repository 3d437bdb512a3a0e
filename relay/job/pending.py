"""A task at a worker, as its client knows it: what the worker may say of it (spec/08 §6)."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.errors import Progress
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import ResultHead, TaskState
from fogbank.sandbox.limits import CEILINGS, Limits
from fogbank.sandbox.outcome import Outcome


@dataclass(slots=True)
class Pending:
    """A task that is not answered.

    `fuel`: the least that it has used, as was told. `ran`: seconds that it ran before `since`.
    `pauses`: how many there may be, one for each grant that was less than the limit.
    `is_old`: an earlier client may have cancelled it. `is_done`: it has ended, and its result is to
    come. `is_wanted`: whether that is of any use. `waits_first`: it is queued before it may run.
    """

    limits: Limits
    input_size: int
    granted: int
    pauses: int
    progress: Progress = Progress.NOT_SENT
    fuel: int = 0
    since: float = 0.0
    ran: float = 0.0
    is_paused: bool = False
    is_cancelled: bool = False
    is_old: bool = False
    is_done: bool = False
    is_wanted: bool = True
    waits_first: bool = False

    @property
    def runs(self) -> bool:
        """Whether it has begun and not ended, as far as the worker's word goes."""
        return self.progress >= Progress.RUNNING and not self.is_done

    def deadline(self, patience: Patience, active_at: float) -> float | None:
        """Return when the task, which runs, must have ended, or if it is paused, go on."""
        if not self.is_paused:
            return self.since + self.limits.wall_seconds - self.ran + patience.slack_seconds
        if self.granted <= self.fuel:
            # It waits for this very side.
            return None
        return active_at + patience.word_seconds

    def grant(self, fuel: int) -> int | None:
        """Grant the task `fuel` in all, its limit at most; return that, if it is more than was."""
        fuel = min(fuel, self.limits.fuel)
        if fuel <= self.granted or self.is_cancelled:
            return None
        self.granted = fuel
        self.pauses += fuel < self.limits.fuel
        return fuel

    def resume(self, state: State, now: float) -> None:
        """Take in where the task is when its session goes on; it may have been begun anew."""
        self.is_done = state is State.DONE
        self.is_paused = state is State.PAUSED
        self.progress = Progress.QUEUED if state is State.QUEUED else Progress.RUNNING
        self.since, self.ran = now, 0.0
        self.fuel = self.granted if self.is_paused else 0
        self.pauses = max(self.pauses, int(self.granted < self.limits.fuel))

    def admit(self, message: TaskState, *, may_start: bool) -> None:
        """Raise `ProtocolError` if the task cannot be so; `may_start`: no other one runs."""
        require(not self.is_done, "the state of a task that has ended")
        runs = self.progress is Progress.RUNNING
        if message.fuel is None:
            require(not runs, "a task that goes back")
            return
        require(self.fuel <= message.fuel <= self.granted, "a meter that cannot be")
        if message.state is State.PAUSED:
            require(runs and not self.is_paused, "a pause of what does not run")
            require(self.pauses > 0, "more pauses than grants")
        elif not runs:
            taken = self.progress >= Progress.QUEUED or not self.waits_first
            require(may_start and taken, "a task that cannot run now")
        elif self.is_paused:
            require(self.granted > self.fuel, "a task that goes on with no grant")

    def take(self, message: TaskState, now: float) -> None:
        """Take in where the task is, which was admitted."""
        if message.state is State.PAUSED:
            self.pauses -= 1
            self.ran += now - self.since
        elif self.is_paused or self.progress < Progress.RUNNING:
            self.since = now
        self.is_paused = message.state is State.PAUSED
        waits = message.state is State.QUEUED
        self.progress = Progress.QUEUED if waits else Progress.RUNNING
        self.fuel = message.fuel or self.fuel

    def admit_result(self, message: ResultHead) -> None:
        """Raise `ProtocolError` if the task cannot have ended so."""
        if message.outcome is Outcome.CANCELLED:
            require(self.is_cancelled or self.is_old, "a task cancelled by itself")
        else:
            running = self.progress is Progress.RUNNING
            require(running, "the result of a task that was not running")
        require(message.fuel <= self.granted, "more fuel than was granted")
        known = message.fuel >= self.fuel or message.outcome is Outcome.HOST_FAILURE
        require(known, "less fuel than was told before")
        size = message.stdout + message.stderr
        require(size <= self.limits.output, "more output than may be")


def unwanted() -> Pending:
    """Return a task of which nothing is known but that a worker still has it."""
    pauses = CEILINGS.fuel
    return Pending(CEILINGS, 0, CEILINGS.fuel, pauses, is_cancelled=True, is_wanted=False)


def require(allowed: bool, what: str) -> None:
    """Raise `ProtocolError` that names `what` a worker may not say, unless it is allowed."""
    if not allowed:
        raise ProtocolError(f"in a job's session: {what}")
