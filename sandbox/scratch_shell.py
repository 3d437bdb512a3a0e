"""Data in files: what is too large to be held in memory (spec/07 §2).

Files made here have no name: they are gone with the process that made them, however that ends.
Nothing waits for the disk: a page that is written or read lies in the kernel's cache as a rule.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

from fogbank.sandbox.data import Data, NoRoom, portions, whole

IN_MEMORY: Final = 1 << 20
"""Bytes of one input or output that are kept in memory; more go to a file."""


class FileData:
    """A file's bytes, as many as it had when it was opened. The file is closed with the object."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Take over an open descriptor of a file that can be read at any place."""
        self._descriptor = descriptor
        self._size = size

    @classmethod
    def open(cls, path: Path) -> "FileData":
        """Open a file. Raises `OSError`."""
        return cls.adopt(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def adopt(cls, descriptor: int) -> "FileData":
        """Take over a descriptor of a regular file, from its beginning. Raises `OSError`."""
        return cls(descriptor, os.fstat(descriptor).st_size)

    def __len__(self) -> int:
        """Return its length in bytes."""
        return self._size

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start` on. Raises `OSError`."""
        return os.pread(self._descriptor, min(size, max(self._size - start, 0)), start)

    def append(self, part: bytes | bytearray | memoryview) -> None:
        """Write at the end. Raises `OSError`."""
        left = memoryview(part)
        while left:
            written = os.pwrite(self._descriptor, left, self._size)
            self._size += written
            left = left[written:]

    def __del__(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def read_file(path: Path) -> Data:
    """Return what a file holds, in memory if it is small. Raises `OSError`."""
    data = FileData.open(path)
    return whole(data) if len(data) <= IN_MEMORY else data


def write_data(path: Path, data: Data) -> None:
    """Write a file. Raises `OSError`."""
    with path.open("wb") as file:
        for part in portions(data):
            file.write(part)


class Scratch:
    """A folder in which what arrives is kept while it is needed."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made when it is first needed, and should be on a disk."""
        self.folder = folder

    def sink(self) -> "Spool":
        """Return a sink that keeps little in memory, and what is more in a file without a name."""
        return Spool(self)

    def file(self) -> int:
        """Return the descriptor of a new file without a name. Raises `OSError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            flags = os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC
            return os.open(self.folder, flags, 0o600)
        except OSError:
            # Not every file system has files without names.
            descriptor, name = tempfile.mkstemp(dir=self.folder)
            Path(name).unlink()
            return descriptor


class Spool:
    """A sink whose bytes go to a file once they are more than `IN_MEMORY`."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._head = bytearray()
        self._file: FileData | None = None

    def write(self, part: bytes | memoryview) -> None:
        """Append bytes. Raises `NoRoom`."""
        if self._file is None and len(self._head) + len(part) <= IN_MEMORY:
            self._head += part
            return
        try:
            if self._file is None:
                self._file = FileData(self._scratch.file(), 0)
                self._file.append(self._head)
                self._head.clear()
            self._file.append(part)
        except OSError as error:
            reason = error.strerror or error
            raise NoRoom(f"nothing can be kept in {self._scratch.folder}: {reason}") from error

    def done(self) -> Data:
        """Return all that was written, once."""
        file, self._file = self._file, None
        return bytes(self._head) if file is None else file
