"""The `fog` command that notes in FOGBANK_NOTES what its journal is told, and when.

A line each: `sent TASK` before a task goes to a worker, `ended TASK` when its result is safe on the
disk, `way NICKNAME…` for a circuit. Each is written with one call, so that a kill leaves none half.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from fogbank.cli.app import run_app
from fogbank.client.journal.array_shell import JobJournal
from fogbank.client.scheduling.tasks import TaskEnd

_NOTES = os.open(os.environ["FOGBANK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(*words: object) -> None:
    """Write a line."""
    os.write(_NOTES, " ".join(map(str, words)).encode() + b"\n")


sent, ended, reached = JobJournal.sent, JobJournal.ended, JobJournal.reached


async def note_sent(self: JobJournal, lane: int, tasks: Mapping[int, int]) -> None:
    """Note what is about to be sent."""
    for number in tasks.values():
        note("sent", number)
    await sent(self, lane, tasks)


async def note_ended(self: JobJournal, ends: Sequence[TaskEnd]) -> None:
    """Note what is safe."""
    await ended(self, ends)
    for end in ends:
        note("ended", end.number)


def note_reached(self: JobJournal, lane: int, way: Sequence[str]) -> None:
    """Note the nodes of a circuit."""
    note("way", *way)
    reached(self, lane, way)


if __name__ == "__main__":
    JobJournal.sent = note_sent  # type: ignore[method-assign]
    JobJournal.ended = note_ended  # type: ignore[method-assign]
    JobJournal.reached = note_reached  # type: ignore[method-assign]
    sys.exit(run_app())
