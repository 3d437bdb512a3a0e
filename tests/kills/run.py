"""Kills at random moments, one after the other, while arrays run (spec/13 §5).

Who is killed, when, and how long it stays away follows from a seed; how far the others are by then
does not. Each kill is a SIGKILL: of the client, of a worker, or of a relay on a circuit in use.
Between kills a client may be made to detach, or leave at the beginning.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.arrays import Array
from tests.kills.nodes import Nodes

CLIENT, WORKER, RELAY = "client", "worker", "relay"
_VICTIMS = (CLIENT, CLIENT, WORKER, WORKER, WORKER, RELAY, RELAY)
_KINDS = ((4_000_000, 4), (1_000, 20), (40_000_000, 1))
"""How long tasks take, in turns of a loop, and how many times as many there are then."""
_DETACHED = 0.1
"""How often the client detaches, in place of a kill."""
_PAUSE = 1.5
"""Seconds between two kills, at most."""
_ABSENCES = (0.0, 1.2)
"""Seconds for which a node that was killed stays away."""
_REST_SECONDS = 120.0
"""How long what is left of an array may take once nobody is killed any more."""
_LOST_SECONDS = 300.0
"""How long an array may take in all, however much is killed."""


@dataclass(slots=True)
class Report:
    """What came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    detached: int = 0
    arrays: int = 0
    tasks: int = 0
    sends: int = 0
    faults: list[str] = field(default_factory=list)


class Run:
    """Arrays in a row on one network, until so many processes were killed."""

    def __init__(
        self,
        network: Path,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
        pause: float = _PAUSE,
    ) -> None:
        self._network = network
        self._folder = folder
        self._random = random.Random(seed)
        self._say = say
        self._pause = pause
        self._nodes = Nodes(network)
        self._deck: list[str] = []
        self._away: dict[str, float] = {}
        self.report = Report()

    def run(self, kills: int, tasks: int) -> Report:
        """Kill so many; return what came of it."""
        while self.report.kills.total() < kills and not self.report.faults:
            self._one(kills, tasks)
        return self.report

    def _one(self, kills: int, tasks: int) -> None:
        """Run one array, whatever is killed meanwhile."""
        report = self.report
        turns, times = _KINDS[report.arrays % len(_KINDS)]
        report.arrays += 1
        array = Array(
            self._network / "client",
            self._folder / f"array-{report.arrays}",
            tasks * times,
            turns,
            leave=self._random.random() < 0.3,
        )
        array.start()
        begun = time.monotonic()
        try:
            while not self._is_over(array):
                if report.kills.total() >= kills:
                    self._let_finish(array)
                    break
                if time.monotonic() - begun > _LOST_SECONDS:
                    report.faults.append(f"an array took {_LOST_SECONDS:g} s")
                    break
                pause = self._random.uniform(0.1, self._pause)
                self._wait(pause, lambda: array.poll() is not None)
                self._kill(array)
        finally:
            array.end_client(signal.SIGKILL)
            self._come_back(after=0.0)
        report.tasks += array.look()
        report.sends += array.sends()
        report.faults += array.faults()
        if report.faults:
            report.faults += [array.words(), self._nodes.logs()]
        self._say(
            f"{report.kills.total()} killed {dict(report.kills)}, {report.arrays} arrays,"
            f" {len(report.faults)} faults, {time.monotonic() - begun:.1f} s for the last array"
        )

    def _kill(self, array: Array) -> None:
        """Kill the next one, or have the client detach."""
        if self._random.random() < _DETACHED and array.poll() is None:
            self.report.detached += 1
            array.end_client(signal.SIGINT)
            self._go_on(array)
            return
        if not self._deck:
            self._deck = self._random.sample(_VICTIMS, len(_VICTIMS))
        victim = self._deck[-1]
        if victim == CLIENT:
            if array.poll() is not None:
                return
            array.end_client(signal.SIGKILL)
            self.report.kills[CLIENT] += 1
            if self._random.random() < 0.3:
                self._kill_node(self._nodes.names(WORKER), WORKER)
            self._go_on(array)
        elif victim == WORKER:
            self._kill_node(self._nodes.names(WORKER), WORKER)
        else:
            on_way = {name for way in array.ways() for name in way[:-1]}
            relays = self._nodes.names(RELAY)
            self._kill_node([name for name in relays if name in on_way] or relays, RELAY)
        self._deck.pop()

    def _go_on(self, array: Array) -> None:
        """After a while, have another client go on."""
        array.look()
        self._wait(self._random.uniform(*_ABSENCES))
        self._is_over(array)

    def _kill_node(self, nicknames: list[str], role: str) -> None:
        there = [name for name in nicknames if name not in self._away]
        if there:
            nickname = self._random.choice(there)
            self._nodes.kill(nickname)
            self.report.kills[role] += 1
            self._away[nickname] = time.monotonic() + self._random.uniform(*_ABSENCES)

    def _come_back(self, after: float) -> None:
        """Start those whose time to stay away is over."""
        now = time.monotonic()
        for nickname, until in list(self._away.items()):
            if not after or until <= now:
                del self._away[nickname]
                self._nodes.start(nickname)

    def _wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let things go on for a while."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline and not until():
            self._come_back(after=now)
            time.sleep(0.02)

    def _is_over(self, array: Array) -> bool:
        """Whether all is done; if only the client is, another one goes on."""
        if array.poll() is None:
            return False
        if array.is_over:
            return True
        array.start()
        return False

    def _let_finish(self, array: Array) -> None:
        self._come_back(after=0.0)
        deadline = time.monotonic() + _REST_SECONDS
        while time.monotonic() < deadline:
            array.wait(1.0)
            if self._is_over(array):
                return
        self.report.faults.append(f"the array did not end within {_REST_SECONDS:g} s in peace")
