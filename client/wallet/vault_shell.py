"""A wallet's file: records in and out, sealed, whole or not at all (spec/09 §8.4).

    vault = Vault.create(folder, network_id, entropy, records)
    with Vault.open(folder, passphrase) as vault:      # one process at a time
        records = vault.records()
        vault.write(change)                            # on the disk when it returns

The folder holds `wallet.db` and `lock`, which the process that is at work on the wallet holds by
`flock`. Whoever only reads needs no lock.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from fogbank.client.database_shell import Database, Schema, Transaction
from fogbank.client.wallet.errors import (
    NeedsRestore,
    NoWallet,
    WalletBusy,
    WalletError,
    WalletExists,
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
_LOCK: Final = "lock"
_SCHEMA: Final = Schema(
    "the wallet",
    "move it away, and restore the wallet from its words",
    WalletError,
    MIGRATIONS,
)
_INODE_SIZE: Final = 8
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
        self._tag, self.entropy, self._inode = self._about()

    @classmethod
    def create(
        cls,
        folder: Path,
        network_id: bytes,
        entropy: bytes,
        change: Change,
        random: Random = os.urandom,
    ) -> None:
        """Make a wallet with these records; one that is there is left alone (`WalletExists`).

        A kill leaves no wallet, or all of it.
        """
        lock = _locked(folder)
        try:
            database = Database(folder / FILE, _SCHEMA)
            try:
                if _has_wallet(database):
                    raise WalletExists(f"there is a wallet in {folder} already")
                sealer = Sealer(random(KEY_SIZE))
                about = _inode(folder / FILE) + entropy + network_id
                sealed = sealer.seal(about, random(NONCE_SIZE))
                rows = _rows(sealer, change.put, random)

                def write(transaction: Transaction) -> None:
                    transaction.db.execute(_META, ("about", sealed))
                    transaction.db.execute(_META, ("lock", sealer.lock()))
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
        lock = None if read_only else _locked(folder)
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

    def __enter__(self) -> Vault:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _about(self) -> tuple[bytes, bytes, bytes]:
        about = self._sealer.open(_meta(self._database, "about"))
        inode, rest = about[:_INODE_SIZE], about[_INODE_SIZE:]
        return rest[ENTROPY_SIZE:], rest[:ENTROPY_SIZE], inode

    @property
    def network_id(self) -> bytes:
        """The network that the wallet is of."""
        return self._tag

    @property
    def is_protected(self) -> bool:
        """Whether a passphrase is needed to open it."""
        return needs_passphrase(_meta(self._database, "lock"))

    @property
    def is_copy(self) -> bool:
        """Whether this is not the file that was written: it was copied, or put back.

        A file system gives each file a number of its own; the device's is left out, since it may be
        another after a restart of the machine.
        """
        return self._inode != _inode(self._folder / FILE)

    def records(self) -> list[Record]:
        """Return all that is kept."""
        rows = self._database.reader.execute("SELECT name, sealed FROM record").fetchall()
        records = []
        for name, sealed in rows:
            record = decode_row(self._sealer.open(sealed))
            if self._sealer.name(name_of(record)) != name:
                raise WalletError("the wallet's file was tampered with: restore it from its words")
            records.append(record)
        return records

    def history(self, limit: int | None = None) -> list[Entry]:
        """Return the last lines of the history, the newest first; all without a limit."""
        rows = self._database.reader.execute(
            "SELECT sealed FROM history ORDER BY number DESC LIMIT ?",
            (-1 if limit is None else limit,),
        ).fetchall()
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
        about = _inode(self._folder / FILE) + self.entropy + self._tag
        sealed = self._sealer.seal(about, self._random(NONCE_SIZE))

        def write(transaction: Transaction) -> None:
            transaction.db.executemany("DELETE FROM record WHERE name = ?", gone)
            transaction.db.executemany(_PUT, rows)
            transaction.db.executemany("INSERT INTO history (sealed) VALUES (?)", lines)
            if adopt:
                transaction.db.execute(_META, ("about", sealed))

        self._database.write_now(write)
        if adopt:
            self._inode = about[:_INODE_SIZE]

    def _check_mine(self, *, adopt: bool) -> None:
        if self._lock is None:
            raise WalletBusy("this wallet was opened to be read only")
        if self.is_copy and not adopt:
            raise NeedsRestore(
                "this wallet's file was copied or put back, and may not know what was spent since: "
                "`fog wallet restore` finds out"
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
    return bool(database.reader.execute("SELECT count(*) FROM meta").fetchone()[0])


def _meta(database: Database, name: str) -> bytes:
    row = database.reader.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise WalletError(f"the wallet's file is damaged: {_SCHEMA.if_damaged}")
    value = row[0]
    return value if isinstance(value, bytes) else b""


def _rows(sealer: Sealer, records: tuple[Record, ...], random: Random) -> list[tuple[bytes, bytes]]:
    return [
        (sealer.name(name_of(each)), sealer.seal(encode_row(each), random(NONCE_SIZE)))
        for each in records
    ]


def _inode(path: Path) -> bytes:
    return path.stat().st_ino.to_bytes(_INODE_SIZE, "big")


def _locked(folder: Path) -> int:
    """Make the folder if need be, and become its only process; raise `WalletBusy`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(folder / _LOCK, flags, 0o600)
    except OSError as error:
        raise WalletError(
            f"{folder} cannot be used ({error.strerror}): the wallet is kept there. Make room, or "
            "mend the folder's permissions"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise WalletBusy(
            "another process is at work on this wallet: wait until it has ended"
        ) from error
    return handle
