"""A shell for the scheduler of arrays that checks whatever it is told to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.words import (
    Cancel,
    Candidate,
    Close,
    Ending,
    Finish,
    Judgement,
    Kind,
    Open,
    Replicas,
    Reply,
    Run,
    Terms,
    Verdict,
)
from tests.client.networks import SeededChooser, identity

LIMITS = ArrayLimits(concurrent=6, retries=2, depth=4)
ROOMY = Terms(free=8, tasks=32)


def pairs(one: bytes, other: bytes) -> bool:
    """Tell whether two of `candidates` conflict: neighbours do, each with one other."""
    names = {candidate.identity: n for n, candidate in enumerate(candidates(100))}
    return names[one] // 2 == names[other] // 2


def quorum(least: int) -> Callable[[int, Sequence[Reply]], Judgement]:
    """Return a judge that believes what so many workers answer, and no one else."""

    def judge(task: int, replies: Sequence[Reply]) -> Judgement:
        del task
        for reply in replies:
            agree = [each for each in replies if each.answer == reply.answer]
            if len(agree) >= least:
                wrong = tuple(each.worker for each in replies if each not in agree)
                return Judgement(Kind.ENOUGH, reply.answer, wrong=wrong)
        return Judgement(Kind.MORE)

    return judge


@cache
def candidates(count: int, *, speed: int = 1000, places: int = 2) -> tuple[Candidate, ...]:
    return tuple(Candidate(identity(f"worker {n}"), speed, places) for n in range(count))


class Model:
    """Does what the scheduler says, and checks that it may be said."""

    def __init__(
        self,
        limits: ArrayLimits = LIMITS,
        expires: float = math.inf,
        replicas: Replicas | None = None,
    ) -> None:
        self.limits = limits
        self.replicas = replicas
        self.now = 0.0
        self.scheduler = Scheduler(limits, SeededChooser("model"), 0.0, expires, replicas)
        self.opening: dict[int, bytes] = {}
        self.open: dict[int, bytes] = {}
        self.attempts: dict[int, tuple[int, int]] = {}
        self.verifying: dict[int, tuple[int, bytes]] = {}
        self.endings: dict[int, tuple[Ending, object]] = {}
        self.finishes: dict[int, Finish] = {}
        self.replied: dict[int, list[bytes]] = {}
        self.added: set[int] = set()
        self.next = 0
        self.leaves = False
        self.stood_still = 0
        self.opened_ever = 0
        self.opened_at: set[int] = set()

    def act(self) -> None:
        for action in self.scheduler.actions():
            match action:
                case Open(lane, worker):
                    assert lane not in self.opening | self.open
                    self.opening[lane] = worker
                    self.opened_ever += 1
                case Close(lane):
                    assert (lane in self.opening) != (lane in self.open)
                    assert lane not in {where for _, where in self.attempts.values()}
                    self.opening.pop(lane, None)
                    self.open.pop(lane, None)
                case Run(attempt, task, lane):
                    assert lane in self.open
                    self.check_apart(task, self.open[lane])
                    assert task in self.added
                    assert task not in self.endings
                    self.attempts[attempt] = task, lane
                case Cancel(attempt):
                    assert (attempt in self.attempts) != (attempt in self.verifying)
                    self.attempts.pop(attempt, None)
                    self.verifying.pop(attempt, None)
                case Finish(task, ending, answer):
                    assert task not in self.endings, "a task ended twice"
                    self.endings[task] = ending, answer
                    self.finishes[task] = action

    def at(self, lane: int) -> bytes:
        return (self.open | self.opening)[lane]

    def check_apart(self, task: int, worker: bytes) -> None:
        """No two that conflict are asked for one task."""
        if self.replicas is None:
            return
        held = [self.at(lane) for each, lane in self.attempts.values() if each == task]
        held += [where for each, where in self.verifying.values() if each == task]
        for other in held + self.replied.get(task, []):
            assert other != worker
            assert not self.replicas.conflicts(other, worker)

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self.added.add(self.next)
            self.scheduler.add(self.next, self.now)
            self.next += 1
        self.act()

    def opened(self, lane: int, terms: Terms = ROOMY) -> None:
        self.open[lane] = self.opening.pop(lane)
        self.opened_at.add(lane)
        self.scheduler.lane_opened(lane, terms, self.now)
        self.act()

    def failed(self, lane: int, verdict: Verdict = Verdict.NOT_TAKEN) -> None:
        for attempt, (_, where) in tuple(self.attempts.items()):
            if where == lane:
                del self.attempts[attempt]
        self.scheduler.lane_failed(lane, verdict, verdict, self.now)
        self.act()

    def resume(self, lane: int, worker: bytes, tasks: list[int]) -> tuple[int, ...]:
        self.opening[lane] = worker
        self.added |= set(tasks)
        attempts = self.scheduler.resume(lane, worker, tasks, self.now)
        self.attempts |= {a: (task, lane) for a, task in zip(attempts, tasks, strict=True)}
        return attempts

    def hand_over(self) -> None:
        self.leaves = True
        self.scheduler.hand_over(self.now)
        self.act()

    def verify(self, attempt: int) -> None:
        task, lane = self.attempts.pop(attempt)
        self.verifying[attempt] = task, self.open[lane]
        self.scheduler.verifying(attempt, self.now)
        self.act()

    def lose(self, attempt: int) -> None:
        del self.attempts[attempt]
        self.scheduler.lost(attempt, self.now)
        self.act()

    def answer(self, attempt: int, verdict: Verdict, answer: object = "answer") -> None:
        if attempt in self.verifying:
            task, worker = self.verifying.pop(attempt)
        else:
            task, lane = self.attempts.pop(attempt)
            worker = self.open[lane]
        if verdict is Verdict.ANSWERED:
            self.replied.setdefault(task, []).append(worker)
        self.scheduler.answered(attempt, verdict, answer, self.now)
        self.act()

    def wait(self) -> bool:
        deadline = self.scheduler.deadline()
        if deadline == math.inf:
            return False
        self.stood_still = self.stood_still + 1 if deadline <= self.now else 0
        assert self.stood_still < 10, "it wants to be called at once, for ever"
        self.now = max(self.now, deadline)
        self.scheduler.timer(self.now)
        self.act()
        return True

    def running(self) -> list[int]:
        """Return the attempts in lanes that are open."""
        return sorted(a for a, (_, lane) in self.attempts.items() if lane in self.open)

    def check(self) -> None:
        lanes = len(self.opening) + len(self.open)
        assert lanes <= self.limits.concurrent
        runs: dict[int, int] = {}
        held: dict[int, int] = {}
        for task, lane in self.attempts.values():
            runs[task] = runs.get(task, 0) + 1
            held[lane] = held.get(lane, 0) + 1
        most = self.limits.copies + (0 if self.replicas is None else self.replicas.most)
        assert all(count <= most for count in runs.values())
        assert self.leaves or all(count <= self.limits.depth for count in held.values())
        if self.scheduler.is_over:
            assert set(self.endings) == self.added
            assert not lanes
            assert not self.attempts
            assert not self.verifying

    def finish_honestly(self, steps: int = 5000) -> None:
        """From here on all goes well: then everything ends."""
        for _ in range(steps):
            self.check()
            if self.scheduler.is_over:
                return
            if self.opening:
                self.opened(min(self.opening))
            elif self.verifying:
                self.answer(min(self.verifying), Verdict.ANSWERED)
            elif self.running():
                self.now += 1
                self.answer(self.running()[0], Verdict.ANSWERED)
            else:
                assert self.wait(), "nothing happens any more"
        raise AssertionError("the array does not end")


def started(
    count: int, workers: int = 3, limits: ArrayLimits = LIMITS, replicas: Replicas | None = None
) -> Model:
    model = Model(limits, replicas=replicas)
    model.scheduler.workers(candidates(workers), 0.0)
    model.add(count)
    model.scheduler.close(0.0)
    model.act()
    return model
