"""What an array asks of the journal of its job, and is told by it (spec/11). Pure.

The array waits for each call before it does what the call announces. So whatever moment the client
ends at, the journal knows of every session that a worker may hold for it, of every task that may be
there, and of every result that the worker was told to forget.

A lane's number is its own within the job, for ever: an array that goes on counts from above
those that are held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.relay.job.kinds import State
from fogbank.relay.keys import NodeId

TICKET_SIZE: Final = 32
SECRET_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Hold:
    """A client's right to a session that a worker holds for it.

    `ticket`: random, who has it has the session. `secret_key`: X25519; what the worker keeps of the
    tasks' outputs is sealed to its public key.
    """

    ticket: bytes
    secret_key: bytes

    def __repr__(self) -> str:
        return "<Hold>"


@dataclass(frozen=True, slots=True)
class HeldLane:
    """A session that a worker may still hold.

    `tasks`: the ids that it knows tasks by (spec/08 §2), with the number of each in the array;
    those that have ended are left out. `last_id`: the highest id that was ever given there, or 0.
    """

    lane: int
    worker: NodeId
    hold: Hold
    tasks: Mapping[int, int]
    last_id: int


class Journal(Protocol):
    """A job's journal. Each call returns once what it was told would outlive a kill of the client.

    Calls may come while others wait: one commit may serve them all.
    """

    @property
    def keeps(self) -> bool:
        """Whether it keeps anything: if not, sessions end with the client."""

    async def lane_opening(self, lane: int, worker: NodeId, hold: Hold) -> None:
        """Hear of a session that is about to be opened."""

    async def sent(self, lane: int, tasks: Mapping[int, int]) -> None:
        """Hear of tasks that are about to be sent there: the id of each, and its number."""

    async def ended(self, ends: Sequence[TaskEnd]) -> None:
        """Hear of tasks that ended, with their results: the workers forget these next."""

    async def lane_over(self, lane: int) -> None:
        """Hear that nothing is left at a worker: the lane is not held any more."""

    def held(self) -> tuple[HeldLane, ...]:
        """Return what workers may hold from before, when the array begins."""

    # What is only for those who want to know; it may be lost.

    def reached(self, lane: int, way: Sequence[str]) -> None:
        """Hear of a circuit to a lane's worker: the nicknames on it, the worker's at last."""

    def told(self, task: int, lane: int, state: State, reason: str, fuel: int | None) -> None:
        """Hear what a worker says of a task, or (0) of the program."""

    def failed_try(self, task: int, worker: str, reason: str) -> None:
        """Hear that a worker, named by its nickname, did not answer a task, and why."""

    def verifying(self, task: int, reason: str) -> None:
        """Hear that a task was answered, and that the answer is not believed yet (spec/12)."""


class NoJournal:
    """Keeps nothing: all that an array was given ends with its client."""

    keeps = False

    async def lane_opening(self, lane: int, worker: NodeId, hold: Hold) -> None:
        """Keep nothing."""

    async def sent(self, lane: int, tasks: Mapping[int, int]) -> None:
        """Keep nothing."""

    async def ended(self, ends: Sequence[TaskEnd]) -> None:
        """Keep nothing."""

    async def lane_over(self, lane: int) -> None:
        """Keep nothing."""

    def held(self) -> tuple[HeldLane, ...]:
        """Return nothing."""
        return ()

    def reached(self, lane: int, way: Sequence[str]) -> None:
        """Keep nothing."""

    def told(self, task: int, lane: int, state: State, reason: str, fuel: int | None) -> None:
        """Keep nothing."""

    def failed_try(self, task: int, worker: str, reason: str) -> None:
        """Keep nothing."""

    def verifying(self, task: int, reason: str) -> None:
        """Keep nothing."""
