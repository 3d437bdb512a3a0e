"""Doing the work that an overloaded hop asks for, beside the event loop (spec/03 §2.5)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio

from fogbank.relay.work import Demand, search

_SLICE = 4096
"""Tries in a row, some 20 ms: so soon a search hears that nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A nonce, or None if there was none to be had, and the processor time spent, in seconds."""

    nonce: int | None
    seconds: float


Solver: TypeAlias = Callable[[Demand, bytes, float, Callable[[], bool]], Awaitable[Solution]]
"""Does the work that a demand asks for a message.

It searches for at most so many seconds of processor time, and only while the last argument says
that the work is still wanted.
"""


async def solve_in_thread(
    demand: Demand, message: bytes, seconds: float, wanted: Callable[[], bool]
) -> Solution:
    """Search in a thread; hashing leaves the interpreter to others. Cancelled within a slice."""
    start, spent = 0, 0.0
    while spent < seconds and wanted():
        nonce, took = await trio.to_thread.run_sync(_slice, demand, message, start)
        spent += took
        if nonce is not None:
            return Solution(nonce, spent)
        start += _SLICE
    return Solution(None, spent)


def _slice(demand: Demand, message: bytes, start: int) -> tuple[int | None, float]:
    begun = time.thread_time()
    nonce = search(demand, message, start, _SLICE)
    return nonce, time.thread_time() - begun
