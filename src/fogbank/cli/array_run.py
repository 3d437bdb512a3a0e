"""An array at work, attached to its command: tasks in, results out, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from fogbank.cli.array_fold import fold
from fogbank.cli.array_inputs import Inputs
from fogbank.cli.array_outputs import Done, Output
from fogbank.cli.array_progress import Display, Tally, describe
from fogbank.cli.array_tasks import Pattern, Tasks, command_of
from fogbank.cli.joblog import Entry, JobLog
from fogbank.cli.output import FAILED, note
from fogbank.client.array_shell import Array, Sink, Source
from fogbank.client.chance_shell import SystemChooser
from fogbank.client.exit_codes import Ending as Words
from fogbank.client.exit_codes import ending_of_task
from fogbank.client.lines_shell import Reach
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.nodes.arrays import open_reach
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.sandbox.runtimes.catalogue import RuntimeId, RuntimeSpec
from fogbank.sandbox.task import Task

_TOLD = 10
"""Failures that are told one by one."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done. `seconds`: how long it may take in all."""

    program: bytes | RuntimeSpec
    pattern: Pattern
    inputs: Inputs
    limits: ArrayLimits
    seconds: float = inf


@dataclass(frozen=True, slots=True)
class Folding:
    """By what program all outputs are folded, which are in `folder`; `put` is given the result."""

    program: bytes | RuntimeSpec
    pattern: Pattern
    folder: Path
    put: Callable[[Path], None]


class ArrayRun:
    """One array, from its first task to its last; `output` is made with what it calls when done."""

    def __init__(
        self,
        job: Job,
        output: Callable[[Done], Output],
        log: JobLog | None,
        folding: Folding | None = None,
    ) -> None:
        self._job = job
        self._folding = folding
        self._fold_code = 0
        self._log = log
        self._tally = Tally(job.inputs.total)
        self._display = Display(self._tally)
        self._output = output(self._done)
        self._tasks = Tasks(job.inputs, job.pattern, self._skip)
        self._told = 0
        self._began = time.monotonic()

    def run(self, home: Home) -> int:
        """Run it, and return the exit code: not 0 unless all tasks succeeded."""
        try:
            trio.run(self._run, home)
        finally:
            self._display.hide()
            self._output.close()
            self._tally.total = self._tasks.total
            self._sum_up()
        return self._tally.exit_code or (self._fold_code if self._is_whole else FAILED)

    @property
    def _is_whole(self) -> bool:
        return self._tally.total == self._tally.ended

    async def _run(self, home: Home) -> None:
        async with open_user(home, self._say) as user:
            expires = trio.current_time() + self._job.seconds
            with open_reach(user, self._job.program) as (reach, program):
                array = self._array(reach, program, expires)(self._tasks, self)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._show, array)
                    await array.run()
                    nursery.cancel_scope.cancel()
            self._tally.total = self._tasks.total
            complete = self._is_whole and self._tally.succeeded and not self._tally.failed
            if self._folding is not None and complete:
                await self._fold(user, self._folding, expires)

    def _array(
        self, reach: Reach, program: bytes | RuntimeId, expires: float
    ) -> Callable[[Source, Sink], Array]:
        return lambda source, sink: Array(
            reach,
            program,
            source,
            sink,
            SystemChooser(),
            limits=self._job.limits,
            expires=expires,
        )

    async def _fold(self, user: User, folding: Folding, expires: float) -> None:
        """Fold the outputs of all tasks, which have succeeded."""
        outputs = [folding.folder / str(number) / "stdout" for number in self._tasks.order]
        with (
            TemporaryDirectory(prefix="fogbank-map-", ignore_cleanup_errors=True) as between,
            open_reach(user, folding.program) as (reach, program),
        ):
            array = self._array(reach, program, expires)
            result = await fold(array, folding.pattern, outputs, Path(between))
            if isinstance(result, Path):
                self._display.hide()
                await trio.to_thread.run_sync(folding.put, result)
            else:
                self._fold_code = result.code
                what = result.sentence or f"exit code {result.code}"
                self._say(f"the program that folds failed: {what}")

    async def _show(self, array: Array) -> None:
        while True:
            await trio.sleep(self._display.interval)
            self._tally.total = self._tasks.total
            self._display.show(array.running, time.monotonic() - self._began)

    def _say(self, text: str) -> None:
        self._display.hide()
        note(text)

    def _sum_up(self) -> None:
        tally = self._tally
        if tally.failed or not self._is_whole:
            self._say(describe(tally, 0, time.monotonic() - self._began))
        if not self._is_whole and self._log is not None:
            self._say("the same command with --resume goes on from here")

    # The tasks that an earlier run has recorded.

    def _skip(self, number: int, task: Task) -> bool:
        recorded = None if self._log is None else self._log.recorded.get(number)
        if recorded is None:
            return False
        if recorded.digest != self._job.pattern.digest(task):
            raise ValueError(
                f"the log is of another array: its task {number} had another program, input or "
                "arguments. Begin anew, without --resume"
            )
        self._tally.earlier += 1
        self._tally.count(number, recorded.exit_code)
        return True

    # Results.

    async def take(self, end: TaskEnd) -> None:
        """Put a task's result where it belongs."""
        words = ending_of_task(end)
        expected, self._tasks.given = self._tasks.given, []
        await trio.to_thread.run_sync(partial(self._put, expected, end, words))

    def _put(self, expected: list[int], end: TaskEnd, words: Words) -> None:
        if self._output.prints:
            self._display.hide()
        self._output.expect(expected)
        self._output.put(end, words)
        if words.code:
            self._tell_failure(end, words)

    def _tell_failure(self, end: TaskEnd, words: Words) -> None:
        self._told += 1
        if self._told <= _TOLD:
            self._say(f"task {end.number}: {words.sentence or f'exit code {words.code}'}")
        if self._told == _TOLD:
            self._say("further failures are counted only")

    def _done(self, end: TaskEnd, size: int) -> None:
        """Count a task whose result is where it belongs, and record it."""
        code = ending_of_task(end).code
        fuel = 0 if end.result is None else end.result.fuel
        if end.ending is Ending.DONE and self._log is not None:
            task = end.task
            sent = len(task.stdin) + sum(len(data) for _, data in task.files)
            began = time.time() - end.seconds
            what = command_of(task), self._job.pattern.digest(task)
            self._log.record(
                Entry(end.number, end.worker, began, end.seconds, sent, size, code, *what)
            )
        self._tally.count(end.number, code, fuel)
