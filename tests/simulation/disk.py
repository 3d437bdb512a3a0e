"""A simulated node's disk: real files, which can be full, torn, or out of a dead process's reach.

What a process has not synced may be lost when the power goes, in whole or in part, in any order:

* a file put in place by a rename: without an fsync before it is torn, without one of its folder
  after it is the old one; and a temporary file that was being written is left, torn;
* a database in WAL mode: with `synchronous=FULL` all that was committed is there. Behind it the
  log may end in a torn transaction, and of the pages that a checkpoint was copying some are torn.
  With less, all that came since the process began is lost.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fogbank.directory.mint.ledger_shell import SeriesFile
from fogbank.directory.store_shell import Store, StoreError
from fogbank.relay.job.held.keeper_shell import Blocking
from fogbank.sandbox.files_shell import write_atomic
from tests.simulation.chance import Chance

_FULL = 2
"""`PRAGMA synchronous` of a database that syncs each commit."""
_WAL_HEADER = 32
_FRAME_HEADER = 24

Image = dict[str, bytes]
"""What a database's files hold, by their suffix; a missing one is absent."""


@dataclass
class Platter:
    """What outlives a machine's processes: how each database was left, and the chance of harm."""

    chance: Chance
    left: dict[Path, Image] = field(default_factory=dict)


class Disk:
    """One process's access to a disk. After a crash `dead` is set: nothing is written any more."""

    def __init__(self, is_full: Callable[[], bool], platter: Platter) -> None:
        self._is_full = is_full
        self._platter = platter
        self._stores: list[_SimStore] = []
        self._ledgers: list[tuple[_SimLedger, Image]] = []
        self._written: dict[Path, _Written] = {}
        self.dead = False

    @property
    def fails(self) -> bool:
        """Whether writing fails now."""
        return self.dead or self._is_full()

    def write(self, path: Path, data: bytes) -> None:
        """Replace a file as a whole."""
        if self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        old = path.read_bytes() if path.exists() else None
        with _watched() as synced:
            write_atomic(path, data)
        torn = path.stat().st_ino not in synced
        self._written[path] = _Written(old, torn, path.parent.stat().st_ino not in synced)

    def store(self, path: Path) -> Store:
        """Open an authority's database."""
        _put(path, self._platter.left.pop(path, None))
        store = _SimStore(path, self, _image(path))
        self._stores.append(store)
        return store

    def ledger(self, path: Path, now: float, blocking: Blocking, named: int) -> SeriesFile:
        """Open a series' ledger of an authority's mint."""
        image = self._platter.left.pop(path, None)
        if image is not None:
            # In place: a file that stands elsewhere would pass for a backup.
            for suffix, data in image.items():
                path.with_name(path.name + suffix).write_bytes(data)
        at_first = _image(path)
        ledger = _SimLedger(path, now, blocking, named, self)
        self._ledgers.append((ledger, at_first))
        return ledger

    def die(self, *, power: bool) -> None:
        """Leave the disk as a killed process does, or one whose machine lost power."""
        if self.dead:
            return
        self.dead = True
        for store in self._stores:
            self._platter.left[store.path] = self._left(store, power=power)
        for ledger, at_first in self._ledgers:
            if power and not ledger.syncs:
                self._platter.left[ledger.path] = at_first
        if power:
            for path, written in self._written.items():
                if path.exists():
                    self._harm(path, written)

    def _left(self, store: _SimStore, *, power: bool) -> Image:
        if not power:
            return _image(store.path)
        if not store.syncs:
            return store.at_first
        return _torn(_image(store.path), self._platter.chance)

    def _harm(self, path: Path, written: _Written) -> None:
        chance, data = self._platter.chance, path.read_bytes()
        if chance.once_in(0.3):
            path.with_name(f".{path.name}.tmp").write_bytes(data[: chance.below(len(data) + 1)])
        if written.torn:
            path.write_bytes(data[: chance.below(len(data) + 1)])
        elif written.unnamed and written.old is None:
            path.unlink()
        elif written.unnamed:
            path.write_bytes(written.old or b"")


