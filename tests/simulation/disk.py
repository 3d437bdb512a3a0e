"""A simulated node's disk: real files, which can be full, or out of a dead process's reach."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fogbank.directory.store_shell import Store, StoreError
from fogbank.relay.files_shell import write_atomic


class Disk:
    """One process's access to a disk. After a crash `dead` is set: nothing is written any more."""

    def __init__(self, is_full: Callable[[], bool]) -> None:
        self._is_full = is_full
        self.dead = False

    @property
    def fails(self) -> bool:
        """Whether writing fails now."""
        return self.dead or self._is_full()

    def write(self, path: Path, data: bytes) -> None:
        """Replace a file as a whole."""
        if self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data)

    def store(self, path: Path) -> Store:
        """Open an authority's database."""
        return _SimStore(path, self)


class _SimStore(Store):
    """A database on a simulated disk."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._disk = disk
        super().__init__(path)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._disk.fails:
            raise StoreError("the authority's database failed: database or disk is full")
        with super()._transaction():
            yield
