"""The ledger on the disk: one SQLite file a series, whose answers wait for one fsync together.

`SeriesFile.write` returns when what its function wrote is on the disk (WAL, `synchronous=FULL`).
All that wait while a commit is under way are the next one. A kill at any moment leaves every
finished write in the file and nothing of the others (spec/09 §7.1).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import trio

from fogbank.directory.mint.book_shell import (
    SCHEMA,
    VERSION,
    FileBook,
    Head,
    connect,
    read_head,
    read_held,
    signed,
)
from fogbank.directory.mint.ledger import Book, Held, bucket_of
from fogbank.directory.store_shell import StoreError
from fogbank.relay.job.held.keeper_shell import Blocking, in_thread

MAX_BATCH: Final = 1024
"""Writes of one commit."""
_T = TypeVar("_T")


class _Waiting(Generic[_T]):
    """A function that waits to be part of a commit, and what became of it."""

    def __init__(self, write: Callable[[Book], _T]) -> None:
        self._write = write
        self.result: _T | None = None
        self.error: Exception | None = None
        self.is_done = False
        self.turn = trio.Event()

    def run(self, book: Book) -> None:
        self.result = self._write(book)

    def outcome(self) -> _T:
        """Return what the function returned; raise what it or the disk raised."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value] # None only if the function returns it


def _nothing(_: Book) -> None:
    """Write nothing."""


