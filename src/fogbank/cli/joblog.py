"""The log of an array: a line for each result that was delivered (spec/11 §4).

Its columns are those of GNU parallel's, and one more that tells one task from another. A line is
written with one call, after the result is on the disk, and waited for with others: so neither the
end of the client nor the machine's leaves a line without a result, and at most one that is cut off,
which is no line.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_COLUMNS = (
    "Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command",
    "Task",
)  # fmt: skip
_HEADER = "\t".join(_COLUMNS)
_LOG_SIZE = 4 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Times in seconds, sizes in bytes; `digest` tells the task from any other."""

    number: int
    worker: str
    began: float
    seconds: float
    sent: int
    received: int
    exit_code: int
    command: str
    digest: str

    def line(self) -> str:
        """Return the line, without its end."""
        numbers = (self.sent, self.received, self.exit_code, 0)
        times = (f"{self.began:.3f}", f"{self.seconds:.3f}")
        fields = (str(self.number), self.worker or "-", *times, *map(str, numbers))
        return "\t".join((*fields, self.command, self.digest))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a line says of a task that need not be run again."""

    exit_code: int
    digest: str


class JobLog:
    """A log that is open for writing, by one program at a time."""

    def __init__(self, path: Path, handle: int, recorded: dict[int, Recorded]) -> None:
        self._path = path
        self._handle = handle
        self.recorded = recorded
        """What was there when it was opened, by the tasks' numbers."""

    @classmethod
    def open(cls, path: Path, *, resume: bool) -> Self:
        """Open the log; without `resume` it begins anew.

        Raises `ValueError` if it is no log or in use, and `OSError`.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another `fog map` is writing {path}") from None
            recorded = _recover(handle, path) if resume else {}
            if not resume:
                os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_END)
            log = cls(path, handle, recorded)
            if not os.fstat(handle).st_size:
                log._write(_HEADER)
        except BaseException:
            os.close(handle)
            raise
        return log

    def record(self, entry: Entry) -> None:
        """Write a line; raise `OSError`."""
        self._write(entry.line())

    def settle(self) -> None:
        """Wait until what was written is on the disk; raise `OSError`."""
        os.fdatasync(self._handle)

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode()
        written = os.write(self._handle, data)
        if written != len(data):
            raise OSError(f"{self._path} takes no more: make room on its disk")

    def close(self) -> None:
        """Give it up."""
        os.close(self._handle)


def _recover(handle: int, path: Path) -> dict[int, Recorded]:
    """Read what is there, and cut off a last line that has no end."""
    if os.fstat(handle).st_size > _LOG_SIZE:
        raise ValueError(f"{path} has more than {_LOG_SIZE} bytes: it is no log of an array")
    recorded: dict[int, Recorded] = {}
    whole = 0
    with open(handle, "rb", closefd=False) as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            if whole:
                number, entry = _parse(line, path)
                recorded[number] = entry
            elif line.decode(errors="replace").rstrip("\n") != _HEADER:
                raise ValueError(f"{path} is no log that `fog map` wrote: name another file")
            whole += len(line)
    os.ftruncate(handle, whole)
    return recorded


def _parse(line: bytes, path: Path) -> tuple[int, Recorded]:
    fields = line.decode(errors="replace").rstrip("\n").split("\t")
    try:
        number, exit_code = int(fields[0]), int(fields[6])
    except (IndexError, ValueError):
        fields = []
        number = exit_code = 0
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"{path} is damaged: begin anew, without --resume")
    return number, Recorded(exit_code, fields[-1])
