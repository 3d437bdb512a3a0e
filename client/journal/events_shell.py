"""What happened to a job, and to its tasks: a bounded number of lines (spec/13 §1)."""

from __future__ import annotations

import time
from typing import Final

from fogbank.client.database_shell import Transaction

_MOST: Final = 40
"""Events that are kept of a job, and of each of its tasks."""


def note(transaction: Transaction, job: str, number: int | None, text: str) -> None:
    """Keep that something happened to a job, or to a task of it."""
    transaction.db.execute(
        "INSERT INTO event (job, number, time, text) SELECT ?1, ?2, ?3, ?4 WHERE "
        "(SELECT count(*) FROM event WHERE job = ?1 AND number IS ?2) < ?5",
        (job, number, time.time(), text, _MOST),
    )
