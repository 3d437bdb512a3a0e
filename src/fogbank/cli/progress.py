"""What `fog run -v` says of a job while it is at the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fogbank.relay.job.messages import TaskState

_LEAST_SECONDS = 1.0
_GROWTH = 0.2
"""The longer a task runs, the seldomer a line: after each fifth of the time so far."""
_UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def show_fuel(fuel: float) -> str:
    """Write an amount of fuel as `--fuel` takes it, to three digits."""
    for size, letter in _UNITS:
        if fuel >= size:
            return f"{fuel / size:.3g}{letter}"
    return f"{fuel:.0f}"


class ProgressLines:
    """Turns what is heard of one task into lines, few enough to read."""

    def __init__(self) -> None:
        self._began = 0.0
        self._next = 0.0
        self._fuel = 0
        self._at = 0.0
        self._runs = False

    def line(self, state: TaskState, now: float) -> str | None:
        """Return what to say about a state heard at `now` (seconds), if anything."""
        name = state.state.name.lower()
        went_on, self._runs = self._runs, state.fuel is not None and name == "running"
        if state.fuel is None:
            return f"{name} {state.reason}".rstrip()
        if not (went_on and self._runs):
            self._began = self._began or now
            self._take(state.fuel, now)
            used = f" at {show_fuel(state.fuel)} of fuel" if state.fuel else ""
            return f"{name}{used}: {state.reason}".removesuffix(": ")
        if now < self._next:
            return None
        speed = (state.fuel - self._fuel) / (now - self._at)
        self._take(state.fuel, now)
        return f"running, {show_fuel(state.fuel)} of fuel so far, {show_fuel(speed)} a second"

    def _take(self, fuel: int, now: float) -> None:
        self._fuel, self._at = fuel, now
        self._next = now + max(_LEAST_SECONDS, _GROWTH * (now - self._began))
