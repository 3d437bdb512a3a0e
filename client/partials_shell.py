"""What has come of large outputs, in files that outlive their client (spec/08 §3.1)."""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from fogbank.sandbox.data import Data, NoRoom, part_of
from fogbank.sandbox.scratch_shell import FileData

_HEAD: Final = struct.Struct(">QQ")


class _Log:
    """A file that sealed bytes are appended to. It is closed with the object."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)

    def append(self, part: bytes | memoryview) -> None:
        """Append bytes; raise `NoRoom`."""
        left = memoryview(part)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            raise NoRoom(f"nothing can be kept: {error.strerror or error}") from error

    def __del__(self) -> None:
        """Close it."""
        # Opening it may have failed.
        with suppress(AttributeError):
            os.close(self._descriptor)


class PartialFolder:
    """A folder with a file for each output that has begun to come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, ticket: bytes, task: int, lengths: tuple[int, int]) -> _Log:
        """Keep an output of these lengths from its beginning; raise `NoRoom`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            log = _Log(self._path(ticket, task), os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        except OSError as error:
            raise NoRoom(f"nothing can be kept: {error.strerror or error}") from error
        log.append(_HEAD.pack(*lengths))
        return log

    def find(self, ticket: bytes, task: int) -> tuple[tuple[int, int], Data, _Log] | None:
        """Return the lengths, the bytes and the log of an output; raise `OSError`."""
        path = self._path(ticket, task)
        try:
            data = FileData.open(path)
        except FileNotFoundError:
            return None
        head = data.read(0, _HEAD.size)
        if len(head) < _HEAD.size:
            return None
        stdout, stderr = _HEAD.unpack(head)
        return (stdout, stderr), part_of(data, _HEAD.size), _Log(path, os.O_APPEND)

    def drop(self, ticket: bytes, task: int) -> None:
        """Forget an output."""
        with suppress(OSError):
            self._path(ticket, task).unlink()

    def _path(self, ticket: bytes, task: int) -> Path:
        return self._folder / f"{hashlib.sha256(ticket).hexdigest()[:32]}-{task}"
