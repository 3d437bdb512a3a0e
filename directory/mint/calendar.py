"""When series are born and die, from the network document (spec/09 §2). All pure."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.directory.network import NetworkDocument

CURRENT_DAYS = 7
WITHDRAWAL_DAYS = 1
"""Days after a series was current in which withdrawals from it are still answered."""
LOCK_DAYS = 60
ISSUE_DAYS = 67
PAYMENT_DAYS = 7
"""Days that a token has to be good for when it is taken as payment."""
_DAY_SECONDS = 86_400
_TEST_INTERVALS = 4
"""Intervals of a day in a test network."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Times of series, in seconds since 1970; a `day` lasts that many seconds.

    Series 0 is born at `start`; the others are counted from `first`, the end of the warm-up.
    """

    start: int
    first: int
    day: int

    @classmethod
    def of(cls, network: NetworkDocument) -> Calendar:
        """Return the calendar of a network; no version of its document changes it."""
        timing = network.timing
        first = timing.start + timing.warmup_rounds * timing.warmup_interval
        day = _TEST_INTERVALS * timing.interval if network.test else _DAY_SECONDS
        return cls(timing.start, first, day)

    def birth(self, series: int) -> int:
        """Return when a series is born: from then on it is current, until the next one is."""
        return self.first + CURRENT_DAYS * series * self.day if series else self.start

    def current(self, now: float) -> int:
        """Return the number of the series that is current at `now`; before all of them, 0."""
        return max(0, int((now - self.first) // (CURRENT_DAYS * self.day)))

    def withdraw_until(self, series: int) -> int:
        """Return until when an allotment of a series is withdrawn."""
        return self.birth(series + 1) + WITHDRAWAL_DAYS * self.day

    def lock_until(self, series: int) -> int:
        """Return until when a series' tokens are spent."""
        return self.birth(series) + LOCK_DAYS * self.day

    def issue_until(self, series: int) -> int:
        """Return until when shares are given for a series, and its records kept."""
        return self.birth(series) + ISSUE_DAYS * self.day

    def good_for_payment(self, series: int, now: float) -> bool:
        """Tell whether tokens of a series that is born are taken as payment at `now`."""
        latest = self.lock_until(series) - PAYMENT_DAYS * self.day
        return self.birth(series) <= now < latest

    def living(self, now: float) -> range:
        """Return the numbers of the series that are born and have records at `now`."""
        newest = self.current(now)
        first = max(0, newest - ISSUE_DAYS // CURRENT_DAYS - 1)
        dead = sum(1 for k in range(first, newest) if now >= self.issue_until(k))
        return range(first + dead, newest + 1)
