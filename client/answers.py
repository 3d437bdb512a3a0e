"""What the ends of an array's tasks are, as their user sees them (spec/11 §2). Pure."""

from __future__ import annotations

from fogbank.client.errors import NoQuorum
from fogbank.client.scheduling.words import Ending, Finish
from fogbank.relay.job.client_session import TaskResult


def reason_of(value: TaskResult | Exception) -> str:
    """Return why an answer is none that counts."""
    if isinstance(value, Exception):
        return str(value)
    return value.reason or value.outcome.name.lower()


def outcome_of(end: Finish, value: object) -> tuple[TaskResult | None, Exception | None]:
    """Return a task's result, or the error in its place; an answer that is not believed is none."""
    if end.ending is Ending.DONE and isinstance(value, TaskResult):
        return value, None
    if end.ending is Ending.DISPUTED or end.replies:
        return None, NoQuorum(
            f"Too few workers gave the same answer ({len(end.replies)} gave one): none is believed."
            " Ask more of them with --retries, or run the task again."
        )
    return (value, None) if isinstance(value, TaskResult) else (None, _error_in(value))


def _error_in(value: object) -> Exception | None:
    return value if isinstance(value, Exception) else None


def size_of(result: TaskResult | None) -> int:
    """Return the bytes of a result's outputs."""
    return 0 if result is None else len(result.stdout) + len(result.stderr)
