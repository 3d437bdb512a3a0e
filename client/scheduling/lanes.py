"""The lanes of an array, and the attempts in them (spec/11 §3). Pure.

Whatever is changed here becomes an action for the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from fogbank.client.scheduling.depth import Depth
from fogbank.client.scheduling.records import Attempt, Lane, Unfinished, Worker
from fogbank.client.scheduling.words import Action, Cancel, Close, Open, Run, Terms
from fogbank.client.scheduling.workers import Workers


class Lanes:
    """All lanes that are open or being opened; `say` is given each action.

    Those that have room for a task are taken in turn by `next_with_room`.
    """

    def __init__(self, depth: Depth, workers: Workers, say: Callable[[Action], None]) -> None:
        self._depth = depth
        self._workers = workers
        self._say = say
        self._lanes: dict[int, Lane] = {}
        self._roomy: dict[int, Lane] = {}
        self._passed: dict[int, Lane] = {}
        self._attempts: dict[int, Attempt] = {}
        self._last_lane = self._last_attempt = 0
        self.opening = 0
        """How many are being opened."""

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> chain[Lane]:
        return chain(self._lanes.values())

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._lanes) - self.opening

    @property
    def attempts(self) -> int:
        """How many attempts there are in all of them."""
        return len(self._attempts)

    @property
    def have_room(self) -> bool:
        """Whether `next_with_room` may return one."""
        return bool(self._roomy)

    @property
    def room(self) -> int:
        """How many more tasks they take now, those that were passed by left out."""
        return sum(self._depth.room(lane) for lane in self._roomy.values())

    @property
    def may_hold_more(self) -> bool:
        """Whether some lane that is full by `Depth` has fewer tasks than its worker takes."""
        return any(
            lane.terms is not None and not lane.draining and len(lane.attempts) < lane.terms.tasks
            for lane in self._lanes.values()
            if lane.number not in self._passed
        )

    def find(self, lane: int) -> Lane | None:
        """Return a lane, unless it is gone."""
        return self._lanes.get(lane)

    def attempt(self, attempt: int) -> Attempt | None:
        """Return an attempt, unless it is over."""
        return self._attempts.get(attempt)

    def busy(self) -> list[Lane]:
        """Return those that have a task."""
        return [lane for lane in self._lanes.values() if lane.attempts]

    def idle(self) -> list[Lane]:
        """Return those that are open, sound, and have no task."""
        roomy = chain(self._roomy.values(), self._passed.values())
        return [lane for lane in roomy if not lane.attempts]

    # Lanes.

    def add(self, worker: Worker) -> None:
        """Have one opened at a worker."""
        self._last_lane += 1
        lane = self._lanes[self._last_lane] = Lane(self._last_lane, worker)
        self.opening += 1
        worker.lanes.add(lane.number)
        self._workers.note(worker)
        self._say(Open(lane.number, worker.candidate.identity))

    def resume(
        self, number: int, worker: Worker, tasks: Iterable[Unfinished]
    ) -> tuple[Attempt, ...]:
        """Have one that a worker holds, with these tasks in it; it counts as being opened."""
        self._last_lane = max(self._last_lane, number)
        lane = self._lanes[number] = Lane(number, worker)
        self.opening += 1
        worker.lanes.add(number)
        self._workers.note(worker)
        return tuple(self._add(task, lane) for task in tasks)

    def opened(self, lane: Lane, terms: Terms, now: float) -> None:
        """Hear that one is open."""
        self.opening -= 1
        lane.terms, lane.head_since = terms, now

    def next_with_room(self) -> Lane | None:
        """Return the lane whose turn it is to get a task, if one has room."""
        while self._roomy:
            lane = self._roomy.pop(next(iter(self._roomy)))
            if self._depth.room(lane):
                return lane
        return None

    def has_room(self, lane: Lane) -> None:
        """Hear that one may have room for a task."""
        if lane.number not in self._passed:
            self._roomy[lane.number] = lane

    def pass_by(self, lane: Lane) -> None:
        """Leave one out, which no waiting task suits, until `look_again`."""
        self._passed[lane.number] = lane

    def look_again(self) -> None:
        """Have those that were passed by in turn again."""
        self._roomy |= self._passed
        self._passed.clear()

    def deepen(self) -> None:
        """Have those in turn that may hold more than before."""
        for lane in self._lanes.values():
            if self._depth.room(lane):
                self.has_room(lane)

    def drain(self, lane: Lane) -> None:
        """Give one no more tasks."""
        lane.draining = True
        self._out_of_turn(lane)

    def drop(self, lane: Lane) -> None:
        """Forget one, which has no attempts any more."""
        if self._lanes.pop(lane.number, None) is None:
            return
        if lane.terms is None:
            self.opening -= 1
        self._out_of_turn(lane)
        self._workers.left(lane.worker, lane.number)
        self._say(Close(lane.number))

    def _out_of_turn(self, lane: Lane) -> None:
        self._roomy.pop(lane.number, None)
        self._passed.pop(lane.number, None)

    # Attempts.

    def start(self, task: Unfinished, lane: Lane, now: float) -> None:
        """Run a task in a lane, which goes to the end of the line if it has room for more."""
        if not lane.attempts:
            lane.head_since = now
        attempt = self._add(task, lane)
        self._out_of_turn(lane)
        if self._depth.room(lane):
            self._roomy[lane.number] = lane
        self._say(Run(attempt.number, task.number, lane.number))

    def _add(self, task: Unfinished, lane: Lane) -> Attempt:
        self._last_attempt += 1
        attempt = self._attempts[self._last_attempt] = Attempt(self._last_attempt, task, lane)
        lane.attempts.append(attempt)
        task.attempts.append(attempt)
        return attempt

    def ran(self, attempt: Attempt, now: float) -> float | None:
        """Hear that the worker is done with an attempt: the next in its lane has its turn.

        Return how long it had the lane to itself; None if it was not its turn, as far as is known.
        """
        lane = attempt.lane
        if attempt not in lane.attempts:
            return None
        seconds = now - lane.head_since if lane.attempts[0] is attempt else None
        lane.attempts.remove(attempt)
        lane.head_since = now
        return seconds

    def forget(self, attempt: Attempt) -> None:
        """Hear that an attempt is over."""
        del self._attempts[attempt.number]
        attempt.task.attempts.remove(attempt)
        if attempt in attempt.lane.attempts:
            attempt.lane.attempts.remove(attempt)

    def call_off(self, attempt: Attempt, now: float) -> None:
        """End an attempt whose answer is not needed any more."""
        lane = attempt.lane
        self._say(Cancel(attempt.number))
        if lane.attempts and lane.attempts[0] is attempt:
            lane.head_since = now
        self.forget(attempt)
        self.settle(lane)

    def settle(self, lane: Lane) -> None:
        """Go on with a lane in which an attempt ended, if it is open."""
        if lane.number not in self._lanes or lane.terms is None:
            return
        if not lane.draining:
            self.has_room(lane)
        elif not lane.attempts:
            self.drop(lane)
