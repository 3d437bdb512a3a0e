"""What an authority keeps on disk: journals, consensuses, nodes, evidence (spec/05 §8).

One SQLite file in WAL mode with `synchronous=FULL`: when a journaling call returns, the bytes are
on the disk, and a kill at any moment leaves the file readable, with every finished call in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fogbank.directory.agreement import Journal
from fogbank.directory.authority import Restored
from fogbank.directory.consensus import VALIDITY
from fogbank.directory.effects import NodeRecord
from fogbank.directory.exchange import MAX_EVIDENCE
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import NodeId

_VERSION = 2
_BUSY_SECONDS = 5
_KEPT_CONSENSUSES = 48
_KEPT_EVIDENCE = 1024
_SCHEMA = """
CREATE TABLE journal (valid_after INTEGER PRIMARY KEY, vote BLOB, consensus BLOB) STRICT;
CREATE TABLE consensus (valid_after INTEGER PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE node (
    identity BLOB PRIMARY KEY, descriptor BLOB NOT NULL,
    first_seen INTEGER NOT NULL, running_since INTEGER NOT NULL
) STRICT;
CREATE TABLE evidence (
    valid_after INTEGER NOT NULL, authority BLOB NOT NULL, evidence BLOB NOT NULL,
    PRIMARY KEY (valid_after, authority)
) STRICT;
"""
_SCHEMA_2 = """
CREATE TABLE mint (one INTEGER PRIMARY KEY CHECK (one=1), valid_after INTEGER NOT NULL) STRICT;
CREATE TABLE dealing (series INTEGER NOT NULL, dealing BLOB NOT NULL) STRICT;
"""
"""What version 2 adds."""


class StoreError(RelayError):
    """The authority's database cannot be used: see that the disk has room and the path is right."""


class Store:
    """An authority's database. Calls block until the disk has answered.

    Raises `StoreError` with a sentence for whatever SQLite reports.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._path = path
        with self._explained():
            # Transactions are begun and ended here, by name.
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        with self._explained():
            self._prepare()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            added = {0: _SCHEMA + _SCHEMA_2, 1: _SCHEMA_2}.get(version, "")
            if added:
                for statement in added.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={_VERSION}")
        if version > _VERSION:
            self._db.close()
            raise StoreError(f"{self._path} was written by another version of Fogbank")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the authority's database {self._path} failed: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def restore(self) -> Restored:
        """Return everything that an authority needs to go on after a restart."""
        with self._explained():
            journals = {
                valid_after: Journal(vote or b"", consensus or b"")
                for valid_after, vote, consensus in self._db.execute(
                    "SELECT valid_after, vote, consensus FROM journal"
                )
            }
            nodes = tuple(
                NodeRecord(*row)
                for row in self._db.execute(
                    "SELECT identity, descriptor, first_seen, running_since FROM node"
                )
            )
            newest = self._db.execute(
                "SELECT document FROM consensus ORDER BY valid_after DESC LIMIT 1"
            ).fetchone()
            mint = self._db.execute("SELECT document FROM consensus NATURAL JOIN mint").fetchone()
            dealings = tuple(self._db.execute("SELECT series, dealing FROM dealing"))
        consensus, held = (row[0] if row else b"" for row in (newest, mint))
        return Restored(journals, nodes, consensus, held, dealings)

    def journal_vote(self, valid_after: int, vote: bytes) -> None:
        """Put the vote of a round on the disk; raise `StoreError` if another one is there."""
        self._journal("vote", valid_after, vote)

    def journal_signature(self, valid_after: int, body: bytes) -> None:
        """Put the consensus that is signed on the disk; raise `StoreError` if another is there."""
        self._journal("consensus", valid_after, body)

    def _journal(self, column: str, valid_after: int, data: bytes) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO journal (valid_after) VALUES (?)", (valid_after,)
            )
            (known,) = self._db.execute(
                f"SELECT {column} FROM journal WHERE valid_after=?",  # noqa: S608 - two literals
                (valid_after,),
            ).fetchone()
            if known is not None and known != data:
                raise StoreError(
                    "something else was signed for this round: does the authority run twice?"
                )
            self._db.execute(
                f"UPDATE journal SET {column}=? WHERE valid_after=?",  # noqa: S608 - two literals
                (data, valid_after),
            )
            self._db.execute("DELETE FROM journal WHERE valid_after<?", (valid_after - VALIDITY,))

    def keep_consensus(self, valid_after: int, document: bytes) -> None:
        """Keep a consensus, and drop the oldest."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO consensus VALUES (?, ?)", (valid_after, document)
            )
            self._db.execute(
                "DELETE FROM consensus WHERE valid_after NOT IN "
                "(SELECT valid_after FROM consensus ORDER BY valid_after DESC LIMIT ?) "
                "AND valid_after NOT IN (SELECT valid_after FROM mint)",
                (_KEPT_CONSENSUSES,),
            )

    def keep_mint(self, valid_after: int, document: bytes) -> None:
        """Keep a consensus for its state of the mint until another one takes its place."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO consensus VALUES (?, ?)", (valid_after, document)
            )
            self._db.execute("INSERT OR REPLACE INTO mint VALUES (1, ?)", (valid_after,))

    def mint(self, valid_after: int) -> bytes:
        """Return the consensus that is kept for its state of the mint, if it is of that time."""
        with self._explained():
            row = self._db.execute(
                "SELECT document FROM consensus NATURAL JOIN mint WHERE valid_after=?",
                (valid_after,),
            ).fetchone()
        return row[0] if row else b""

    def keep_dealings(self, dealings: Iterable[tuple[int, bytes]]) -> None:
        """Keep these dealings, each with its series, in place of all others."""
        with self._transaction():
            self._db.execute("DELETE FROM dealing")
            self._db.executemany("INSERT INTO dealing VALUES (?, ?)", dealings)

    def keep_nodes(self, kept: Iterable[NodeRecord], forgotten: Iterable[NodeId]) -> None:
        """Write nodes' records, and delete others, all at once."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?)",
                [(r.identity, r.descriptor, r.first_seen, r.running_since) for r in kept],
            )
            self._db.executemany("DELETE FROM node WHERE identity=?", [(i,) for i in forgotten])

    def keep_evidence(self, valid_after: int, authority: NodeId, evidence: bytes) -> None:
        """Keep the proof of two votes; the oldest go when there are very many."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)",
                (valid_after, authority, evidence),
            )
            self._db.execute(
                "DELETE FROM evidence WHERE rowid NOT IN "
                "(SELECT rowid FROM evidence ORDER BY valid_after DESC LIMIT ?)",
                (_KEPT_EVIDENCE,),
            )

    def evidence(self) -> list[bytes]:
        """Return the newest proofs, newest first."""
        with self._explained():
            rows = self._db.execute(
                "SELECT evidence FROM evidence ORDER BY valid_after DESC, authority LIMIT ?",
                (MAX_EVIDENCE,),
            ).fetchall()
        return [evidence for (evidence,) in rows]
