"""Files that survive anything: a reader sees the old bytes or the new ones, never half of them."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from fogbank.sandbox.data import Data, portions


def write_atomic(path: Path, data: Data, mode: int = 0o600) -> None:
    """Replace the file at `path` by `data`, at once and durably.

    The bytes go to a temporary file beside it, which takes its place when they are on the disk. A
    writer that is killed leaves at most that one temporary file, which the next writer uses again;
    writers in several processes wait for each other. Raises `OSError`; the old file is then still
    in place.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    handle = _open_locked(temporary, mode)
    try:
        os.ftruncate(handle, 0)
        os.fchmod(handle, mode)
        with open(handle, "wb", closefd=False) as file:
            file.writelines(portions(data))
        os.fsync(handle)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(handle)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_locked(path: Path, mode: int) -> int:
    """Open or make the temporary file, as its only writer."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # While this one waited, the writer before it may have put the file in its place.
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
