"""What happened in a run: a digest that tells two runs apart, and the last lines to read."""

from __future__ import annotations

import hashlib
from collections import Counter, deque

import trio

_KEPT = 400


class Trace:
    """Hears every event. Events name decisions, never ciphertext, which differs between runs."""

    def __init__(self, *, echo: bool = False) -> None:
        self._hash = hashlib.sha256()
        self._echo = echo
        self.last: deque[str] = deque(maxlen=_KEPT)
        self.failures: list[str] = []
        self.faults: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.events = 0

    def note(self, kind: str, text: str = "") -> None:
        """Take down one event."""
        line = f"{trio.current_time():10.4f} {kind} {text}"
        self._hash.update(line.encode() + b"\n")
        self.events += 1
        self.last.append(line)
        if self._echo:
            print(line)  # noqa: T201 - asked for on the command line

    def fault(self, kind: str, text: str) -> None:
        """Take down a fault that was injected."""
        self.faults[kind] += 1
        self.note("fault", f"{kind}: {text}")

    def fail(self, invariant: str, text: str) -> None:
        """Take down that an invariant does not hold."""
        line = f"{invariant}: {text}"
        if line not in self.failures:
            self.failures.append(line)
            self.note("FAIL", line)

    def digest(self) -> str:
        """Return what is equal for equal runs."""
        return self._hash.hexdigest()
