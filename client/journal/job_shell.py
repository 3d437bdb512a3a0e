"""One job of the journal, in the hands of the process that drives it, or that reads it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fogbank.client.database_shell import Database, Transaction
from fogbank.client.journal.array_shell import JobJournal, Listener
from fogbank.client.journal.events_shell import note
from fogbank.client.journal.pack_shell import Pack
from fogbank.client.journal.records import JobState, Kept, Stage, Summary
from fogbank.client.journal.rows import kept_of, row_of
from fogbank.sandbox.data import Data
from fogbank.sandbox.scratch_shell import read_file

_ALL: Final = (
    "SELECT * FROM task WHERE job = ? AND level = 0 AND place >= ? ORDER BY place LIMIT 256"
)
_OPEN: Final = (
    "SELECT * FROM task WHERE job = ? AND level = 0 AND place >= ? AND NOT over "
    "ORDER BY place LIMIT 256"
)
_WAITING: Final = (
    "SELECT * FROM task WHERE job = ? AND level = 0 AND place >= ? AND over AND NOT delivered "
    "ORDER BY place LIMIT 256"
)


class Job:
    """What a journal keeps of a job, and its files."""

    def __init__(self, database: Database, folder: Path, name: str) -> None:
        self.id = name
        self.folder = folder
        self._database = database
        self.inputs = Pack(folder / "inputs")
        self.outputs = Pack(folder / "outputs")

    def close(self) -> None:
        """Close its files."""
        self.inputs.close()
        self.outputs.close()

    def file(self, name: str) -> Data:
        """Return one of the files that the job was made with; raise `OSError`."""
        return read_file(self.folder / name)

    def journal(self, level: int = 0, listener: Listener | None = None) -> JobJournal:
        """Return what an array of this job is given: its tasks' (0), or a level of its folds."""
        return JobJournal(self._database, self.id, level, self.outputs, listener)

    # Tasks.

    async def take_in(self, tasks: Sequence[Kept]) -> None:
        """Keep tasks that are new, whose bytes are in the pack of inputs."""
        rows = [(self.id, *row_of(task)) for task in tasks]

        def write(transaction: Transaction) -> None:
            transaction.needs(self.inputs)
            transaction.db.executemany(
                "INSERT INTO task (job, level, place, number, value, input, digest, stage, reason, "
                "code, over, delivered) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._database.write(write)

    async def taken_in(self, total: int) -> None:
        """Keep that these are all tasks."""
        await self._set("UPDATE job SET total = ? WHERE id = ?", total, self.id)

    def count(self) -> int:
        """Return how many tasks there are so far."""
        return int(self._one("SELECT count(*) FROM task WHERE job = ? AND level = 0", self.id))

    @property
    def total(self) -> int | None:
        """How many tasks it has; None if not all were taken in."""
        value = self._one("SELECT total FROM job WHERE id = ?", self.id)
        return None if value is None else int(value)

    def task(self, number: int, level: int = 0) -> Kept | None:
        """Return a task by its number, or what is kept of a fold by its level."""
        query = "SELECT * FROM task WHERE job = ? AND level = ? AND number = ?"
        row = self._database.reader.execute(query, (self.id, level, number)).fetchone()
        return None if row is None else kept_of(row)

    def tasks(self, begin: int = 0) -> Iterator[Kept]:
        """Return tasks in their order, from a place on; others may be written meanwhile."""
        return self._walk(_ALL, begin)

    def unfinished(self, begin: int = 0) -> Iterator[Kept]:
        """Return those of them that have not ended."""
        return self._walk(_OPEN, begin)

    def undelivered(self, begin: int = 0) -> Iterator[Kept]:
        """Return those of them that have ended and are not delivered."""
        return self._walk(_WAITING, begin)

    def ended_since(self, seq: int) -> list[tuple[int, Kept]]:
        """Return some tasks that ended after the `seq`-th end, in the order of their ends.

        Each with the number of its end, which is ever growing.
        """
        rows = self._database.reader.execute(
            "SELECT * FROM task WHERE job = ? AND level = 0 AND seq > ? ORDER BY seq LIMIT 256",
            (self.id, seq),
        ).fetchall()
        return [(row["seq"], kept_of(row)) for row in rows]

    def _walk(self, query: str, begin: int) -> Iterator[Kept]:
        while rows := self._database.reader.execute(query, (self.id, begin)).fetchall():
            yield from map(kept_of, rows)
            begin = rows[-1]["place"] + 1

    def summary(self) -> Summary:
        """Return what its tasks have come to so far."""
        reader = self._database.reader
        total, over, failed = reader.execute(
            "SELECT count(*), sum(over), sum(over AND code != 0) FROM task "
            "WHERE job = ? AND level = 0",
            (self.id,),
        ).fetchone()
        stages = reader.execute(
            "SELECT DISTINCT stage FROM task WHERE job = ? AND level = 0 AND over AND code != 0",
            (self.id,),
        )
        first = reader.execute(
            "SELECT * FROM task WHERE job = ? AND level = 0 AND over AND code != 0 "
            "ORDER BY number LIMIT 1",
            (self.id,),
        ).fetchone()
        return Summary(
            total,
            over or 0,
            failed or 0,
            frozenset(Stage(stage) for (stage,) in stages),
            None if first is None else kept_of(first),
        )

    @property
    def is_begun(self) -> bool:
        """Whether any task was given to a worker, or has ended."""
        lanes = "SELECT count(*) FROM lane WHERE job = ?"
        return bool(self._one(lanes, self.id)) or bool(self.summary().over)

    async def delivered(self, numbers: Sequence[int]) -> None:
        """Keep that results are where they belong."""
        rows = [(self.id, number) for number in numbers]

        def write(transaction: Transaction) -> None:
            transaction.db.executemany(
                "UPDATE task SET delivered = 1 WHERE job = ? AND level = 0 AND number = ?", rows
            )

        await self._database.write(write)

    async def again(self, spec: str) -> int:
        """Open the job again, with another spec, for what did not succeed; return how many tasks.

        What was folded of the results is forgotten.
        """
        found: list[int] = []

        def write(transaction: Transaction) -> None:
            found.append(
                transaction.db.execute(
                    "UPDATE task SET stage = 'queued', reason = 'it is tried again', code = 0, "
                    "outcome = '', fuel = 0, output = NULL, stdout = 0, stderr = 0, over = 0, "
                    "seq = NULL, delivered = 0 WHERE job = ? AND level = 0 AND over AND code != 0",
                    (self.id,),
                ).rowcount
            )
            transaction.db.execute("DELETE FROM task WHERE job = ? AND level > 0", (self.id,))
            transaction.db.execute(
                "UPDATE job SET state = 'open', reason = '', code = 0, ended = NULL, wish = NULL, "
                "spec = ? WHERE id = ?",
                (spec, self.id),
            )

        await self._database.write(write)
        return found[0]

    # The job as a whole.

    async def over(self, state: JobState, reason: str, code: int) -> None:
        """Keep that the job is over; tasks that have not ended are cancelled with it."""

        def write(transaction: Transaction) -> None:
            db = transaction.db
            db.execute(
                "UPDATE job SET state = ?, reason = ?, code = ?, ended = ?, wish = NULL "
                "WHERE id = ?",
                (state, reason, code, time.time(), self.id),
            )
            db.execute(
                "UPDATE task SET stage = 'cancelled', code = 130, reason = ?2, over = 1, "
                "delivered = 1, "
                "seq = place + 1 + coalesce((SELECT max(seq) FROM task AS other "
                "WHERE other.job = ?1 AND other.level = 0), 0) "
                "WHERE job = ?1 AND level = 0 AND NOT over",
                (self.id, reason),
            )
            db.execute("DELETE FROM lane WHERE job = ?", (self.id,))
            db.execute("DELETE FROM sent WHERE job = ?", (self.id,))
            note(transaction, self.id, None, f"{state}: {reason}".removesuffix(": "))

        await self._database.write(write)

    def begin(self, process: int) -> None:
        """Keep, with what is written next, that a process is at work on it."""
        self._set_later("UPDATE job SET reason = '' WHERE id = ?", self.id)
        self.note(f"process {process} began to work at it")

    def note(self, text: str, number: int | None = None) -> None:
        """Keep, with what is written next, that something happened to the job, or to a task."""
        self._database.later(lambda transaction: note(transaction, self.id, number, text))

    async def settle(self, reason: str) -> None:
        """Keep why the job waits from now on, and that nothing is known to run meanwhile."""

        def write(transaction: Transaction) -> None:
            db = transaction.db
            db.execute("UPDATE job SET reason = ? WHERE id = ?", (reason, self.id))
            note(transaction, self.id, None, f"left: {reason}")
            db.execute(
                "UPDATE task SET stage = 'queued', reason = '' "
                "WHERE job = ? AND level = 0 AND NOT over",
                (self.id,),
            )
            db.execute(
                "UPDATE task SET stage = 'sent', reason = 'a worker has it' WHERE job = ?1 "
                "AND level = 0 AND NOT over AND number IN "
                "(SELECT number FROM sent WHERE job = ?1 AND level = 0)",
                (self.id,),
            )

        self.touch()
        await self._database.write(write)

    def touch(self) -> None:
        """Keep, with what is written next, that the client was there for its sessions."""
        self._set_later("UPDATE lane SET seen = ? WHERE job = ?", time.time(), self.id)

    async def flush(self) -> None:
        """Write what was left for later."""
        await self._database.flush()

    def take_wish(self) -> str | None:
        """Return what another process wishes of this job; each wish once."""
        wish = self._one("SELECT wish FROM job WHERE id = ?", self.id)
        if wish is not None:
            self._set_later("UPDATE job SET wish = NULL WHERE id = ?", self.id)
        return None if wish is None else str(wish)

    def _one(self, query: str, *values: object) -> Any:
        row: sqlite3.Row | None = self._database.reader.execute(query, values).fetchone()
        return None if row is None else row[0]

    async def _set(self, statement: str, *values: object) -> None:
        self._set_later(statement, *values)
        await self._database.flush()

    def _set_later(self, statement: str, *values: object) -> None:
        def write(transaction: Transaction) -> None:
            transaction.db.execute(statement, values)

        self._database.later(write)
