"""Arrays from the client's side: many tasks of one program, on many workers (spec/11).

    array = Array(reach, program, source, sink, chooser)
    await array.run()

`source` is asked for a task whenever one more can be used, `sink` is given each task's end, once.
A worker that is used has one circuit, however many sessions; all circuits end with the array.

With a `journal` nothing is lost when `run` is cancelled, or its process killed: the workers go on,
and another array with that journal goes back to them. Only `cancel` ends what they run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import trio

from fogbank.client.answers import outcome_of
from fogbank.client.attempts_shell import Attempts
from fogbank.client.chance import Chooser
from fogbank.client.ends_shell import Ends, Sink
from fogbank.client.given_shell import GivenTasks, Source
from fogbank.client.journal.words import HeldLane, Journal, NoJournal
from fogbank.client.lane_shell import Lane, Sessions
from fogbank.client.lines_shell import Lines, Reach
from fogbank.client.modules_shell import Modules
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.scheduler import Scheduler
from fogbank.client.scheduling.tasks import Answer, TaskEnd
from fogbank.client.scheduling.verdicts import judge
from fogbank.client.scheduling.words import (
    Action,
    Cancel,
    Close,
    Finish,
    Open,
    Run,
    Terms,
)
from fogbank.client.session_shell import JobSession
from fogbank.client.verification.words import Verification
from fogbank.relay.job.held.partial import Partials
from fogbank.relay.job.messages import Offer
from fogbank.relay.keys import NodeId
from fogbank.sandbox.data import MemorySink, Sinks
from fogbank.sandbox.runtimes.catalogue import RuntimeId

__all__ = ["Array", "Sink", "Source"]

_WATCH_SECONDS: Final = 5.0
_RELEASE_PAUSES: Final = 30.0, 120.0, 600.0
"""Seconds before a worker that was given up is asked, each time, to forget what it holds."""
_CLOSING_SECONDS: Final = 5.0, 15.0
"""How long workers are given to hear that they may forget all: when it is done, and if not."""


class Array:
    """The tasks of one program at work. Times are the trio clock's; `expires` too.

    With `verification` a task may have several answers, which count only if they hold (spec/12).
    `durable`: workers have tasks on their disks before they say that they have them. `sinks` makes
    what keeps outputs, `partials` has what came of large ones before their client ended.
    """

    def __init__(  # noqa: PLR0913 -- what an array is, is said once, by name
        self,
        reach: Reach,
        program: bytes | RuntimeId,
        source: Source,
        sink: Sink,
        chooser: Chooser,
        *,
        limits: ArrayLimits | None = None,
        expires: float = math.inf,
        verification: Verification | None = None,
        journal: Journal | None = None,
        durable: bool = False,
        sinks: Sinks = MemorySink,
        partials: Partials | None = None,
    ) -> None:
        self._lines = Lines(reach)
        self._reach = reach
        self._journal: Journal = journal or NoJournal()
        self._sessions = Sessions(program, self._journal, durable, sinks, Modules(), partials)
        replicas = None if verification is None else verification.replicas
        now = trio.current_time()
        self._scheduler = Scheduler(limits or ArrayLimits(), chooser, now, expires, replicas)
        self._tasks = GivenTasks(source)
        self._lanes: dict[int, Lane] = {}
        self._serving = 0
        self._ends = Ends(self._journal, sink, self._wake)
        inspector = None if verification is None else verification.inspector
        self._attempts = Attempts(self._scheduler, self._ends, self._journal, inspector, self._act)
        self._has_begun = self._is_cancelled = False
        self._handing_over = False
        self._changed = trio.Event()
        self._is_done = trio.Event()

    @property
    def running(self) -> int:
        """How many tasks run, as far as is known."""
        return self._scheduler.running

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return self._scheduler.lanes

    @property
    def waiting(self) -> int:
        """How many tasks that were given have neither ended nor been handed over to a worker."""
        return len(self._tasks) - len(self._attempts.handed_over)

    async def run(self) -> None:
        """Run until the source has no more tasks and the sink has taken the end of each.

        After `hand_over`: or until workers have what has not ended, as far as they take it.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._scheduler.workers(self._reach.candidates(), trio.current_time())
            await self._resume()
            for part in (self._feed, self._keep_time, self._watch):
                nursery.start_soon(part)
            await self._deliver()
            if self._scheduler.is_over:
                self._is_done.set()
                done, cancelled = _CLOSING_SECONDS
                with trio.move_on_after(cancelled if self._is_cancelled else done):
                    while self._serving:
                        await self._changed.wait()
            nursery.cancel_scope.cancel()

    def hand_over(self) -> None:
        """Have workers take all tasks, as many as they will: `run` returns once they have them."""
        self._handing_over = True
        self._scheduler.hand_over(trio.current_time())
        self._act()

    def cancel(self) -> None:
        """End all that has not ended, at the workers too."""
        self._is_cancelled = True
        if self._has_begun:
            self._scheduler.cancel(trio.current_time())
            self._act()

    # What goes on beside the lanes.

    async def _resume(self) -> None:
        """Go back to the sessions that workers hold, once their tasks are known."""
        held = self._journal.held()
        others = await self._tasks.until(task for lane in held for task in lane.tasks.values())
        for lane in held:
            self._go_back_to(lane)
        now = trio.current_time()
        for task in others:
            self._scheduler.add(task.number, now)
        if self._tasks.all_given:
            self._scheduler.close(now)
        self._has_begun = True
        if self._is_cancelled:
            self._scheduler.cancel(now)
        self._act()

    async def _feed(self) -> None:
        while not (self._tasks.all_given or self._scheduler.is_over):
            full = self._tasks.is_full and not self._handing_over
            if full or not self._scheduler.wants:
                await self._changed.wait()
                continue
            task = await self._tasks.next()
            now = trio.current_time()
            if task is None:
                self._scheduler.close(now)
            else:
                self._scheduler.add(task.number, now)
            self._act()

    async def _keep_time(self) -> None:
        while True:
            changed = self._changed
            with trio.move_on_at(self._scheduler.deadline()):
                await changed.wait()
                continue
            self._scheduler.timer(trio.current_time())
            self._act()

    async def _watch(self) -> None:
        """Take up each consensus."""
        known = self._reach.candidates()
        while True:
            await trio.sleep(_WATCH_SECONDS)
            listed = self._reach.candidates()
            if listed != known:
                known = listed
                self._scheduler.workers(listed, trio.current_time())
                self._act()

    async def _deliver(self) -> None:
        while True:
            await self._ends.deliver()
            if self._scheduler.is_over or self._is_handed_over:
                return
            await self._changed.wait()

    @property
    def _is_handed_over(self) -> bool:
        if not self._handing_over:
            return False
        if self._scheduler.is_stuck:
            # Some will not be taken, and perhaps not even asked for.
            return self._attempts.are_handed_over
        return self._tasks.all_given and not self.waiting

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self._attempts.wake()

    # What the scheduler wants.

    def _act(self) -> None:
        for action in self._scheduler.actions():
            self._do(action)
        self._wake()

    def _do(self, action: Action) -> None:
        match action:
            case Open(number, worker):
                self._begin(number, worker, self._sessions.new(number, worker))
            case Close(number):
                self._lanes.pop(number).close()
            case Run(number, task, lane):
                content = self._tasks[task].task
                self._attempts.start(self._nursery, number, self._lanes[lane], (task, content))
            case Cancel(number):
                self._attempts.cancel(number)
            case Finish():
                self._finish(action)

    def _finish(self, end: Finish) -> None:
        each = self._tasks.pop(end.task)
        self._attempts.handed_over.discard(end.task)
        answer = end.answer if isinstance(end.answer, Answer) else Answer(None)
        result, error = outcome_of(end, answer.value)
        who = answer.worker, answer.seconds, end.replies, end.wrong
        self._ends.add(TaskEnd(end.task, each.task, end.ending, result, error, *who))

    # Lanes.

    def _begin(self, number: int, worker: NodeId, job: JobSession) -> Lane:
        def opened(offer: Offer) -> None:
            free = offer.load.places - offer.load.taken
            most = offer.tasks
            if lane.is_held and offer.holding is not None:
                most = offer.holding.tasks
            self._scheduler.lane_opened(number, Terms(free, most), trio.current_time())
            self._act()

        def reached(way: Sequence[str]) -> None:
            self._journal.reached(number, way)

        lane = self._lanes[number] = Lane(number, worker, self._lines, job, opened, reached)
        self._serving += 1
        self._nursery.start_soon(self._serve, lane)
        return lane

    def _go_back_to(self, held: HeldLane) -> None:
        ids = {task: known for known, task in sorted(held.tasks.items()) if task in self._tasks}
        now = trio.current_time()
        numbers = self._scheduler.resume(held.lane, held.worker, ids, now)
        lane = self._begin(held.lane, held.worker, self._sessions.old(held))
        for number, (task, known) in zip(numbers, ids.items(), strict=True):
            named = task, self._tasks[task].task
            self._attempts.start(self._nursery, number, lane, named, known)

    async def _release(self, lane: Lane) -> None:
        """Have a worker forget what it holds for nobody, once it can be reached again."""
        for pause in _RELEASE_PAUSES:
            with trio.move_on_after(pause):
                await self._is_done.wait()
            await lane.release()
            if lane.is_over or self._is_done.is_set():
                return

    async def _serve(self, lane: Lane) -> None:
        """Open a session and keep it until the scheduler closes it."""
        try:
            ended = await lane.serve()
            if ended is not None:
                await self._attempts.told(lane)
                answer = Answer(ended, lane.name)
                now = trio.current_time()
                self._scheduler.lane_failed(lane.number, judge(ended), answer, now)
                self._act()
                if lane.is_held and not lane.is_over:
                    await self._release(lane)
            if lane.is_over:
                await self._journal.lane_over(lane.number)
        finally:
            self._serving -= 1
            self._wake()
