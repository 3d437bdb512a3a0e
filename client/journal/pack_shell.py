"""A file that only grows, of the bytes of many tasks one behind the other (spec/13 §1).

One file for all tasks of a job: ten thousand small outputs cost a few writes, and what is written
at the same time one wait for the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from fogbank.client.journal.records import Span
from fogbank.sandbox.data import Data, portions
from fogbank.sandbox.scratch_shell import IN_MEMORY


class Pack:
    """A pack in one file, made if it is not there. One process at a time may add to it."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._end = os.fstat(self._handle).st_size
        self._is_synced = True

    def close(self) -> None:
        """Give it up; what was read of it stays readable."""
        os.close(self._handle)

    def append(self, data: Data) -> Span:
        """Add bytes; raise `OSError`. They may be lost until `sync` returns."""
        begin = self._end
        for part in portions(data):
            self._is_synced = False
            left = memoryview(part)
            while left:
                written = os.pwrite(self._handle, left, self._end)
                self._end += written
                left = left[written:]
        return Span(begin, self._end - begin)

    def sync(self) -> None:
        """Wait until all that was added is on the disk."""
        if self._is_synced:
            return
        # What is added meanwhile, by another thread, waits for the next time.
        self._is_synced = True
        try:
            os.fsync(self._handle)
        except OSError:
            self._is_synced = False
            raise

    def read(self, span: Span | None) -> Data:
        """Return the bytes at a place, none for no place; raise `OSError` if they are not there."""
        if span is None or not span.size:
            return b""
        if span.size > IN_MEMORY:
            return _Part(os.dup(self._handle), span)
        data = os.pread(self._handle, span.size, span.offset)
        if len(data) < span.size:
            raise OSError(f"{span.size} bytes at {span.offset} are missing: the job is damaged")
        return data


class _Part:
    """Bytes of a pack, of which portions are read as they are needed."""

    def __init__(self, descriptor: int, span: Span) -> None:
        self._descriptor = descriptor
        self._span = span

    def __len__(self) -> int:
        return self._span.size

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start` on; raise `OSError`."""
        left = max(0, self._span.size - start)
        return os.pread(self._descriptor, min(size, left), self._span.offset + start)

    def __del__(self) -> None:
        """Close it."""
        os.close(self._descriptor)
