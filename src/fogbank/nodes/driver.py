"""A job of the journal is taken to its end: its tasks in, its results out (spec/13).

    driver = Driver(job, spec, inputs=inputs, delivery=delivery)
    end = await driver.run(user)

Whoever goes on with a job after its client ended does the same, without the inputs, which are in
the journal by then.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from fogbank.client.array_shell import Array
from fogbank.client.chance_shell import SystemChooser
from fogbank.client.errors import ClientError
from fogbank.client.exit_codes import Ending as Words
from fogbank.client.exit_codes import ExitCode, ending_of_error, ending_of_task
from fogbank.client.journal.array_shell import Listener
from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import JobState, Stage, Summary
from fogbank.client.partials_shell import PartialFolder
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.nodes.arrays import open_reach
from fogbank.nodes.delivery import Delivery
from fogbank.nodes.intake import Intake, Unfinished
from fogbank.nodes.job_spec import JobSpec, Program
from fogbank.nodes.user import User
from fogbank.nodes.verification import Court, open_court
from fogbank.relay.errors import RelayError
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.scratch_shell import Scratch

_LOOK_SECONDS: Final = 0.5
"""How often the wishes of other processes are looked for, and states are written."""
_TOUCH_SECONDS: Final = 600.0
_CANCEL_SECONDS: Final = 20.0
"""How long workers that hold something of a cancelled job may take to hear of it."""


class Fold(Protocol):
    """Folds the outputs of a job whose tasks all succeeded."""

    async def run(self, user: User, expires: float) -> Words:
        """Fold, and put the result where it belongs; say why not if it fails."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How the work at a job ended: `state` None if it goes on later."""

    state: JobState | None
    code: int
    reason: str = ""


@dataclass(slots=True)
class Watch:
    """Who hears of what happens: of ends of tasks, and of words for the user."""

    say: Callable[[str], None]
    on_end: Callable[[int, Words, int], None] = field(default=lambda *_: None)
    listener: Listener | None = None


