"""How much a worker gives away (spec/08 §8). Pure: times are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fogbank.relay.job.limits import Pace

_PACE: Final = Pace(bytes_per_second=64 << 10)
LEAST_CHARGE: Final = 1 << 20
"""Bytes that a request costs at least: the module is read whole, however little is sent of it."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What a worker spends on giving runtimes. Times in seconds, sizes in bytes.

    `at_once`: transfers at a time. `burst`: the most that may be given in a row, `per_second` what
    flows back of it. `pace`: how fast a reader must take it all.
    """

    at_once: int = 2
    burst: int = 64 << 20
    per_second: int = 32 << 10
    request_seconds: float = 30.0
    portion_seconds: float = 60.0
    pace: Pace = _PACE


class Allowance:
    """Bytes that may be given away; it fills up again as time passes."""

    def __init__(self, limits: TransferLimits, now: float) -> None:
        self._limits = limits
        self._left = float(limits.burst)
        self._at = now

    def take(self, size: int, now: float) -> bool:
        """Take what giving `size` bytes costs, if so much is left at `now`."""
        self._fill(now)
        cost = max(size, LEAST_CHARGE)
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def put_back(self, size: int, sent: int, now: float) -> None:
        """Put back what was taken for `size` bytes and is not due, as only `sent` were sent."""
        self._fill(now)
        back = max(size, LEAST_CHARGE) - max(sent, LEAST_CHARGE)
        self._left = min(self._left + back, float(self._limits.burst))

    def _fill(self, now: float) -> None:
        flowed = max(0.0, now - self._at) * self._limits.per_second
        self._left = min(self._left + flowed, float(self._limits.burst))
        self._at = now
