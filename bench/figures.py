"""Figures beside their goals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A figure, its unit, and what it should be."""

    what: str
    unit: str
    most: float | None = None
    least: float | None = None

    def words(self, value: float | None) -> str:
        """Return a line of the table."""
        if self.least is not None:
            goal, reached = f">= {self.least:g}", value is not None and value >= self.least
        elif self.most is not None:
            goal, reached = f"<= {self.most:g}", value is not None and value <= self.most
        else:
            goal, reached = "", True
        if value is None:
            return f"{self.what:44} {'-':>10} {self.unit:8} {goal:10} not measured"
        verdict = ("reached" if reached else "MISSED") if goal else ""
        return f"{self.what:44} {value:>10,.6g} {self.unit:8} {goal:10} {verdict}"
