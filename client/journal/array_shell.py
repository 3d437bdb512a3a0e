"""What one array of a job tells its journal, and is told by it (spec/13 §2)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from fogbank.client.database_shell import Database, Transaction
from fogbank.client.exit_codes import ending_of_task
from fogbank.client.journal.events_shell import note
from fogbank.client.journal.pack_shell import Pack
from fogbank.client.journal.records import Stage
from fogbank.client.journal.words import HeldLane, Hold
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import TaskState
from fogbank.relay.keys import NodeId

HELD_SECONDS: Final = 25 * 3600.0
"""How long after its client was last there a session is taken to be held by its worker."""
_STAGES: Final = {
    Ending.DONE: Stage.DONE,
    Ending.FAILED: Stage.FAILED,
    Ending.EXPIRED: Stage.EXPIRED,
    Ending.CANCELLED: Stage.CANCELLED,
    Ending.DISPUTED: Stage.DISPUTED,
}
_SAID: Final = {
    State.QUEUED: (Stage.SENT, "it waits at"),
    State.RUNNING: (Stage.RUNNING, "it runs at"),
    State.PAUSED: (Stage.PAUSED, "it has used up what fuel it was granted at"),
}


class Listener(Protocol):
    """Who wants to know what happens to an array, while it happens."""

    def reached(self, way: tuple[str, ...]) -> None:
        """Hear of a circuit: the nicknames on it."""

    def left(self, worker: str) -> None:
        """Hear that a session is over."""

    def told(self, state: TaskState, worker: str) -> None:
        """Hear what a worker says of a task, by its number, or of the program (0)."""

    def tried(self, task: int, worker: str, reason: str) -> None:
        """Hear that a try of a task came to nothing."""


class JobJournal:
    """The `Journal` of the tasks of a job (level 0), or of one level of its folds."""

    keeps = True

    def __init__(
        self,
        database: Database,
        job: str,
        level: int,
        outputs: Pack,
        listener: Listener | None = None,
    ) -> None:
        self._database = database
        self._outputs = outputs
        self._key = (job, level)
        self._listener = listener
        self._workers: dict[int, str] = {}

    async def lane_opening(self, lane: int, worker: NodeId, hold: Hold) -> None:
        """Keep a session that is about to be opened."""
        row = (*self._key, lane, worker, hold.ticket, hold.secret_key, time.time())

        def write(transaction: Transaction) -> None:
            # There is one of this number if it is too old to be gone back to.
            transaction.db.execute(
                "DELETE FROM sent WHERE job = ? AND level = ? AND lane = ?", row[:3]
            )
            transaction.db.execute(
                "INSERT OR REPLACE INTO lane (job, level, lane, worker, ticket, secret, seen) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

        await self._database.write(write)

    async def sent(self, lane: int, tasks: Mapping[int, int]) -> None:
        """Keep tasks that are about to be sent."""
        rows = [(*self._key, lane, wire_id, number) for wire_id, number in tasks.items()]
        seen = (max(tasks, default=0), time.time(), *self._key, lane)
        numbers = [(*self._key, number) for number in tasks.values()]

        def write(transaction: Transaction) -> None:
            transaction.db.executemany("INSERT INTO sent VALUES (?, ?, ?, ?, ?)", rows)
            transaction.db.execute(
                "UPDATE lane SET last_id = max(last_id, ?), seen = ? "
                "WHERE job = ? AND level = ? AND lane = ?",
                seen,
            )
            transaction.db.executemany(
                "UPDATE task SET stage = 'sent', reason = 'a worker has it' WHERE job = ? "
                "AND level = ? AND number = ? AND stage = 'queued'",
                numbers,
            )

        await self._database.write(write)

    async def ended(self, ends: Sequence[TaskEnd]) -> None:
        """Keep results; the first that is kept of a task stands."""

        def write(transaction: Transaction) -> None:
            for end in ends:
                self._keep(transaction, end)

        await self._database.write(write)

    def _keep(self, transaction: Transaction, end: TaskEnd) -> None:
        key = (*self._key, end.number)
        if self._key[1]:
            # A fold has no row before it ends.
            transaction.db.execute(
                "INSERT OR IGNORE INTO task (job, level, place, number) VALUES (?1, ?2, ?3, ?3)",
                key,
            )
        words, result = ending_of_task(end), end.result
        about = (_STAGES[end.ending], words.sentence, words.code, end.seconds, end.worker)
        transaction.db.execute(
            "UPDATE task SET stage = ?, reason = ?, code = ?, seconds = ?, worker = ?, fuel = 0 "
            "WHERE job = ? AND level = ? AND number = ? AND NOT over",
            (*about, *key),
        )
        if result is not None:
            stdout = self._outputs.append(result.stdout)
            stderr = self._outputs.append(result.stderr)
            transaction.needs(self._outputs)
            came = (result.outcome.name.lower(), result.fuel)
            transaction.db.execute(
                "UPDATE task SET outcome = ?, fuel = ?, output = ?, stdout = ?, stderr = ? "
                "WHERE job = ? AND level = ? AND number = ? AND NOT over",
                (*came, stdout.offset, stdout.size, stderr.size, *key),
            )
        transaction.db.execute(
            "UPDATE task SET over = 1, seq = 1 + coalesce((SELECT max(seq) FROM task "
            "WHERE job = ?1 AND level = ?2), 0) "
            "WHERE job = ?1 AND level = ?2 AND number = ?3 AND NOT over",
            key,
        )
        transaction.db.execute("DELETE FROM sent WHERE job = ? AND level = ? AND number = ?", key)

    async def lane_over(self, lane: int) -> None:
        """Forget a session."""
        worker = self._workers.pop(lane, None)
        if self._listener is not None and worker is not None:
            self._listener.left(worker)
        key = (*self._key, lane)

        def write(transaction: Transaction) -> None:
            for statement in (
                "DELETE FROM lane WHERE job = ? AND level = ? AND lane = ?",
                "DELETE FROM sent WHERE job = ? AND level = ? AND lane = ?",
            ):
                transaction.db.execute(statement, key)

        await self._database.write(write)

    # What is only for those who want to know.

    def reached(self, lane: int, way: Sequence[str]) -> None:
        """Know a lane's worker by its nickname."""
        self._workers[lane] = way[-1]
        if self._listener is not None:
            self._listener.reached(tuple(way))

    def told(self, task: int, lane: int, state: State, reason: str, fuel: int | None) -> None:
        """Keep, with what is written next, where a task is."""
        if self._listener is not None:
            said = TaskState(task, state, reason, fuel)
            self._listener.told(said, self._workers.get(lane, "a worker"))
        if not task or self._key[1]:
            return
        stage, words = _SAID[state]
        worker = self._workers.get(lane, "")
        values = (stage, reason or f"{words} {worker}", worker, fuel or 0, *self._key, task)

        def write(transaction: Transaction) -> None:
            transaction.db.execute(
                "UPDATE task SET stage = ?, reason = ?, worker = ?, fuel = ? "
                "WHERE job = ? AND level = ? AND number = ? AND NOT over",
                values,
            )

        self._database.later(write)

    def failed_try(self, task: int, worker: str, reason: str) -> None:
        """Keep, with what is written next, that a task waits for another worker, and why."""
        if self._listener is not None:
            self._listener.tried(task, worker, reason)
        job, level = self._key
        text = f"{worker or 'a worker'} did not answer: {reason}"

        def write(transaction: Transaction) -> None:
            transaction.db.execute(
                "UPDATE task SET stage = 'queued', reason = ?, worker = '', fuel = 0 "
                "WHERE job = ? AND level = ? AND number = ? AND NOT over",
                (text, job, level, task),
            )
            note(transaction, job, task, text)

        if not level:
            self._database.later(write)

    def verifying(self, task: int, reason: str) -> None:
        """Keep, with what is written next, that an answer is there, and not believed yet."""
        values = (reason, *self._key, task)

        def write(transaction: Transaction) -> None:
            transaction.db.execute(
                "UPDATE task SET stage = 'verifying', reason = ? "
                "WHERE job = ? AND level = ? AND number = ? AND NOT over",
                values,
            )

        self._database.later(write)

    def held(self) -> tuple[HeldLane, ...]:
        """Return the sessions that workers may hold."""
        reader = self._database.reader
        tasks: dict[int, dict[int, int]] = {}
        for lane, wire_id, number in reader.execute(
            "SELECT lane, wire_id, number FROM sent WHERE job = ? AND level = ?", self._key
        ):
            tasks.setdefault(lane, {})[wire_id] = number
        lanes = reader.execute(
            "SELECT lane, worker, ticket, secret, last_id FROM lane "
            "WHERE job = ? AND level = ? AND seen > ? ORDER BY lane",
            (*self._key, time.time() - HELD_SECONDS),
        )
        return tuple(
            HeldLane(lane, worker, Hold(ticket, secret), tasks.get(lane, {}), last_id)
            for lane, worker, ticket, secret, last_id in lanes
        )
