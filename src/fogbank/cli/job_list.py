"""`fog ps`, `why`, `rm`: what jobs there are, why they are where they are, and to forget them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import emit, errors_in_words, note

if TYPE_CHECKING:
    from fogbank.client.journal.job_shell import Job
    from fogbank.client.journal.records import Event, JobRecord, Kept
    from fogbank.client.journal.store_shell import Store

_COMMAND = 40
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def ps(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Jobs too that are over and fetched.")
    ] = False,
    as_json: options.JsonLines = False,
) -> None:
    """List the jobs that are not over, and those whose results were not fetched yet."""
    with errors_in_words():
        from fogbank.cli.reports import job_report, open_store

        with open_store() as store:
            jobs = store.jobs()
        shown = [each for each in jobs if everything or not each.is_over or each.undelivered]
        if as_json:
            for record in shown:
                emit(json.dumps(job_report(record)))
        elif shown:
            for line in _table(shown):
                emit(line)
        if not as_json and len(shown) < len(jobs):
            note(f"{len(jobs) - len(shown)} jobs are over and fetched: --all lists them too")


def _table(jobs: list[JobRecord]) -> list[str]:
    rows = [("JOB", "STATE", "TASKS", "FAILED", "AGE", "COMMAND", "WHY")]
    for each in jobs:
        total = "?" if each.total is None else each.total
        command = each.title if len(each.title) <= _COMMAND else each.title[: _COMMAND - 1] + "…"
        tasks, age = f"{each.over}/{total}", show_age(time.time() - each.created)
        row = (each.id, str(each.state), tasks, str(each.failed), age, command, each.reason)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def show_age(seconds: float) -> str:
    """Write a span of time for people, in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def why(
    job: options.JobId,
    task: options.TaskNumber = None,
    as_json: options.JsonLines = False,
) -> None:
    """Say why JOB, or one TASK of it, is where it is, and what happened to it."""
    with errors_in_words():
        from fogbank.cli.reports import job_report, open_store

        with open_store() as store, store.look(job) as kept:
            record = store.job(job)
            found = None if task is None else _task(kept, task)
            events = store.events(kept.id, task)
            if as_json:
                about = job_report(record) if found is None else _task_report(record, found)
                happened = [{"time": each.time, "event": each.text} for each in events]
                emit(json.dumps({**about, "events": happened}))
                return
            for line in _explain(record, kept) if found is None else [_explain_task(found)]:
                emit(line)
            for each in events:
                emit(_line(each))


def _task(job: Job, number: int) -> Kept:
    found = job.task(number)
    if found is None:
        raise ValueError(f"job {job.id} has no task {number}")
    return found


def _explain(record: JobRecord, job: Job) -> list[str]:
    total = "?" if record.total is None else record.total
    first = f"{record.state}: {record.reason}".removesuffix(": ")
    lines = [first, f"{record.over} of {total} tasks have ended, {record.failed} of them failed"]
    lines += (
        f"{count} {stage}" for stage, count in sorted(record.counts.items()) if not _ended(stage)
    )
    if record.total is None and not record.is_over:
        lines.append("its inputs were not read to their end yet")
    held = job.journal().held()
    there = sum(len(lane.tasks) for lane in held)
    if there and not record.is_over:
        lines.append(f"workers hold {there} tasks of it in {len(held)} sessions")
    if not record.is_over and str(record.state) == "detached":
        lines.append(f"no command is at work on it: `fog attach {record.id}` goes on with it")
    if record.is_over and record.failed:
        lines.append(f"`fog retry {record.id} --failed` tries again what failed")
    return lines


def _ended(stage: str) -> bool:
    from fogbank.client.journal.records import ENDS

    return stage in ENDS


def _explain_task(task: Kept) -> str:
    where = f" at {task.worker}" if task.worker else ""
    reason = task.reason or (f"exit code {task.code}" if task.is_over else "")
    return f"task {task.number} is {task.stage}{where}: {reason}".removesuffix(": ")


def _task_report(record: JobRecord, task: Kept) -> dict[str, object]:
    return {
        "schema": "fogbank.job-task/1",
        "job": record.id,
        "task": task.number,
        "state": str(task.stage),
        "reason": task.reason,
        "exit_code": task.code if task.is_over else None,
        "worker": task.worker,
        "fuel": task.fuel,
    }


def _line(event: Event) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    of = "" if event.number is None else f"task {event.number}: "
    return f"{when}  {of}{event.text}"


def rm(jobs: options.JobIds, as_json: options.JsonLines = False) -> None:
    """Forget jobs that are over, with all that is kept of them."""
    with errors_in_words():
        from fogbank.cli.reports import open_store

        with open_store() as store:
            for name in [_removable(store, job) for job in jobs]:
                store.remove(name)
                if as_json:
                    emit(json.dumps({"schema": "fogbank.removed/1", "job": name}))


def _removable(store: Store, job: str) -> str:
    record = store.job(job)
    if not record.is_over:
        raise ValueError(
            f"job {record.id} is {record.state}: end it first, with `fog cancel {record.id}`"
        )
    return record.id
