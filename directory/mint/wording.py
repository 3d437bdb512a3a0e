"""The mint's state in a sentence, for people (spec/09 §4.3)."""

from __future__ import annotations

from typing import Final

from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.state import COMMIT, COMPLAIN, DEAL, MintState

_STEPS: Final = {COMMIT: "commitments", DEAL: "dealings", COMPLAIN: "judgements"}


def in_words(state: MintState | None, calendar: Calendar, now: float) -> str:
    """Return which series are there, and what is being generated."""
    if state is None:
        return "none in this consensus: it needs method 4, and a quorum that goes by one state"
    current = calendar.current(now)
    parts = []
    for series in state.series:
        seats = sum(1 for member in series.members if member.vote_key)
        if series.number >= current:
            kind = "is current" if series.number == current else "is ready"
            parts.append(f"series {series.number} {kind}, {seats} of {len(series.members)} sign")
    older = sum(1 for series in state.series if series.number < current)
    if older:
        parts.append(f"{older} older ones live")
    under_way = state.generation
    if under_way is not None:
        attempt = f", attempt {under_way.attempt + 1}" if under_way.attempt else ""
        step = _STEPS[under_way.step]
        parts.append(f"keys of series {under_way.series} are made: {step} come next{attempt}")
    return "; ".join(parts) or "no series yet"