class SeriesFile:
    """One series' file, which is made if it is not there. Raises `StoreError` with a sentence.

    `now` is in seconds since 1970; `blocking` calls what waits for the disk. `named` is the highest
    count that a state names of it, 0 for none: a file that holds less has lost answers, also one
    that is missing.
    """

    def __init__(
        self, path: Path, now: float, blocking: Blocking = in_thread, named: int = 0
    ) -> None:
        self.path = path
        self._blocking = blocking
        self._waiting: list[_Waiting[object]] = []
        self._is_writing = False
        self._reading = trio.Lock()
        self.commits = 0
        """Transactions since the file was opened."""
        self.head: Head
        """What the file says of itself, as it is on the disk."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer = connect(path)
            self._prepare(now, named)
            self._reader = connect(path)
            self._slow_reader = connect(path)
        except (sqlite3.Error, OSError) as error:
            raise self._sentence(error) from error
        self._book: Book = FileBook(self._reader)

    def _prepare(self, now: float, named: int) -> None:
        db, status = self._writer, self.path.stat()
        here = signed(status.st_dev), signed(status.st_ino)
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in {0, VERSION}:
            raise StoreError(f"{self.path} was written by another version of Fogbank")
        if version == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("INSERT INTO file VALUES (1, ?, ?, ?, 0, 0, 0, 1)", (*here, not named))
        # A file that stands elsewhere than it was written is a copy: it may be an old one.
        db.execute(
            "UPDATE file SET is_whole=0, life=max(life+1, ?3), device=?1, inode=?2 "
            "WHERE device!=?1 OR inode!=?2 OR (is_whole AND count<?4)",
            (*here, int(now), named),
        )
        db.execute("COMMIT")
        self.head = read_head(db)

    async def doubt(self, now: float) -> None:
        """Note on the disk that answers may be missing: from `now` on it leads another life."""
        await self._set("UPDATE file SET is_whole=0, life=max(life+1, ?)", (int(now),))

    async def trust(self, count: int, life: int) -> None:
        """Note that others' ledgers were merged in that life, unless it leads another one by now.

        It counts at least as many answers from now on.
        """
        await self._set(
            "UPDATE file SET is_whole=1, count=max(count, ?) WHERE life=?", (count, life)
        )

    async def note_life(self, member: int, life: int) -> None:
        """Note on the disk what life another member leads, which is never an earlier one."""
        await self._set(
            "INSERT INTO life VALUES (?, ?) ON CONFLICT (member) "
            "DO UPDATE SET life=max(life, excluded.life)",
            (member, life),
        )

    async def _set(self, statement: str, values: tuple[int, ...]) -> None:
        def write(_: Book) -> None:
            self._writer.execute(statement, values)

        await self.write(write)

    async def write(self, write: Callable[[Book], _T]) -> _T:
        """Return what `write` returns, once all that it wrote is on the disk.

        It is written whole or not at all, also if the caller is cancelled meanwhile. Raises
        `StoreError` if the disk takes no more.
        """
        waiting: _Waiting[object] = _Waiting(write)
        self._waiting.append(waiting)
        with trio.CancelScope(shield=True):
            while not waiting.is_done:
                if self._is_writing:
                    # Anew each time: another may have come before this one's turn.
                    waiting.turn = trio.Event()
                    await waiting.turn.wait()
                else:
                    await self._write_all()
        return waiting.outcome()  # type: ignore[return-value] # what `write` returned

    async def _write_all(self) -> None:
        """Write what has come until now; whoever comes meanwhile waits, and the first goes on."""
        self._is_writing = True
        # Those who were computed together come together, and this is the first one.
        await trio.lowlevel.checkpoint()
        batch = self._waiting[:MAX_BATCH]
        del self._waiting[:MAX_BATCH]
        try:
            await self._blocking(self._commit, batch)
        finally:
            self._is_writing = False
            for each in (*batch, *self._waiting[:1]):
                each.turn.set()

    def _commit(self, batch: list[_Waiting[object]]) -> None:
        error: Exception | None = None
        book = FileBook(self._writer)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for each in batch:
                each.run(book)
            book.settle()
            head = read_head(self._writer)
            self._writer.execute("COMMIT")
            self.head = head
            self.commits += 1
        except (sqlite3.Error, OSError) as cause:
            error = self._sentence(cause)
            error.__cause__ = cause
        except Exception as cause:  # noqa: BLE001 -- a caller's own fault is raised to the callers
            error = cause
        if error is not None and self._writer.in_transaction:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
        for each in batch:
            each.is_done, each.error = True, error

    # Reading.

    def look(self, read: Callable[[Book], _T]) -> _T:
        """Return what `read` finds in what is on the disk; it may not write."""
        try:
            return read(self._book)
        except sqlite3.Error as error:
            raise self._sentence(error) from error

    async def outputs(
        self, low: bytes, high: bytes, after: bytes, most: int
    ) -> list[tuple[bytes, bytes, bytes]]:
        """Return points, shares and requests of the buckets from `low` to below `high`.

        In the order of buckets, `most` at most, from after the point `after` on if there is one.
        """
        start = bucket_of(after) if after else low
        rows: list[tuple[bytes, bytes, bytes]] = await self._read(
            "SELECT point, share, digest FROM output JOIN request ON request.id=output.request "
            "WHERE (bucket, point) > (?, ?) AND bucket >= ? AND bucket < ? "
            "ORDER BY bucket, point LIMIT ?",
            (start, after, low, high, most),
        )
        return rows

    async def serials(
        self, low: bytes, high: bytes, after: bytes, most: int
    ) -> list[tuple[bytes, bytes]]:
        """Return serials from `low` to below `high` that come after one, and what locks them."""
        rows: list[tuple[bytes, bytes]] = await self._read(
            "SELECT serial, digest FROM serial JOIN request ON request.id=serial.request "
            "WHERE serial > ? AND serial >= ? AND serial < ? ORDER BY serial LIMIT ?",
            (after, low, high, most),
        )
        return rows

    async def requests(self, after: bytes, most: int) -> list[Held]:
        """Return requests in the order of their digests, from after one on."""
        rows = await self._read(
            "SELECT digest, signed, may_vote, votes FROM request WHERE digest > ? "
            "ORDER BY digest LIMIT ?",
            (after, most),
        )
        return [read_held(row) for row in rows]

    async def evidence(self, most: int) -> list[bytes]:
        """Return the newest proofs, newest first."""
        rows = await self._read("SELECT proof FROM evidence ORDER BY id DESC LIMIT ?", (most,))
        return [proof for (proof,) in rows]

    async def _read(self, query: str, values: tuple[object, ...]) -> list[Any]:
        def read() -> list[Any]:
            return self._slow_reader.execute(query, values).fetchall()

        async with self._reading:
            try:
                return await self._blocking(read)
            except sqlite3.Error as error:
                raise self._sentence(error) from error

    # The end.

    async def wait_idle(self) -> None:
        """Wait until nothing is being written or read."""
        while self._is_writing or self._waiting:
            await self.write(_nothing)
        async with self._reading:
            pass

    def close(self) -> None:
        """Close it; nothing may be waiting."""
        for each in (self._reader, self._slow_reader, self._writer):
            each.close()

    def _sentence(self, error: sqlite3.Error | OSError) -> StoreError:
        # Other errors of SQLite are of classes that derive from it.
        if type(error) is sqlite3.DatabaseError:
            return StoreError(
                f"the mint's ledger {self.path} is damaged ({error}): end the authority, move the "
                "file away with those beside it, and start it again; it merges others' ledgers then"
            )
        why = error.strerror if isinstance(error, OSError) else error
        return StoreError(
            f"the mint's ledger {self.path} cannot be used ({why}): make room on its disk, or mend "
            "the permissions of its folder"
        )


def delete_file(path: Path) -> None:
    """Delete a series' file and all that SQLite keeps beside it; raise `OSError` if that fails."""
    # The file itself last: it is what is looked for, if this is cut off.
    for ending in ("-wal", "-shm", ""):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
