"""Tasks as rows of the journal's table (spec/13 §1). Pure."""

from __future__ import annotations

import json
from typing import Any, Protocol

from fogbank.client.journal.records import Kept, Origin, Span, Stage


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any:
        """Return one column."""


def row_of(task: Kept) -> tuple[object, ...]:
    """Return a new task as the columns place to delivered."""
    origin = task.origin
    parts: list[list[object]] = []
    if origin.stdin is not None:
        parts.append([None, origin.stdin.offset, origin.stdin.size])
    parts += ([name, span.offset, span.size] for name, span in origin.files)
    inputs = json.dumps(parts) if parts else None
    first = (task.place, origin.number, origin.value, inputs, task.digest)
    return (*first, task.stage, task.reason, task.code, task.is_over, task.delivered)


def kept_of(row: Row) -> Kept:
    """Return a task from its row."""
    parts = [(name, Span(at, size)) for name, at, size in json.loads(row["input"] or "[]")]
    stdin = next((span for name, span in parts if name is None), None)
    files = tuple((name, span) for name, span in parts if name is not None)
    at, stdout, stderr = row["output"], row["stdout"], row["stderr"]
    return Kept(
        origin=Origin(row["number"], row["value"], stdin, files),
        place=row["place"],
        stage=Stage(row["stage"]),
        reason=row["reason"],
        code=row["code"],
        outcome=row["outcome"],
        fuel=row["fuel"],
        seconds=row["seconds"],
        worker=row["worker"],
        stdout=None if at is None else Span(at, stdout),
        stderr=None if at is None else Span(at + stdout, stderr),
        digest=row["digest"],
        delivered=bool(row["delivered"]),
    )
