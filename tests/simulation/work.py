"""The work for circuits that an overloaded hop asks for, done at once, in simulated time."""

from __future__ import annotations

from collections.abc import Callable

import trio

from fogbank.relay.circuits.work_shell import Solution
from fogbank.relay.work import Demand, search

_SLICE = 4096
_SLICE_SECONDS = 0.02


async def solve(
    demand: Demand, message: bytes, seconds: float, wanted: Callable[[], bool]
) -> Solution:
    """Search as a machine would that does a slice in `_SLICE_SECONDS`."""
    spent, start = 0.0, 0
    while spent < seconds and wanted():
        nonce = search(demand, message, start, _SLICE)
        await trio.sleep(_SLICE_SECONDS)
        spent += _SLICE_SECONDS
        start += _SLICE
        if nonce is not None:
            return Solution(nonce, spent)
    return Solution(None, spent)


async def give_up(
    _demand: Demand, _message: bytes, _seconds: float, _wanted: Callable[[], bool]
) -> Solution:
    """Work for nothing."""
    await trio.lowlevel.checkpoint()
    return Solution(None, 0.0)
