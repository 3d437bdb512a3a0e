"""A wallet's file: records in and out, sealed, whole or not at all (spec/09 §8.4).

    vault = Vault.create(folder, network_id, entropy, records)
    vault = Vault.open(folder, passphrase)             # one process at a time, until it is closed
    records = vault.records()
    vault.write(change)                                # on the disk when it returns

The folder holds `wallet.db`, and what is in `folder_shell.py`. Whoever only reads needs no lock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from fogbank.client.database_shell import Database, Schema, Transaction
from fogbank.client.wallet.errors import (
    NeedsRestore,
    NoWallet,
    WalletBusy,
    WalletError,
    WalletExists,
)
from fogbank.client.wallet.folder_shell import (
    MARK_SIZE,
    NUMBER_SIZE,
    count_of,
    keep_count,
    locked,
    mark_of,
)
from fogbank.client.wallet.records import Change, Entry, Record
from fogbank.client.wallet.rows import (
    decode_entry,
    decode_row,
    encode_entry,
    encode_row,
    name_of,
)
from fogbank.client.wallet.sealing import (
    KEY_SIZE,
    NONCE_SIZE,
    SALT_SIZE,
    Sealer,
    needs_passphrase,
    unlock,
)
from fogbank.client.wallet.tables import MIGRATIONS
from fogbank.client.wallet.words import ENTROPY_SIZE
from fogbank.sandbox.files_shell import sync

FILE: Final = "wallet.db"
_SCHEMA: Final = Schema(
    "the wallet",
    "move it away, and restore the wallet from its words",
    WalletError,
    MIGRATIONS,
)
_PUT: Final = "INSERT OR REPLACE INTO record VALUES (?, ?)"
_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

Random: TypeAlias = Callable[[int], bytes]
Passphrase: TypeAlias = Callable[[], str]
"""Asks for a passphrase."""


class Vault:
    """The open file of a wallet; made by `create` or `open`. All methods raise `WalletError`."""

    def __init__(
        self, folder: Path, database: Database, sealer: Sealer, lock: int | None, random: Random
    ) -> None:
        self._folder = folder
        self._database = database
        self._sealer = sealer
        self._lock = lock
        self._random = random
        self._mark, self.entropy, self.network_id = self._about()
        # In this order: whoever writes meanwhile, if this one only reads, keeps the count last.
        kept = count_of(folder)
        known = int.from_bytes(_meta(database, "writes"), "big")
        self._writes = max(known, kept)
        self.is_copy = self._mark != mark_of(folder) or known < kept
        """Whether this is not the file that was written last: it was copied, put back, or made of
        words that were in use before."""

    @classmethod
    def create(
        cls,
        folder: Path,
        network_id: bytes,
        entropy: bytes,
        change: Change,
        random: Random = os.urandom,
        *,
        is_new: bool = True,
    ) -> None:
        """Make a wallet with these records; one that is there is left alone (`WalletExists`).

        One whose words are not new is as one that was put back: it has to be restored before it
        does anything. A kill leaves no wallet, or all of it.
        """
        lock = locked(folder)
        try:
            database = Database(folder / FILE, _SCHEMA)
            try:
                if _has_wallet(database):
                    raise WalletExists(f"there is a wallet in {folder} already")
                sealer = Sealer(random(KEY_SIZE))
                mark = mark_of(folder) if is_new else bytes(MARK_SIZE)
                sealed = sealer.seal(mark + entropy + network_id, random(NONCE_SIZE))
                rows = _rows(sealer, change.put, random)

                def write(transaction: Transaction) -> None:
                    transaction.db.execute(_META, ("about", sealed))
                    transaction.db.execute(_META, ("lock", sealer.lock()))
                    transaction.db.execute(_META, ("writes", b""))
                    transaction.db.executemany(_PUT, rows)

                database.write_now(write)
                sync(folder)
            finally:
                database.close()
        finally:
            os.close(lock)

    @classmethod
    def open(
        cls,
        folder: Path,
        passphrase: Passphrase | None = None,
        random: Random = os.urandom,
        *,
        read_only: bool = False,
    ) -> Vault:
        """Open a wallet, as the only process that changes it, or to read it only.

        Raises `NoWallet`, `WalletBusy`, `WalletLocked`.
        """
        if not wallet_exists(folder):
            raise NoWallet(f"there is no wallet in {folder} yet")
        lock = None if read_only else locked(folder)
        try:
            database = Database(folder / FILE, _SCHEMA)
            try:
                kept = _meta(database, "lock")
                asked = passphrase() if passphrase and needs_passphrase(kept) else None
                return cls(folder, database, unlock(kept, asked), lock, random)
            except BaseException:
                database.close()
                raise
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise

    def close(self) -> None:
        """Give it up."""
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)

    def _about(self) -> tuple[bytes, bytes, bytes]:
        about = self._sealer.open(_meta(self._database, "about"))
        mark, rest = about[:MARK_SIZE], about[MARK_SIZE:]
        return mark, rest[:ENTROPY_SIZE], rest[ENTROPY_SIZE:]

    @property
    def is_protected(self) -> bool:
        """Whether a passphrase is needed to open it."""
        return needs_passphrase(_meta(self._database, "lock"))

    def records(self) -> list[Record]:
        """Return all that is kept."""
        rows = self._database.read("SELECT name, sealed FROM record")
        records = []
        for name, sealed in rows:
            record = decode_row(self._sealer.open(sealed))
            if self._sealer.name(name_of(record)) != name:
                raise WalletError("the wallet's file was tampered with: restore it from its words")
            records.append(record)
        return records

    def history(self, limit: int | None = None) -> list[Entry]:
        """Return the last lines of the history, the newest first; all without a limit."""
        query = "SELECT sealed FROM history ORDER BY number DESC LIMIT ?"
        rows = self._database.read(query, (-1 if limit is None else limit,))
        return [decode_entry(self._sealer.open(sealed)) for (sealed,) in rows]

    def write(self, change: Change, *, adopt: bool = False) -> None:
        """Write a change, whole; it outlives a fall of the machine when this returns.

        `adopt`: take a copied file for the wallet from now on. Raises `NeedsRestore` if it is a
        copy else.
        """
        self._check_mine(adopt=adopt)
        rows = _rows(self._sealer, change.put, self._random)
        gone = [(self._sealer.name(name_of(each)),) for each in change.drop]
        lines = [
            (self._sealer.seal(encode_entry(each), self._random(NONCE_SIZE)),)
            for each in change.history
        ]
        mark = mark_of(self._folder) if adopt else self._mark
        about = self._seal_about(mark) if adopt else b""
        number = self._writes + 1

        def write(transaction: Transaction) -> None:
            transaction.db.executemany("DELETE FROM record WHERE name = ?", gone)
            transaction.db.executemany(_PUT, rows)
            transaction.db.executemany("INSERT INTO history (sealed) VALUES (?)", lines)
            transaction.db.execute(_META, ("writes", number.to_bytes(NUMBER_SIZE, "big")))
            if adopt:
                transaction.db.execute(_META, ("about", about))

        self._database.write_now(write)
        self._writes, self._mark = number, mark
        self.is_copy = self.is_copy and not adopt
        keep_count(self._folder, number)

    def _seal_about(self, mark: bytes) -> bytes:
        about = mark + self.entropy + self.network_id
        return self._sealer.seal(about, self._random(NONCE_SIZE))

    def _check_mine(self, *, adopt: bool) -> None:
        if self._lock is None:
            raise WalletBusy("this wallet was opened to be read only")
        if self.is_copy and not adopt:
            raise NeedsRestore(
                "this wallet was made from words, copied or put back, and does not know what was "
                "spent meanwhile: `fog wallet restore` finds out"
            )

    def protect(self, passphrase: str | None) -> None:
        """Seal the data key by a passphrase, or lay it beside the rows, in the place of before.

        A kill leaves the old lock or the new one.
        """
        if self._lock is None:
            raise WalletBusy("this wallet was opened to be read only")
        if passphrase is None:
            lock = self._sealer.lock()
        else:
            salt, nonce = self._random(SALT_SIZE), self._random(NONCE_SIZE)
            lock = self._sealer.lock_with(passphrase, salt, nonce)

        def write(transaction: Transaction) -> None:
            transaction.db.execute(_META, ("lock", lock))

        self._database.write_now(write)
        self._forget_old_pages()

    def _forget_old_pages(self) -> None:
        """Leave no page with the old lock in the log; a reader that is at work may keep it."""
        with suppress(sqlite3.Error):
            self._database.reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def wallet_exists(folder: Path) -> bool:
    """Tell whether a folder holds a wallet."""
    if not (folder / FILE).exists():
        return False
    database = Database(folder / FILE, _SCHEMA)
    try:
        return _has_wallet(database)
    finally:
        database.close()


def _has_wallet(database: Database) -> bool:
    return bool(database.read("SELECT name FROM meta"))


def _meta(database: Database, name: str) -> bytes:
    rows = database.read("SELECT value FROM meta WHERE name = ?", (name,))
    if not rows:
        raise WalletError(f"the wallet's file is damaged: {_SCHEMA.if_damaged}")
    value = rows[0][0]
    return value if isinstance(value, bytes) else b""


def _rows(sealer: Sealer, records: tuple[Record, ...], random: Random) -> list[tuple[bytes, bytes]]:
    return [
        (sealer.name(name_of(each)), sealer.seal(encode_row(each), random(NONCE_SIZE)))
        for each in records
    ]
