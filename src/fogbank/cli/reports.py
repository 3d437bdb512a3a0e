"""What commands on jobs have in common: the journal, and a job as JSON (spec/13 §4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fogbank.cli.home import user_home
from fogbank.client.journal.records import JobRecord
from fogbank.client.journal.store_shell import Store


@contextmanager
def open_store() -> Iterator[Store]:
    """Give the journal of the user's jobs; raise `JournalError`."""
    store = Store(user_home().folder / "jobs")
    try:
        yield store
    finally:
        store.close()


def job_report(record: JobRecord) -> dict[str, Any]:
    """Return what there is to know of a job."""
    return {
        "schema": "fogbank.job/1",
        "job": record.id,
        "command": record.title,
        "state": str(record.state),
        "reason": record.reason,
        "exit_code": record.code if record.is_over else None,
        "created": record.created,
        "ended": record.ended,
        "tasks": record.total,
        "stages": {str(stage): count for stage, count in record.counts.items()},
        "failed": record.failed,
        "undelivered": record.undelivered,
        "fuel": record.fuel,
    }
