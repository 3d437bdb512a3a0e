"""Programs become jobs of the journal, and the command works at them (spec/13)."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fogbank.cli.attachment import Attachment, Manner, attach
from fogbank.cli.home import user_home
from fogbank.cli.joblog import JobLog
from fogbank.cli.output import emit
from fogbank.cli.reports import job_report, open_store
from fogbank.cli.session import Session, signals_held_back
from fogbank.client.exit_codes import ExitCode
from fogbank.client.journal.records import JobState
from fogbank.client.journal.store_shell import Store
from fogbank.client.scheduling.limits import ArrayLimits
from fogbank.nodes.intake import Inputs
from fogbank.nodes.job_spec import JobSpec, Program, Results, Wanted, keep
from fogbank.sandbox.data import Data

_SUPERSEDED = "the same command with --resume took its place"


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is to be. `seconds`: how long it may take in all; `resume`: with its log."""

    kind: str
    program: Program
    inputs: Inputs
    limits: ArrayLimits = field(default=ArrayLimits())
    seconds: float | None = None
    results: Results = field(default=Results())
    fold: Program | None = None
    resume: bool = False
    shows_json: bool = False
    wanted: Wanted | None = None

    def run(self, manner: Manner) -> int:
        """Make the job, work at it, and return the exit code."""
        # A job of somebody who has joined no network would be of no use.
        user_home().network()
        with ExitStack() as stack:
            store = stack.enter_context(open_store())
            log = self._open_log(store, stack)
            stack.enter_context(signals_held_back())
            name = self._create(store)
            attachment = stack.enter_context(
                attach(store, name, manner, inputs=self.inputs, log=log)
            )
            session = Session(user_home(), [attachment], as_json=self.shows_json)
            code = session.run()
            if not manner.leaves:
                return code
            record = store.job(name)
            if not self.shows_json:
                emit(name)
            elif record.is_over:
                emit(json.dumps(job_report(record)))
            return code if session.is_signalled else 0

    def _create(self, store: Store) -> str:
        files: dict[str, Data] = {}
        spec = JobSpec(
            self.kind,
            keep(self.program, "program", files),
            self.limits.concurrent,
            self.limits.retries,
            None if self.seconds is None else time.time() + self.seconds,
            self.results,
            None if self.fold is None else keep(self.fold, "fold", files),
            self.inputs.words,
            None if self.wanted is None else self.wanted.keep(files),
        )
        return store.create(spec.title, spec.dump(), files, log=self.results.log)

    def _open_log(self, store: Store, stack: ExitStack) -> JobLog | None:
        if self.results.log is None:
            return None
        path = Path(self.results.log)
        earlier = store.find_log(str(path)) if self.resume else None
        if earlier is not None:
            # What it has fetched is not computed again.
            with attach(store, earlier, Manner(prints=False, shows=False)) as attachment:
                trio.run(_hand_in, attachment)
        log = JobLog.open(path, resume=self.resume)
        stack.callback(log.close)
        return log


async def _hand_in(attachment: Attachment) -> None:
    """Deliver what a job has, and end it: another one has taken its place."""
    await attachment.deliver_rest()
    await attachment.job.over(JobState.CANCELLED, _SUPERSEDED, ExitCode.CANCELLED)
