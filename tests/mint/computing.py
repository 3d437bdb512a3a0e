"""What stands in for the processes that compute for a mint, as far as all of those are alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fogbank.directory.mint.crunch import Task
from fogbank.relay.errors import RelayError

Outcome = tuple[bytes, ...] | RelayError


async def one_by_one(
    do: Callable[[Task, int], Awaitable[tuple[bytes, ...]]], tasks: Sequence[tuple[Task, int]]
) -> list[Outcome]:
    """Compute each task by itself; return what each came to, errors among it."""
    outcomes: list[Outcome] = []
    for task, urgency in tasks:
        try:
            outcomes.append(await do(task, urgency))
        except RelayError as error:
            outcomes.append(error)
    return outcomes
