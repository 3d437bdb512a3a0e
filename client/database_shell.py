"""A database of the client's: SQLite in WAL mode, every commit on the disk before it counts.

`Database` has one connection that reads and one that writes. What is written is a list of small
functions; those that wait at the same time are one commit (spec/13 §2).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import trio

from fogbank.client.errors import ClientError

_BUSY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database holds: `what` names it, and `if_damaged` says what to do then.

    `migrations`: statements that bring the tables from each version to the next.
    """

    what: str
    if_damaged: str
    error: type[ClientError]
    migrations: Sequence[Sequence[str]]


class Synced(Protocol):
    """Bytes beside the database, of which its rows speak."""

    def sync(self) -> None:
        """Wait until they are on the disk; raise `OSError`."""


class Transaction:
    """What a function that writes is given. `db` is within a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self._packs: set[Synced] = set()

    def needs(self, pack: Synced) -> None:
        """Hear that what is written speaks of bytes in a pack: these are on the disk first."""
        self._packs.add(pack)

    def sync(self) -> None:
        """Wait until they are."""
        for pack in self._packs:
            pack.sync()


Write: TypeAlias = Callable[[Transaction], object]


class _Waiting:
    """A function that waits to be part of a commit."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.is_done = False
        self.error: BaseException | None = None


class Database:
    """The database in one file, which is made if it is not there."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[_Waiting] = []
        self._lock = trio.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer = _connect(path)
            _migrate(self._writer, schema)
            self.reader = _connect(path)
        except (sqlite3.Error, OSError) as error:
            raise self._sentence(error) from error

    def close(self) -> None:
        """Give it up."""
        self.reader.close()
        self._writer.close()

    def read(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query; raise the schema's error if the file cannot be read."""
        try:
            return self.reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._sentence(error) from error

    async def write(self, write: Write) -> None:
        """Have something written, and return once it would outlive a fall of the machine.

        It is written whole or not at all, also if the caller is cancelled meanwhile. Raises
        the schema's error if the disk takes no more.
        """
        waiting = _Waiting(write)
        self._waiting.append(waiting)
        with trio.CancelScope(shield=True):
            # Whoever is first writes for all that have come until then.
            async with self._lock:
                if not waiting.is_done:
                    batch, self._waiting = self._waiting, []
                    await trio.to_thread.run_sync(self._commit, batch)
        if waiting.error is not None:
            raise waiting.error

    def later(self, write: Write) -> None:
        """Have something written with what is written next; it may be lost until then."""
        self._waiting.append(_Waiting(write))

    async def flush(self) -> None:
        """Write what was left for later."""
        if self._waiting:
            await self.write(_nothing)

    def write_now(self, write: Write) -> None:
        """Write at once, where nothing else is done meanwhile; raise the schema's error."""
        waiting = _Waiting(write)
        self._commit([*self._waiting, waiting])
        self._waiting.clear()
        if waiting.error is not None:
            raise waiting.error

    def _commit(self, batch: list[_Waiting]) -> None:
        transaction = Transaction(self._writer)
        error: BaseException | None = None
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for each in batch:
                each.write(transaction)
            transaction.sync()
            self._writer.execute("COMMIT")
        except (sqlite3.Error, OSError) as cause:
            error = self._sentence(cause)
            error.__cause__ = cause
        except Exception as cause:  # noqa: BLE001 -- a caller's own fault is raised to the callers
            error = cause
        if error is not None and self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        for each in batch:
            each.is_done, each.error = True, error

    def _sentence(self, error: sqlite3.Error | OSError) -> ClientError:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            return self._schema.error(
                f"{self._path} is damaged ({error}): {self._schema.if_damaged}"
            )
        why = error.strerror if isinstance(error, OSError) else error
        return self._schema.error(
            f"{self._schema.what}, {self._path}, cannot be used ({why}): make room on its disk, or "
            "mend the permissions of its folder"
        )


def _nothing(_: Transaction) -> None:
    """Write nothing."""


def _connect(path: Path) -> sqlite3.Connection:
    # Threads use a connection one after the other: commits go through one lock.
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA secure_delete=ON")
    return db


def _migrate(db: sqlite3.Connection, schema: Schema) -> None:
    """Bring the tables to this version; raise the schema's error if they are of a later one."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(schema.migrations):
        raise schema.error(
            f"{schema.what} was written by a later fogbank (version {version}): upgrade, or "
            "use another folder, named by FOGBANK_HOME"
        )
    if version == len(schema.migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    # Another process may have done it while this one waited.
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for script in schema.migrations[version:]:
        for statement in script:
            db.execute(statement)
    db.execute(f"PRAGMA user_version={max(version, len(schema.migrations))}")
    db.execute("COMMIT")