@dataclass(frozen=True)
class _Written:
    """A file that was replaced: its old bytes, and what was not synced."""

    old: bytes | None
    torn: bool
    unnamed: bool


@contextmanager
def _watched() -> Iterator[set[int]]:
    """Note the inodes that are synced: a file only before its rename, a folder only after it."""
    synced: set[int] = set()
    fsync, replace = os.fsync, Path.replace
    renamed = False

    def sync(handle: int) -> None:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode) == renamed:
            synced.add(status.st_ino)

    def rename(source: Path, target: Path) -> Path:
        nonlocal renamed
        renamed = True
        return replace(source, target)

    os.fsync = sync  # type: ignore[assignment]
    Path.replace = rename  # type: ignore[method-assign, assignment]
    try:
        yield synced
    finally:
        os.fsync = fsync
        Path.replace = replace  # type: ignore[method-assign]


class _SimStore(Store):
    """A database on a simulated disk."""

    def __init__(self, path: Path, disk: Disk, at_first: Image) -> None:
        self._disk = disk
        self.path = path
        self.at_first = at_first
        super().__init__(path)

    @property
    def syncs(self) -> bool:
        """Whether each commit is on the disk when it returns."""
        (level,) = self._db.execute("PRAGMA synchronous").fetchone()
        return bool(level >= _FULL)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._disk.fails:
            raise StoreError("the authority's database failed: database or disk is full")
        with super()._transaction():
            yield


class _SimLedger(SeriesFile):
    """A ledger on a simulated disk."""

    def __init__(self, path: Path, now: float, blocking: Blocking, named: int, disk: Disk) -> None:
        self._disk = disk
        if disk.fails:
            raise StoreError("the mint's ledger failed: database or disk is full")
        super().__init__(path, now, blocking, named)

    @property
    def syncs(self) -> bool:
        """Whether each commit is on the disk when it returns."""
        (level,) = self._writer.execute("PRAGMA synchronous").fetchone()
        return bool(level >= _FULL)

    def _commit(self, batch: list[Any]) -> None:
        if not self._disk.fails:
            super()._commit(batch)
            return
        error = StoreError("the mint's ledger failed: database or disk is full")
        for each in batch:
            each.is_done, each.error = True, error


def _image(path: Path) -> Image:
    files = {suffix: path.with_name(path.name + suffix) for suffix in ("", "-wal")}
    return {suffix: file.read_bytes() for suffix, file in files.items() if file.exists()}


def _put(path: Path, image: Image | None) -> None:
    """Put a database's files back as they were left, without the index that is memory's alone."""
    if image is None:
        return
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        file.unlink(missing_ok=True)
        if suffix in image:
            file.write_bytes(image[suffix])


def _torn(image: Image, chance: Chance) -> Image:
    """Tear what was being written: pages that the log holds too, and the log's end."""
    log = image.get("-wal", b"")
    if len(log) < _WAL_HEADER:
        return image
    (size,) = struct.unpack_from(">8xI", log)
    pages, end = _committed(log, size)
    file = bytearray(image.get("", b""))
    for page in sorted(pages):
        begin = (page - 1) * size
        if begin + size <= len(file) and chance.once_in(0.3):
            kept = chance.below(size)
            file[begin + kept : begin + size] = chance.randbytes(size - kept)
    if end == len(log):
        # The next transaction's first bytes had got there, or what stood there before.
        log += chance.choice((b"", log[_WAL_HEADER:][: chance.below(3 * size)], bytes(size)))
    return {"": bytes(file), "-wal": log}


def _committed(log: bytes, size: int) -> tuple[set[int], int]:
    """Return the pages in the log's committed transactions, and where these end."""
    salts = log[16:24]
    pages: set[int] = set()
    open_pages: set[int] = set()
    end = at = _WAL_HEADER
    while at + _FRAME_HEADER + size <= len(log) and log[at + 8 : at + 16] == salts:
        page, committed = struct.unpack_from(">II", log, at)
        open_pages.add(page)
        at += _FRAME_HEADER + size
        if committed:
            pages |= open_pages
            end = at
    return pages, end
