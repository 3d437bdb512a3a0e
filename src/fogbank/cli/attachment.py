"""A job that this command works at: its results delivered, how far it is shown, its end told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from fogbank.cli.array_inputs import inputs_again
from fogbank.cli.array_outputs import AsJson, InOrder, Logged, OfRun, ToFolder
from fogbank.cli.array_progress import Display, Tally, describe
from fogbank.cli.folding import Folding, results_folder
from fogbank.cli.happenings import Happenings
from fogbank.cli.joblog import JobLog
from fogbank.cli.output import emit, note
from fogbank.cli.progress import ProgressLines
from fogbank.client.exit_codes import Ending as Words
from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import JobState
from fogbank.client.journal.store_shell import Store
from fogbank.nodes.delivery import Delivery, Output
from fogbank.nodes.driver import Driver, JobEnd, Watch
from fogbank.nodes.intake import Earlier, Inputs, Intake
from fogbank.nodes.job_spec import JobSpec, Program
from fogbank.nodes.user import User
from fogbank.relay.job.messages import TaskState

_TOLD = 10
"""Failures that are told one by one."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command attaches to a job.

    `prints`: results that go to standard output are printed. `shows`: how far it is, is shown on
    standard error. `verbose`: so is what happens. `leaves`: it detaches once workers hold all.
    """

    prints: bool = True
    shows: bool = True
    verbose: bool = False
    leaves: bool = False


class Attachment:
    """One job, which this process has to itself while it works at it."""

    def __init__(
        self,
        store: Store,
        job: Job,
        log: JobLog | None,
        manner: Manner,
        inputs: Inputs | None,
    ) -> None:
        self.store = store
        self.job = job
        self.spec = JobSpec.load(store.job(job.id).spec)
        self.program: Program = self.spec.program.load(job.file)
        self.manner = manner
        self.end: JobEnd | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Called whenever a task has ended, and is in the journal."""
        self.failed = False
        """Whether something other than its end, or a signal, ended the work at it."""
        self._log = log
        self._began = time.monotonic()
        self._told = 0
        self._intake = Intake(job, self.program.pattern, inputs, self._recorded if log else None)
        self._tally = Tally(self._intake.total)
        self._display = Display(self._tally)
        self._count_earlier()
        self._paths: dict[str, tuple[str, ...]] = {}
        self._lines = ProgressLines()
        self._happenings = Happenings()
        self.delivery = self._delivery()
        self.driver = Driver(
            job,
            self.spec,
            self.program,
            self._intake,
            Watch(self.say, self._ended, self),
            delivery=self.delivery,
            fold=self._fold(),
            leaves=manner.leaves,
        )

    def _delivery(self) -> Delivery | None:
        output = self._output()
        if output is None:
            return None
        logged = Logged(self._log, self.program.pattern) if self._log else None
        return Delivery(self.job, output, logged)

    def _fold(self) -> Folding | None:
        if self.spec.fold is None:
            return None
        put = emit if self.manner.prints and self.spec.results.folder is None else None
        return Folding(self.job, self.spec.fold.load(self.job.file), self.folder, self.spec, put)

    @property
    def folder(self) -> Path:
        """Where results are that are files."""
        return results_folder(self.job, self.spec)

    def _output(self) -> Output | None:
        results, pattern = self.spec.results, self.program.pattern
        if results.folder is not None or self.spec.fold is not None:
            return ToFolder(self.folder, pattern)
        if not self.manner.prints:
            return None
        if self.spec.kind == "run":
            return OfRun(self._path_of, as_json=results.as_json)
        if results.as_json:
            return AsJson(pattern, self._display.hide)
        return InOrder(self._display.hide)

    def _path_of(self, worker: str) -> tuple[str, ...]:
        return self._paths.get(worker, (worker,))

    # At work.

    async def run(self, user: User | None) -> None:
        """Work at it, to its end or until it is detached: at once if there is no client for it."""
        async with trio.open_nursery() as nursery:
            if self.manner.shows and self.spec.kind != "run":
                nursery.start_soon(self._show)
            try:
                self.end = await self.driver.run(user)
            finally:
                self._display.hide()
            nursery.cancel_scope.cancel()

    def say(self, text: str) -> None:
        """Tell the user something."""
        self._display.hide()
        note(text)

    # What it hears of its tasks while they are at workers.

    def reached(self, way: tuple[str, ...]) -> None:
        """Know the way to a worker, and tell it to who wants to know all."""
        self._paths[way[-1]] = way
        is_run = self.spec.kind == "run"
        self._tell(f"circuit: {' → '.join(way)}" if is_run else self._happenings.reached(way))

    def left(self, worker: str) -> None:
        """Tell who wants to know all that a session is over."""
        if self.spec.kind != "run":
            self._tell(self._happenings.left(worker))

    def told(self, state: TaskState, worker: str) -> None:
        """Tell who wants to know all what a worker says of a task."""
        if self.spec.kind == "run":
            self._tell(self._lines.line(state, trio.current_time()))
        else:
            self._tell(self._happenings.told(state, worker))

    def tried(self, task: int, worker: str, reason: str) -> None:
        """Tell who wants to know all that a try came to nothing."""
        self._tell(self._happenings.tried(task, worker, reason))

    def _tell(self, line: str | None) -> None:
        if self.manner.verbose and line is not None:
            self.say(line)

    async def _show(self) -> None:
        while True:
            await trio.sleep(self._display.interval)
            self._tally.total = self.driver.total
            self._display.show(self.driver.running, time.monotonic() - self._began)

    def _count_earlier(self) -> None:
        for task in self.job.tasks():
            if task.is_over:
                self._tally.earlier += 1
                self._tally.count(task.number, task.code)

    def _recorded(self, number: int, digest: str) -> Earlier | None:
        """Say what the log has of a task that an earlier run has recorded."""
        recorded = None if self._log is None else self._log.recorded.get(number)
        if recorded is None:
            return None
        if recorded.digest != digest:
            raise ValueError(
                f"the log is of another array: its task {number} had another program, input or "
                "arguments. Begin anew, without --resume"
            )
        self._tally.earlier += 1
        self._tally.count(number, recorded.exit_code)
        return Earlier(recorded.exit_code)

    def _ended(self, number: int, words: Words, fuel: int) -> None:
        self._tally.count(number, words.code, fuel)
        self.on_end()
        if self.spec.kind != "run":
            self._tell(self._happenings.ended(number, words))
        shows = self.manner.shows and not self.manner.verbose
        if words.code and self.spec.kind != "run" and shows:
            self._told += 1
            if self._told <= _TOLD:
                self.say(f"task {number}: {words.sentence or f'exit code {words.code}'}")
            if self._told == _TOLD:
                self.say("further failures are counted only")

    # Afterwards.

    async def deliver_rest(self) -> None:
        """Deliver what is here and was not delivered, and nothing else."""
        if self.delivery is not None:
            self.delivery.finish()
            await self.delivery.run()

    def sum_up(self) -> None:
        """Say how it went, if it did not go well."""
        self._tally.total = self.driver.total
        if self.spec.kind == "run" or not self.manner.shows or self.end is None:
            return
        if self.end.state is None:
            self.say(describe(self._tally, 0, time.monotonic() - self._began))
        elif self.end.state is not JobState.DONE:
            self.say(describe(self._tally, 0, time.monotonic() - self._began))
            if not self._tally.failed:
                self.say(self.end.reason)


@contextmanager
def attach(
    store: Store,
    name: str,
    manner: Manner,
    *,
    inputs: Inputs | None = None,
    log: JobLog | None = None,
) -> Iterator[Attachment]:
    """Have a job to oneself; raise `JobBusy` if another process has it.

    `inputs`, `log`: of a job that was just made; what others need of these is in the journal.
    """
    with ExitStack() as stack:
        job = stack.enter_context(store.drive(name))
        spec = JobSpec.load(store.job(job.id).spec)
        path = spec.results.log
        if log is None and path is not None:
            log = JobLog.open(Path(path), resume=True)
            stack.callback(log.close)
        if inputs is None and spec.inputs is not None:
            inputs = inputs_again(spec.inputs)
        yield Attachment(store, job, log, manner, inputs)
