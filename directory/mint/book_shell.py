"""A series' records in SQLite: the tables, and what the ledger finds and keeps in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fogbank.directory.mint.certificates import Lives, votes_from_value
from fogbank.directory.mint.ledger import Entry, Held, Holder, Votes, bucket_of
from fogbank.relay.codec import decode, encode

MAX_EVIDENCE: Final = 1024
"""Proofs that are kept of one series."""
VERSION: Final = 1
_BUSY_SECONDS = 5
_VOTES_LIMIT = 64 << 10
SCHEMA: Final = """
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


class FileBook:
    """A series' records through one connection; what is written belongs to its transaction.

    `settle` is to be called before that is committed.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._answered = [0, 0, 0]

    def find(self, digest: bytes) -> Held | None:
        """Return the request of that digest."""
        row = self._db.execute(
            "SELECT digest, signed, may_vote, votes FROM request WHERE digest=?", (digest,)
        ).fetchone()
        return None if row is None else read_held(row)

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
        """Tell whether there is a proof on a subject, or no room for one."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM evidence WHERE subject=?) OR count(*) >= ? FROM evidence",
            (subject, MAX_EVIDENCE),
        ).fetchone()
        return bool(row[0])

    def keep_evidence(self, subject: bytes, proof: bytes) -> None:
        """Keep a proof, unless there is one on that subject or there are very many."""
        self._db.execute(
            "INSERT OR IGNORE INTO evidence (subject, proof) SELECT ?, ? "
            "WHERE (SELECT count(*) FROM evidence) < ?",
            (subject, proof, MAX_EVIDENCE),
        )

    def answered(self, locked: int, issued: int) -> None:
        """Count an answer that is new, and how many serials and outputs it is the first for."""
        for at, new in enumerate((1, locked, issued)):
            self._answered[at] += new

    def settle(self) -> None:
        """Write what was counted, once for all answers of a transaction."""
        if any(self._answered):
            self._db.execute(
                "UPDATE file SET count=count+?, locked=locked+?, issued=issued+?", self._answered
            )
        self._answered = [0, 0, 0]


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


def read_head(db: sqlite3.Connection) -> Head:
    """Return what the file says of itself."""
    row = db.execute("SELECT count, locked, issued, life, is_whole FROM file").fetchone()
    lives = db.execute("SELECT member, life FROM life ORDER BY member").fetchall()
    count, locked, issued, life, is_whole = row
    named = tuple((member, each) for member, each in lives)
    return Head(count, locked, issued, life, named, bool(is_whole))


def _packed(votes: Votes) -> bytes | None:
    return encode([vote.value() for vote in votes]) if votes else None


def read_held(row: Sequence[Any]) -> Held:
    """Return the request of a row."""
    digest, signed, may_vote, votes = row
    return Held(digest, signed, bool(may_vote), _votes(votes))


def _votes(data: bytes | None) -> Votes:
    return () if data is None else votes_from_value(decode(data, _VOTES_LIMIT))


def connect(path: Path) -> sqlite3.Connection:
    """Open a series' file, each commit of which is to be on the disk."""
    # Threads use a connection one after the other: each is guarded by a lock.
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db


def signed(number: int) -> int:
    """Return an unsigned number as SQLite can keep it."""
    return number - (1 << 64) if number >= 1 << 63 else number
