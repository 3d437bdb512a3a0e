"""The outputs of a job's tasks are folded into one, which goes where it belongs (spec/11 §2.1)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import trio

from fogbank.cli.array_fold import fold
from fogbank.cli.output import note
from fogbank.client.array_shell import Array
from fogbank.client.chance_shell import SystemChooser
from fogbank.client.exit_codes import Ending
from fogbank.client.journal.job_shell import Job
from fogbank.client.partials_shell import PartialFolder
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.nodes.arrays import open_reach
from fogbank.nodes.job_spec import JobSpec, Program
from fogbank.nodes.user import User
from fogbank.nodes.verification import open_court
from fogbank.sandbox.data import Data
from fogbank.sandbox.files_shell import write_atomic
from fogbank.sandbox.scratch_shell import Scratch, read_file

FOLDED_NAME = "reduced"
"""What all results were folded into, in a folder of results."""


class Folding:
    """Folds what lies in the folder of results; `put` prints what is left, if it is to be."""

    def __init__(
        self,
        job: Job,
        program: Program,
        folder: Path,
        spec: JobSpec,
        put: Callable[[Data], None] | None,
    ) -> None:
        self._job = job
        self._program = program
        self._folder = folder
        self._limits = ArrayLimits(concurrent=spec.at_once, retries=spec.retries)
        self._wanted = None if spec.verified is None else spec.verified.of_folds()
        self._put = put

    async def run(self, user: User, expires: float) -> Ending:
        """Fold; say why not if it fails. Times are the trio clock's."""
        numbers = [task.number for task in self._job.tasks()]
        outputs = [self._folder / str(number) / "stdout" for number in numbers]
        between, retries = self._job.folder / "between", self._limits.retries
        shutil.rmtree(between, ignore_errors=True)
        between.mkdir(mode=0o700)
        with open_reach(user, self._program.sent) as (reach, program):
            async with open_court(user, reach, program, self._wanted, retries, note) as court:
                result = await fold(
                    lambda level, source, sink: Array(
                        court.reach,
                        program,
                        source,
                        sink,
                        SystemChooser(),
                        limits=self._limits,
                        expires=expires,
                        verification=court.verification,
                        journal=self._job.journal(level),
                        sinks=Scratch(self._job.folder / "arriving").sink,
                        partials=PartialFolder(self._job.folder / "arriving"),
                    ),
                    self._program.pattern,
                    outputs,
                    between,
                    self._earlier,
                )
        if not isinstance(result, Path):
            return result
        await trio.to_thread.run_sync(self._deliver, read_file(result))
        shutil.rmtree(between, ignore_errors=True)
        return Ending(0)

    def _earlier(self, level: int, number: int) -> Data | None:
        """Return what the journal has of a fold that succeeded."""
        task = self._job.task(number, level)
        if task is None or not task.is_over or task.code:
            return None
        return self._job.outputs.read(task.stdout)

    def _deliver(self, data: Data) -> None:
        write_atomic(self._folder / FOLDED_NAME, data, 0o644)
        if self._put is not None:
            self._put(data)


def folded_in(job: Job, spec: JobSpec) -> Data | None:
    """Return what a job's outputs were folded into; None if they were not, yet."""
    path = results_folder(job, spec) / FOLDED_NAME
    return read_file(path) if path.exists() else None


def results_folder(job: Job, spec: JobSpec) -> Path:
    """Return where results of a job are that are files."""
    named = spec.results.folder
    return job.folder / "results" if named is None else Path(named)
