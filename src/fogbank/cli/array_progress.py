"""How far an array is: a bar on a terminal, a line now and then elsewhere (spec/11 §2)."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import Final

from fogbank.cli.output import note

_SECONDS_BETWEEN_LINES: Final = 30.0
_SECONDS_BETWEEN_BARS: Final = 0.2
_BAR: Final = 24
_ERASE: Final = "\r\x1b[K"
_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


@dataclass(slots=True)
class Tally:
    """What became of the tasks so far. `total` is None while it is not known.

    `earlier`: tasks that an earlier run of the array had recorded, which count as ended.
    """

    total: int | None = None
    succeeded: int = 0
    failed: int = 0
    earlier: int = 0
    fuel: int = 0
    _worst: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return self.succeeded + self.failed

    def count(self, number: int, code: int, fuel: int = 0) -> None:
        """Count a task's end."""
        self.fuel += fuel
        if not code:
            self.succeeded += 1
            return
        self.failed += 1
        if number <= self._worst.get("number", number):
            self._worst = {"number": number, "code": code}

    @property
    def exit_code(self) -> int:
        """Return 0 if all succeeded, else the code of the failed task with the lowest number."""
        return self._worst.get("code", 0)


def describe(tally: Tally, running: int, seconds: float) -> str:
    """Say how far it is after so many seconds."""
    whole = "?" if tally.total is None else str(tally.total)
    parts = [f"{tally.ended}/{whole} done", f"{running} running"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    parts.append(f"{_with_unit(tally.fuel)} fuel")
    left = remaining(tally, seconds)
    if left is not None:
        parts.append(f"ETA {_clock(left)}")
    return ", ".join(parts)


def remaining(tally: Tally, seconds: float) -> float | None:
    """Return how many seconds it takes still at the pace so far; None if nobody knows."""
    done = tally.ended - tally.earlier
    if tally.total is None or done <= 0 or tally.ended >= tally.total:
        return None
    return seconds / done * (tally.total - tally.ended)


def bar(tally: Tally, running: int, seconds: float, width: int, *, colour: bool) -> str:
    """Return a bar of at most `width` characters."""
    text = describe(tally, running, seconds)
    if not tally.total or width < len(text) + _BAR + 4:
        return text[: max(0, width - 1)]
    filled = _BAR * tally.ended // tally.total
    begin, end = (_RED if tally.failed else _GREEN, _PLAIN) if colour else ("", "")
    return f"[{begin}{'=' * filled}{end}{' ' * (_BAR - filled)}] {text}"


def _with_unit(number: int) -> str:
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """Shows the progress on standard error."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._draws = terminal and os.environ.get("TERM") != "dumb"
        self._colour = not os.environ.get("NO_COLOR")
        self._drawn = False
        self.interval = _SECONDS_BETWEEN_BARS if self._draws else _SECONDS_BETWEEN_LINES
        """Seconds after which to show it again."""

    def show(self, running: int, seconds: float) -> None:
        """Show how far it is."""
        if not self._draws:
            note(describe(self._tally, running, seconds))
            return
        width = shutil.get_terminal_size().columns
        line = bar(self._tally, running, seconds, width, colour=self._colour)
        self._put(_ERASE + line)
        self._drawn = True

    def hide(self) -> None:
        """Make way for what else is printed."""
        if self._drawn:
            self._put(_ERASE)
            self._drawn = False

    def _put(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._draws = False
