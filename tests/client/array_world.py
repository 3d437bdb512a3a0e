"""A world of workers for the scheduler of arrays: speeds, churn and lies, in simulated time.

Everything follows from the seed. `simulate` runs one array and says how long it took, against what
somebody could have done who knew everything: when each worker is there, how fast it is, who lies.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.words import (
    Cancel,
    Candidate,
    Close,
    Ending,
    Finish,
    Open,
    Run,
    Terms,
    Verdict,
)
from tests.client.networks import SeededChooser, identity

ROUND_TRIP = 0.3
INTERVAL = 300.0
PROGRESS = 5.0
SILENT_SECONDS = 150.0
HORIZON = 40_000.0
LIARS = {"silent": 0.05, "failing": 0.05, "refusing": 0.04, "busy": 0.04, "dead": 0.07}


@dataclass(frozen=True)
class Size:
    """What is simulated. `fuel` is of a task, on average; the rest of the times are in seconds."""

    workers: int = 1000
    tasks: int = 10_000
    fuel: float = 1e11
    spread: float = 0.5
    up: float = 1500.0
    down: float = 300.0
    concurrent: int = 4000


@dataclass
class Machine:
    """A worker. `changes`: when it comes and goes, beginning with there."""

    name: str
    kind: str
    speed: float
    places: int
    listed_speed: int
    changes: list[float]

    def is_up(self, now: float) -> bool:
        return sum(change <= now for change in self.changes) % 2 == 0

    def goes_at(self, now: float) -> float:
        """When it next goes, if it is there now."""
        return next((c for n, c in enumerate(self.changes) if c > now and n % 2 == 0), math.inf)

    def spans(self, until: float) -> list[float]:
        """For how long it is there, each time, until then; never if it lies."""
        edges = [0.0, *self.changes, math.inf]
        pairs = zip(edges[::2], edges[1::2], strict=False)
        honest = self.kind == "honest"
        return [min(end, until) - begin for begin, end in pairs if honest and begin < until]

    def capacity(self, until: float) -> float:
        """The fuel that it can run until then."""
        return sum(self.spans(until)) * self.speed * self.places

    def tasks(self, cost: float, until: float) -> int:
        """The tasks that it can run until then; what it begins and does not end is lost."""
        return self.places * sum(int(span * self.speed / cost) for span in self.spans(until))


@dataclass(frozen=True)
class Figures:
    """What came of an array; `ideal` and `makespan` in seconds."""

    makespan: float
    ideal: float
    bound: float
    done: int
    failed: int
    runs: int
    copies: int
    opened: int
    fuel_share: float

    @property
    def ratio(self) -> float:
        return self.makespan / self.ideal


def machine(number: int, size: Size, draw: random.Random) -> Machine:
    kinds = ["honest", *LIARS]
    weights = [1 - sum(LIARS.values()), *LIARS.values()]
    speed = 10 ** draw.uniform(8.3, 9.8)
    changes: list[float] = []
    now = draw.expovariate(1 / size.up)
    while now < HORIZON:
        changes.append(now)
        now += draw.expovariate(1 / (size.up if len(changes) % 2 == 0 else size.down))
    if draw.random() < size.down / (size.up + size.down):
        changes.insert(0, 0.0)
    return Machine(
        f"worker {number}",
        draw.choices(kinds, weights)[0],
        speed,
        draw.choice((1, 1, 2, 2, 4)),
        int(speed * draw.uniform(0.6, 1.4)),
        changes,
    )


class World:
    """The simulated shell: it does what the scheduler says, and answers later."""

    def __init__(self, size: Size, seed: object) -> None:
        self.size = size
        self.draw = random.Random(repr(seed))
        machines = [machine(number, size, self.draw) for number in range(size.workers)]
        self.machines = {identity(each.name): each for each in machines}
        self.costs = [
            size.fuel * self.draw.uniform(1 - size.spread, 1 + size.spread)
            for _ in range(size.tasks)
        ]
        self.now = 0.0
        limits = ArrayLimits(concurrent=size.concurrent)
        self.scheduler = Scheduler(limits, SeededChooser(seed), 0.0)
        self.lanes: dict[int, Machine] = {}
        self.free_at: dict[int, float] = {}
        self.taken: dict[str, int] = {}
        self.live: set[int] = set()
        self.begun: dict[int, tuple[float, int, int]] = {}
        self.endings: dict[int, Ending] = {}
        self.runs = self.opened = 0
        self.spent = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def later(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def run(self) -> Figures:
        scheduler = self.scheduler
        self.consensus()
        self.tell()
        for task in range(self.size.tasks):
            scheduler.add(task, 0.0)
        scheduler.close(0.0)
        self.act()
        while not scheduler.is_over:
            timer = scheduler.deadline()
            if self._queue and self._queue[0][0] <= timer:
                self.now, _, what = heapq.heappop(self._queue)
                what()
            else:
                assert timer >= self.now
                self.now = timer
                scheduler.timer(self.now)
            self.act()
            assert self.now < HORIZON, "the array does not end"
        assert not self.lanes, "sessions were left open"
        done = sum(ending is Ending.DONE for ending in self.endings.values())
        return Figures(
            self.now,
            self.ideal(),
            self.bound(),
            done,
            len(self.endings) - done,
            self.runs,
            self.runs - self.size.tasks,
            self.opened,
            self.spent / sum(self.costs),
        )

    def consensus(self) -> None:
        # The authorities see a machine that is there, whether it lies or not.
        listed = [
            Candidate(key, each.listed_speed, each.places)
            for key, each in self.machines.items()
            if each.is_up(self.now) or each.kind == "dead"
        ]
        self.scheduler.workers(listed, self.now)
        self.later(self.now + INTERVAL, self.consensus)

    def tell(self) -> None:
        """Machines say how far they are with what they run."""
        self.live = {attempt for attempt in self.live if self.begun[attempt][1] in self.lanes}
        for attempt in sorted(self.live):
            begin, lane, task = self.begun[attempt]
            where = self.lanes[lane]
            if where.kind == "honest" and begin < self.now and where.is_up(self.now):
                fuel = min((self.now - begin) * where.speed, self.costs[task])
                self.scheduler.progress(attempt, fuel, self.now)
        self.later(self.now + PROGRESS, self.tell)

    def act(self) -> None:
        for action in self.scheduler.actions():
            match action:
                case Open(lane, worker):
                    self.open(lane, self.machines[worker])
                case Close(lane):
                    gone = self.lanes.pop(lane)
                    self.taken[gone.name] = self.taken.get(gone.name, 0) - (lane in self.free_at)
                    self.free_at.pop(lane, None)
                case Run(attempt, task, lane):
                    self.start(attempt, task, lane)
                case Cancel(attempt):
                    self.live.discard(attempt)
                    self.stop(attempt)
                case Finish(task, ending):
                    assert task not in self.endings, "a task ended twice"
                    self.endings[task] = ending

    def open(self, lane: int, where: Machine) -> None:
        self.opened += 1
        self.lanes[lane] = where
        when = self.now + self.draw.uniform(0.3, 3.0)
        if where.kind == "dead" or not where.is_up(when):
            self.later(self.now + self.draw.choice((1.0, 12.0)), lambda: self.fail(lane))
            return

        def opened() -> None:
            if lane in self.lanes:
                self.free_at[lane] = self.now
                taken = self.taken.get(where.name, 0)
                self.taken[where.name] = taken + 1
                places = 0 if where.kind == "busy" else where.places
                self.scheduler.lane_opened(lane, Terms(places - taken, 32), self.now)

        self.later(when, opened)
        # A machine that goes is found gone at once, or when a link has been silent for long.
        self.later(where.goes_at(when) + self.draw.choice((0.1, 35.0)), lambda: self.fail(lane))

    def fail(self, lane: int) -> None:
        if lane in self.lanes:
            self.scheduler.lane_failed(lane, Verdict.NOT_TAKEN, "gone", self.now)

    def start(self, attempt: int, task: int, lane: int) -> None:
        where = self.lanes[lane]
        self.runs += 1
        self.live.add(attempt)
        kind, verdict, seconds = where.kind, Verdict.ANSWERED, self.costs[task] / where.speed
        if kind == "silent":
            verdict, seconds = Verdict.FAILED, SILENT_SECONDS
        elif kind in {"failing", "refusing"}:
            verdict, seconds = (
                Verdict.FAILED if kind == "failing" else Verdict.REFUSED,
                0.1,
            )
        begin = max(self.now, self.free_at[lane])
        self.free_at[lane] = begin + seconds

        if kind not in {"failing", "refusing"}:
            self.later(begin + ROUND_TRIP, lambda: self.scheduler.began(attempt, self.now))

        def end() -> None:
            if attempt in self.live and where.is_up(self.now):
                self.live.discard(attempt)
                self.spent += self.costs[task] * (verdict is Verdict.ANSWERED)
                self.scheduler.answered(attempt, verdict, where.name, self.now, self.costs[task])

        self.begun[attempt] = begin, lane, task
        self.later(begin + seconds + ROUND_TRIP, end)

    def stop(self, attempt: int) -> None:
        """Count what a copy has cost that is not needed any more."""
        begin, lane, _ = self.begun[attempt]
        where = self.lanes[lane]
        if where.kind == "honest":
            self.spent += max(0.0, self.now - begin) * where.speed
        self.free_at[lane] = min(self.free_at[lane], self.now)

    def ideal(self) -> float:
        """How long it takes whoever knows all: each place runs as many tasks as it can."""
        mean = sum(self.costs) / len(self.costs)
        return _least(
            lambda t: sum(each.tasks(mean, t) for each in self.machines.values()) >= len(self.costs)
        )

    def bound(self) -> float:
        """How long it takes if tasks could be cut at will."""
        whole = sum(self.costs)
        return _least(lambda t: sum(each.capacity(t) for each in self.machines.values()) >= whole)


def _least(enough: Callable[[float], bool]) -> float:
    """Return the least time that is enough."""
    low, high = 0.0, HORIZON
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def simulate(size: Size, seed: object) -> Figures:
    """Run one array in a world of its own."""
    return World(size, seed).run()
