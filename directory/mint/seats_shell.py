"""What answers to the mint's messages go by: what is known, who computes, which ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fogbank.directory.mint.certificates import Lives
from fogbank.directory.mint.crunch import Task
from fogbank.directory.mint.ledger_shell import SeriesFile
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.relay.errors import RelayError
from fogbank.relay.keys import Ed25519Key, NodeId


class NotNow(RelayError):
    """The mint cannot answer this now; the message says when it may."""


class Seats(Protocol):
    """What an authority knows of the mint and of its own part in it."""

    @property
    def state(self) -> MintState:
        """The newest state of the mint."""

    @property
    def vote(self) -> Ed25519Key:
        """The key V that signs its votes."""

    def share_of(self, series: int) -> int | None:
        """Return its share of a series' key, or None if it has none."""

    def dealings(self, series: int) -> Collection[tuple[NodeId, bytes]]:
        """Return the dealings of a series that it holds, each with its dealer."""

    def missing(self) -> Collection[int]:
        """Return the series of which it lacks dealings."""

    def take_dealings(self, series: int, dealings: Iterable[tuple[NodeId, bytes]]) -> None:
        """Take dealings that another member gave; whether they are the right ones is known."""


class Computing(Protocol):
    """Has tasks computed: by processes, or where none may be, at once."""

    @property
    def waiting(self) -> int:
        """Tasks that wait."""

    @property
    def cost(self) -> float:
        """What a task took lately, in seconds."""

    async def do_all(
        self, tasks: Sequence[tuple[Task, int]]
    ) -> list[tuple[bytes, ...] | RelayError]:
        """Do tasks that came together, each with its urgency; return what each came to."""

    async def do(self, task: Task, urgency: int = 0) -> tuple[bytes, ...]:
        """Return the shares that a task wants; raise `ProtocolError`, or `Busy`."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series as this authority serves it; `place` is its number in the committee, or 0."""

    record: SeriesRecord
    place: int
    file: SeriesFile

    @property
    def lives(self) -> Lives:
        """What its votes name: its own life, and those of others."""
        head = self.file.head
        others = [each for each in head.lives if each[0] != self.place]
        own = [(self.place, head.life)] if head.life else []
        return tuple(sorted(others + own))
