"""A file that only grows, of the bytes of many tasks one behind the other (spec/13 §1).

One file for all tasks of a job: ten thousand small outputs cost a few writes, and what is written
at the same time one wait for the disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fogbank.client.journal.records import Span
from fogbank.sandbox.data import Data, portions

_PORTION: Final = 1 << 20


class Pack:
    """A pack in one file, made if it is not there. One process at a time may add to it."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._end = os.fstat(self._handle).st_size
        self._is_synced = True

    def close(self) -> None:
        """Give it up."""
        os.close(self._handle)

    def append(self, data: Data) -> Span:
        """Add bytes; raise `OSError`. They may be lost until `sync` returns."""
        span = Span(self._end, len(data))
        self._is_synced = self._is_synced and not span.size
        for part in portions(data):
            view = memoryview(part)
            while view:
                written = os.pwrite(self._handle, view, self._end)
                self._end += written
                view = view[written:]
        return span

    def sync(self) -> None:
        """Wait until all that was added is on the disk."""
        if not self._is_synced:
            os.fsync(self._handle)
            self._is_synced = True

    def read(self, span: Span | None) -> bytes:
        """Return the bytes at a place, none for no place; raise `OSError` if they are not there."""
        if span is None or not span.size:
            return b""
        parts: list[bytes] = []
        at, left = span.offset, span.size
        while left:
            part = os.pread(self._handle, min(left, _PORTION), at)
            if not part:
                raise OSError(f"{span.size} bytes at {span.offset} are missing: the job is damaged")
            parts.append(part)
            at, left = at + len(part), left - len(part)
        return b"".join(parts)
