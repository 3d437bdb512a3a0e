"""The ledger on the disk: one SQLite file a series, whose answers wait for one fsync together.

`SeriesFile.write` returns when what its function wrote is on the disk (WAL, `synchronous=FULL`).
All that wait while a commit is under way are the next one. A kill at any moment leaves every
finished write in the file and nothing of the others (spec/09 §7.1).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import trio

from fogbank.directory.mint.certificates import Lives, votes_from_value
from fogbank.directory.mint.ledger import Book, Entry, Held, Holder, Votes, bucket_of
from fogbank.directory.store_shell import StoreError
from fogbank.relay.codec import decode, encode
from fogbank.relay.job.held.keeper_shell import Blocking, in_thread

MAX_EVIDENCE: Final = 1024
"""Proofs that are kept of one series."""
MAX_BATCH: Final = 1024
"""Writes of one commit."""
_VERSION = 1
_BUSY_SECONDS = 5
_VOTES_LIMIT = 64 << 10
_SCHEMA = """
CREATE TABLE file (
    only INTEGER PRIMARY KEY CHECK (only = 1), device INTEGER NOT NULL, inode INTEGER NOT NULL,
    count INTEGER NOT NULL, locked INTEGER NOT NULL, issued INTEGER NOT NULL,
    life INTEGER NOT NULL, is_whole INTEGER NOT NULL
) STRICT;
CREATE TABLE life (member INTEGER PRIMARY KEY, life INTEGER NOT NULL) STRICT;
CREATE TABLE request (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, signed BLOB NOT NULL,
    may_vote INTEGER NOT NULL, votes BLOB
) STRICT;
CREATE TABLE serial (
    serial BLOB PRIMARY KEY, request INTEGER NOT NULL REFERENCES request, disputed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE output (
    bucket BLOB NOT NULL, point BLOB NOT NULL, share BLOB NOT NULL,
    request INTEGER NOT NULL REFERENCES request, PRIMARY KEY (bucket, point)
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY, subject BLOB NOT NULL UNIQUE, proof BLOB NOT NULL
) STRICT;
"""

_T = TypeVar("_T")


class FileBook:
    """A series' records through one connection; what is written belongs to its transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def find(self, digest: bytes) -> Held | None:
        """Return the request of that digest."""
        row = self._db.execute(
            "SELECT digest, signed, may_vote, votes FROM request WHERE digest=?", (digest,)
        ).fetchone()
        return None if row is None else _held(row)

    def holder(self, serial: bytes) -> Holder | None:
        """Return what a serial is locked to."""
        row = self._db.execute(
            "SELECT digest, disputed FROM serial JOIN request ON request.id=serial.request "
            "WHERE serial=?",
            (serial,),
        ).fetchone()
        return None if row is None else Holder(row[0], bool(row[1]))

    def shares(self, outputs: Sequence[bytes]) -> tuple[bytes, ...] | None:
        """Return the shares that were given for these points, or None if one has none."""
        found: list[bytes] = []
        for point in outputs:
            row = self._db.execute(
                "SELECT share FROM output WHERE bucket=? AND point=?",
                (bucket_of(point), point),
            ).fetchone()
            if row is None:
                return None
            found.append(row[0])
        return tuple(found)

    def put(self, entry: Entry, *, may_vote: bool, votes: Votes = ()) -> None:
        """Keep a request; one that is there already gets the votes."""
        self._db.execute(
            "INSERT INTO request (digest, signed, may_vote, votes) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET may_vote=excluded.may_vote, votes=excluded.votes",
            (entry.digest, entry.signed, may_vote, _packed(votes)),
        )

    def take(self, serial: bytes, holder: Holder) -> None:
        """Lock a serial to a request, whoever held it."""
        self._db.execute(
            "INSERT INTO serial SELECT ?, id, ? FROM request WHERE digest=? ON CONFLICT (serial) "
            "DO UPDATE SET request=excluded.request, disputed=excluded.disputed",
            (serial, holder.is_disputed, holder.digest),
        )

    def give(self, digest: bytes, outputs: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the shares that a request's points get."""
        self._db.executemany(
            "INSERT OR IGNORE INTO output SELECT ?, ?, ?, id FROM request WHERE digest=?",
            [(bucket_of(point), point, share, digest) for point, share in outputs],
        )

    def has_evidence(self, subject: bytes) -> bool:
        """Tell whether there is a proof on a subject."""
        row = self._db.execute("SELECT 1 FROM evidence WHERE subject=?", (subject,)).fetchone()
        return row is not None

    def keep_evidence(self, subject: bytes, proof: bytes) -> None:
        """Keep a proof, unless there is one on that subject or there are very many."""
        self._db.execute(
            "INSERT OR IGNORE INTO evidence (subject, proof) SELECT ?, ? "
            "WHERE (SELECT count(*) FROM evidence) < ?",
            (subject, proof, MAX_EVIDENCE),
        )

    def answered(self, locked: int, issued: int) -> None:
        """Count an answer that is new, and how many serials and outputs it is the first for."""
        self._db.execute(
            "UPDATE file SET count=count+1, locked=locked+?, issued=issued+?", (locked, issued)
        )


@dataclass(frozen=True, slots=True)
class Head:
    """What a series' file says of itself.

    `count`: answers in it, and 1, which it had when it was made. `locked` serials, `issued`
    outputs. `life`: when this authority last lost its memory of the series, in seconds since 1970,
    or 0; `lives` those of other members, as they told. `is_whole`: nothing that was answered in
    this life can be missing, as far as is known, and others' ledgers were merged into it.
    """

    count: int
    locked: int
    issued: int
    life: int
    lives: Lives
    is_whole: bool


def _read_head(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT count, locked, issued, life, is_whole FROM file").fetchone()
    lives = db.execute("SELECT member, life FROM life ORDER BY member").fetchall()
    count, locked, issued, life, is_whole = row
    named = tuple((member, each) for member, each in lives)
    return Head(count, locked, issued, life, named, bool(is_whole))


def _packed(votes: Votes) -> bytes | None:
    return encode([vote.value() for vote in votes]) if votes else None


def _held(row: Sequence[Any]) -> Held:
    digest, signed, may_vote, votes = row
    return Held(digest, signed, bool(may_vote), _votes(votes))


def _votes(data: bytes | None) -> Votes:
    return () if data is None else votes_from_value(decode(data, _VOTES_LIMIT))


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
            self._writer = _connect(path)
            self._prepare(now, named)
            self._reader = _connect(path)
            self._slow_reader = _connect(path)
        except (sqlite3.Error, OSError) as error:
            raise self._sentence(error) from error
        self._book: Book = FileBook(self._reader)

    def _prepare(self, now: float, named: int) -> None:
        db, status = self._writer, self.path.stat()
        here = _signed(status.st_dev), _signed(status.st_ino)
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            raise StoreError(f"{self.path} was written by another version of Fogbank")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={_VERSION}")
            db.execute("INSERT INTO file VALUES (1, ?, ?, ?, 0, 0, 0, 1)", (*here, not named))
        # A file that stands elsewhere than it was written is a copy: it may be an old one.
        db.execute(
            "UPDATE file SET is_whole=0, life=max(life+1, ?3), device=?1, inode=?2 "
            "WHERE device!=?1 OR inode!=?2 OR (is_whole AND count<?4)",
            (*here, int(now), named),
        )
        db.execute("COMMIT")
        self.head = _read_head(db)

    async def doubt(self, now: float) -> None:
        """Note on the disk that answers may be missing: from `now` on it leads another life."""
        await self._set("UPDATE file SET is_whole=0, life=max(life+1, ?)", (int(now),))

    async def trust(self, count: int) -> None:
        """Note that others' ledgers were merged; it counts at least as many answers from now on."""
        await self._set("UPDATE file SET is_whole=1, count=max(count, ?)", (count,))

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
            head = _read_head(self._writer)
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
        return [_held(row) for row in rows]

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
        why = error.strerror if isinstance(error, OSError) else error
        return StoreError(
            f"the mint's ledger {self.path} cannot be used ({why}): make room on its disk, or mend "
            "the permissions of its folder"
        )


def delete_file(path: Path) -> None:
    """Delete a series' file and all that SQLite keeps beside it; raise `OSError` if that fails."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    # Threads use a connection one after the other: each is guarded by a lock.
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db


def _signed(number: int) -> int:
    """Return an unsigned number as SQLite can keep it."""
    return number - (1 << 64) if number >= 1 << 63 else number
