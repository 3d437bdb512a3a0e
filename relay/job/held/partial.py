"""What has come of sealed outputs, kept where a client finds it that begins anew (spec/08 §3.1)."""

from __future__ import annotations

from typing import Protocol

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.held.opening import Opening
from fogbank.sandbox.data import Data, NoRoom, Sinks, portions


class Log(Protocol):
    """Takes the sealed bytes of one output."""

    def append(self, part: memoryview) -> None:
        """Append bytes; raise `NoRoom`."""


class Partials(Protocol):
    """Where they are kept, by the session's ticket and the task's id there."""

    def begin(self, ticket: bytes, task: int, lengths: tuple[int, int]) -> Log:
        """Keep an output of these lengths (stdout, stderr) from its beginning; raise `NoRoom`."""

    def find(self, ticket: bytes, task: int) -> tuple[tuple[int, int], Data, Log] | None:
        """Return the lengths, the bytes and the log of an output that was begun, if it was."""

    def drop(self, ticket: bytes, task: int) -> None:
        """Forget an output."""


class LoggedOpening(Opening):
    """An output that is opened as it comes, and logged as long as there is room for that."""

    def __init__(
        self, secret: bytes, lengths: tuple[int, int], sinks: Sinks, log: Log | None = None
    ) -> None:
        super().__init__(secret, *lengths, sinks)
        self.log = log

    def write(self, data: memoryview) -> None:
        """Take in the next sealed bytes; raise `ProtocolError` if they do not open."""
        super().write(data)
        if self.log is not None:
            try:
                self.log.append(data)
            except NoRoom:
                self.log = None


def found(
    partials: Partials, ticket: bytes, task: int, secret: bytes, sinks: Sinks, most: int
) -> LoggedOpening | None:
    """Return an output that an earlier client had begun to take in, if what it left is right.

    `most`: how many bytes there may be in it.
    """
    try:
        kept = partials.find(ticket, task)
        if kept is None or sum(kept[0]) > most:
            return None
        lengths, sealed, log = kept
        opening = LoggedOpening(secret, lengths, sinks)
        for part in portions(sealed):
            opening.write(memoryview(part))
    except (ProtocolError, OSError):
        return None
    opening.log = log
    return opening if opening.lost is None else None
