"""`fog logs`: what a job's programs wrote and what happened to it, to the last line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import FAILED, emit, emit_errors, errors_in_words, note

if TYPE_CHECKING:
    from fogbank.client.journal.job_shell import Job
    from fogbank.client.journal.records import Kept
    from fogbank.client.journal.store_shell import Store
    from fogbank.client.patterns import Pattern


def logs(
    job: options.JobId,
    task: options.TaskNumber = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job, or the task, is over.")
    ] = False,
    as_json: options.JsonLines = False,
) -> None:
    """Print what the programs of JOB, or one TASK of it, wrote, in the order of their ends.

    With -f to the end of all; whatever happens on the way, nothing is left out, and the exit code
    is 0 only if the end was there.
    """
    with errors_in_words():
        from fogbank.cli.reports import open_store

        with open_store() as store, store.look(job) as kept:
            tail = Tail(store, kept, task, as_json=as_json)
            tail.print_new()
            if follow and not tail.is_over:
                _follow(store, tail)
            raise typer.Exit(0 if not follow or tail.is_over else FAILED)


class Tail:
    """What was printed of a job's log so far."""

    def __init__(self, store: Store, job: Job, number: int | None, *, as_json: bool) -> None:
        self._store = store
        self._job = job
        self._number = number
        self._as_json = as_json
        self._seq = 0
        self._pattern: Pattern | None = None
        if number is not None and job.task(number) is None and job.total is not None:
            raise ValueError(f"job {job.id} has no task {number}")

    @property
    def name(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def is_over(self) -> bool:
        """Whether all that there will be is there, and was printed."""
        if self._number is not None:
            task = self._job.task(self._number)
            is_there = task is not None and task.is_over
        else:
            is_there = self._store.job(self._job.id).is_over
        if is_there:
            # What came between the last look and this one.
            self.print_new()
        return is_there

    def print_new(self) -> None:
        """Print what has ended since the last time."""
        while some := self._job.ended_since(self._seq):
            for seq, task in some:
                self._seq = seq
                if self._number in {None, task.number}:
                    self._print(task)

    def _print(self, task: Kept) -> None:
        stdout = self._job.outputs.read(task.stdout)
        stderr = self._job.outputs.read(task.stderr)
        if self._as_json:
            from fogbank.cli.array_outputs import outputs, report

            emit(json.dumps({**report(task, self._made_of), **outputs(task, stdout, stderr)}))
            return
        emit_errors(stderr)
        emit(stdout)
        if task.code:
            note(f"task {task.number}: {task.reason or f'exit code {task.code}'}")

    @property
    def _made_of(self) -> Pattern:
        from fogbank.nodes.job_spec import JobSpec

        if self._pattern is None:
            spec = JobSpec.load(self._store.job(self._job.id).spec)
            self._pattern = spec.program.load(self._job.file).pattern
        return self._pattern


def _follow(store: Store, tail: Tail) -> None:
    """Print what comes, while this process or another one is at work on the job."""
    from fogbank.cli.attachment import Manner, attach
    from fogbank.cli.follow import wait_while_driven
    from fogbank.cli.home import user_home
    from fogbank.cli.session import Session
    from fogbank.client.journal.errors import JobBusy

    while not tail.is_over:
        try:
            manner = Manner(prints=False, shows=False)
            with attach(store, tail.name, manner) as attachment:
                attachment.on_end = tail.print_new
                code = Session(user_home(), [attachment], as_json=False).run()
            if not tail.is_over:
                raise typer.Exit(code or FAILED)
        except JobBusy:
            wait_while_driven(store, tail.name, tail.print_new)
