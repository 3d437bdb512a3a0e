"""When rounds happen, from the network document and a clock (spec/05 §4.1). All pure."""

from __future__ import annotations

from dataclasses import dataclass

from fogbank.directory.network import NetworkDocument

WORKER_INTERVALS = 3
"""Intervals for which a worker's descriptor shows that the worker runs (spec/05 §4.5)."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round's times, in seconds since 1970: it ends with the consensus of `valid_after`.

    `relay_phases` is b+1, the phases of the broadcast; one phase for signatures follows.
    """

    number: int
    valid_after: int
    fresh_until: int
    phase: float
    relay_phases: int

    @property
    def begins(self) -> float:
        """When votes are sent: b+2 phases before `valid_after`."""
        return self.valid_after - (self.relay_phases + 1) * self.phase

    @property
    def opens(self) -> float:
        """When messages of this round are first taken: half a phase before it begins."""
        return self.begins - self.phase / 2

    @property
    def concludes(self) -> float:
        """When the vote set is settled and the consensus is computed and signed."""
        return self.valid_after - self.phase

    def phase_at(self, now: float) -> int:
        """Return the phase at `now`, from 1; before the round begins it counts as 1."""
        return max(1, int((now - self.begins) // self.phase) + 1)


def nth_round(network: NetworkDocument, number: int) -> Round:
    """Return the round with that number, from 0."""
    timing, valid_after = network.timing, _valid_after(network, number)
    return Round(
        number,
        valid_after,
        _valid_after(network, number + 1),
        timing.phase_ms / 1000,
        network.governing(valid_after).faulty + 1,
    )


def _valid_after(network: NetworkDocument, number: int) -> int:
    timing = network.timing
    short = min(number + 1, timing.warmup_rounds)
    return timing.start + short * timing.warmup_interval + (number + 1 - short) * timing.interval


def round_at(network: NetworkDocument, now: float) -> Round:
    """Return the round that is open at `now`; the first one before any is."""
    timing = network.timing
    warmup_end = timing.start + timing.warmup_rounds * timing.warmup_interval
    if now < timing.start:
        guess = 0
    elif now < warmup_end:
        guess = int((now - timing.start) // timing.warmup_interval)
    else:
        guess = timing.warmup_rounds + int((now - warmup_end) // timing.interval)
    number = max(0, guess - 1)
    while nth_round(network, number + 1).opens <= now:
        number += 1
    return nth_round(network, number)


def interval_at(network: NetworkDocument, now: float) -> int:
    """Return the length in seconds of the interval that `now` lies in."""
    this = round_at(network, now)
    return this.fresh_until - this.valid_after


def worker_freshness(network: NetworkDocument) -> int:
    """Return the seconds for which a worker's descriptor shows that the worker runs."""
    return WORKER_INTERVALS * network.timing.interval