class Driver:
    """One process's work at a job, which it has to itself."""

    def __init__(
        self,
        job: Job,
        spec: JobSpec,
        program: Program,
        intake: Intake,
        watch: Watch,
        *,
        delivery: Delivery | None = None,
        fold: Fold | None = None,
        leaves: bool = False,
    ) -> None:
        self._job = job
        self._spec = spec
        self._program = program
        self._intake = intake
        self._watch = watch
        self._delivery = delivery
        self._fold = fold
        self._leaves = leaves
        self._array: Array | None = None
        self._folded = Words(0)
        self._scope = trio.CancelScope()
        self._why: str | None = None
        self._cancelled = trio.Event()
        self._folding = trio.CancelScope()

    @property
    def running(self) -> int:
        """How many tasks run, as far as is known."""
        return 0 if self._array is None else self._array.running

    @property
    def total(self) -> int | None:
        """How many tasks there are; None while that is not known."""
        return self._intake.total

    def detach(self, why: str) -> None:
        """Stop working at it: workers go on with what they hold, and so does whoever attaches."""
        self._why = self._why or why
        self._scope.cancel()

    def cancel(self) -> None:
        """End the job, and have workers forget it."""
        self._cancelled.set()
        self._folding.cancel()

    async def run(self, user: User | None) -> JobEnd:
        """Take it to its end, or until it is detached or cancelled; at once if there is no user.

        What ends the work for another reason is raised. A job of which no worker has anything is
        over then; any other one is detached.
        """
        self._job.begin(os.getpid())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._intake.run)
                nursery.start_soon(self._look)
                with self._scope:
                    if user is not None:
                        await self._work(user)
                await self._read_rest()
                nursery.cancel_scope.cancel()
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self.fail(error)
            raise
        return await self._conclude()

    # What is done.

    async def _work(self, user: User) -> None:
        expires = math.inf
        if self._spec.expires is not None:
            expires = trio.current_time() + self._spec.expires - time.time()
        async with trio.open_nursery() as nursery:
            if self._delivery is not None:
                nursery.start_soon(self._delivery.run)
            await self._run_tasks(user, expires)
            if self._delivery is not None:
                self._delivery.finish()
        summary = self._job.summary()
        if self._fold is not None and summary.total == summary.over and not summary.failed:
            with self._folding:
                self._folded = await self._fold.run(user, expires)

    async def _run_tasks(self, user: User, expires: float) -> None:
        if self._intake.is_whole and next(self._job.unfinished(), None) is None:
            return
        source = Unfinished(self._job, self._intake, self._program.pattern)
        limits = ArrayLimits(concurrent=self._spec.at_once, retries=self._spec.retries)
        verified = self._spec.verified
        wanted = None if verified is None else verified.load(self._job.file)
        with open_reach(user, self._program.sent) as (reach, sent):
            async with open_court(
                user, reach, sent, wanted, self._spec.retries, self._watch.say
            ) as court:
                await self._run_array(court, sent, source, limits, expires)

    async def _run_array(
        self,
        court: Court,
        sent: bytes | RuntimeId,
        source: Unfinished,
        limits: ArrayLimits,
        expires: float,
    ) -> None:
        self._array = array = Array(
            court.reach,
            sent,
            source,
            _Ends(self, source, court),
            SystemChooser(),
            limits=limits,
            expires=expires,
            journal=self._job.journal(listener=self._watch.listener),
            durable=self._leaves,
            sinks=Scratch(self._job.folder / "arriving").sink,
            partials=PartialFolder(self._job.folder / "arriving"),
            verification=court.verification,
        )
        if self._leaves:
            array.hand_over()
        if self._cancelled.is_set():
            array.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_told, array, nursery.cancel_scope)
            await array.run()
            nursery.cancel_scope.cancel()
        self._array = None

    async def _cancel_when_told(self, array: Array, scope: trio.CancelScope) -> None:
        """Have workers forget all, if that can be told them in time."""
        is_late = not self._cancelled.is_set()
        await self._cancelled.wait()
        scope.deadline = trio.current_time() + _CANCEL_SECONDS
        if is_late:
            array.cancel()

    def ended(self, end: TaskEnd, size: int) -> None:
        """Hear of the end of a task that had `size` bytes of its own, and is in the journal."""
        self._intake.ended(size)
        if self._delivery is not None:
            self._delivery.wake()
        self._watch.on_end(end.number, ending_of_task(end), end.result.fuel if end.result else 0)

    async def _look(self) -> None:
        """Heed other processes' wishes, and write what was left for later."""
        touched = trio.current_time()
        while True:
            await trio.sleep(_LOOK_SECONDS)
            match self._job.take_wish():
                case "cancel":
                    self.cancel()
                case "detach":
                    self.detach("another command took it over")
            if trio.current_time() >= touched + _TOUCH_SECONDS:
                touched = trio.current_time()
                self._job.touch()
            await self._job.flush()

    async def _read_rest(self) -> None:
        """Read what is left of the inputs, so that whoever goes on has them."""
        if self._intake.is_whole or self._cancelled.is_set():
            return
        self._watch.say("reading the rest of the inputs; Ctrl-C again ends that")
        self._intake.hurry()
        with trio.CancelScope() as self._scope:
            while not self._intake.is_whole:
                await self._intake.changed()

    # How it ends.

    async def _conclude(self) -> JobEnd:
        if self._cancelled.is_set():
            return await self._over(JobState.CANCELLED, ExitCode.CANCELLED, "its user cancelled it")
        if self._why is None and next(self._job.unfinished(), None) is not None:
            self._why = "its command handed it over to workers, and left"
        if self._why is not None:
            await self._job.settle(self._why)
            return JobEnd(None, 0, self._why)
        summary = self._job.summary()
        if self._intake.is_cut_off:
            return await self._over(
                JobState.FAILED,
                ExitCode.FAILED,
                f"its client was ended before it had read all inputs: {summary.total} were read, "
                "and run",
            )
        if summary.first is not None:
            return await self._over(
                _state_of(summary), summary.first.code, _failure(summary, self._spec.kind)
            )
        if self._folded.code or self._folded.sentence:
            words = self._folded.sentence or f"exit code {self._folded.code}"
            return await self._over(
                JobState.FAILED, self._folded.code, f"the program that folds failed: {words}"
            )
        count = "its task" if summary.total == 1 else f"all {summary.total} tasks"
        return await self._over(JobState.DONE, 0, f"{count} succeeded")

    async def _over(self, state: JobState, code: int, reason: str) -> JobEnd:
        await self._job.over(state, reason, code)
        return JobEnd(state, code, reason)

    async def fail(self, error: BaseException) -> None:
        """Keep what ended the work: nothing, if no worker has anything of it and none had."""
        with suppress(ClientError):
            words = _words(error)
            if words is not None and not self._job.is_begun:
                await self._job.over(JobState.FAILED, words.sentence, words.code)
            else:
                await self._job.settle(words.sentence if words else "its client was ended")


class _Ends:
    """The sink of the array."""

    def __init__(self, driver: Driver, source: Unfinished, court: Court) -> None:
        self._driver = driver
        self._source = source
        self._court = court

    async def take(self, end: TaskEnd) -> None:
        """Take the end of a task."""
        self._driver.ended(end, self._source.sizes.pop(end.number, 0))
        await self._court.ended(end)


def _state_of(summary: Summary) -> JobState:
    if Stage.DISPUTED in summary.stages:
        return JobState.DISPUTED
    return JobState.EXPIRED if summary.stages == {Stage.EXPIRED} else JobState.FAILED


def _failure(summary: Summary, kind: str) -> str:
    first = summary.first
    if first is None:
        return ""
    words = first.reason or f"the program ended with exit code {first.code}"
    if kind == "run":
        return words
    count = f"{summary.failed} of {summary.total} tasks failed"
    return f"{count}, the first is task {first.number}: {words}"


def _words(error: BaseException) -> Words | None:
    """Return what to tell of an error, if it is one that users are told of."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, RelayError | ClientError):
        return ending_of_error(error)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        what = f"results or inputs could not be written or read{where}: {error.strerror or error}"
        return Words(ExitCode.FAILED, what)
    if isinstance(error, ValueError) and str(error):
        return Words(ExitCode.FAILED, str(error))
    return None
