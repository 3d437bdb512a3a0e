"""The client's limits, all in one place (spec/06)."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a client allows itself; times in seconds."""

    sample_share: float = 0.2
    """The share of all guards that the sample aims at, between the two numbers that follow."""
    sample_least: int = 5
    sample_most: int = 20
    sample_ceiling: int = 60
    """Guards in the sample at any time, those not listed now included."""
    guard_lifetime: tuple[int, int] = (90 * DAY, 150 * DAY)
    unlisted_lifetime: int = 20 * DAY
    primary_guards: int = 2
    retry_first: int = 30
    retry_longest: int = 3600
    likely_down: int = 600
    """Without success for so long, this machine's own network was probably down."""
    layer_two_guards: int = 4
    layer_two_lifetime: tuple[int, int] = (DAY, 7 * DAY)

    build_attempts: int = 8
    build_seconds: float = 30.0
    attempt_seconds: float = 12.0
    job_failures: int = 64

    fetch_authorities: int = 4
    fetch_seconds: float = 60.0
    renew_seconds: float = 15.0
    """A client that starts with a stale consensus waits so long for a new one."""


LIMITS = ClientLimits()
