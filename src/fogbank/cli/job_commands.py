"""`fog attach`, `wait`, `get`, `cancel`, `retry`: jobs that are in the journal (spec/13)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import FAILED, emit, errors_in_words, note

if TYPE_CHECKING:
    from fogbank.cli.attachment import Manner
    from fogbank.cli.programs import Wanted
    from fogbank.client.journal.store_shell import Store
    from fogbank.nodes.job_spec import JobSpec


def attach(
    job: options.JobId, verbose: options.Verbose = False, as_json: options.JsonLines = False
) -> None:
    """Go on with JOB, as if its command had not ended: results go where it said."""
    with errors_in_words():
        from fogbank.cli.attachment import Manner
        from fogbank.cli.follow import see_to_end
        from fogbank.cli.reports import job_report, open_store

        with open_store() as store:
            code = see_to_end(store, [job], Manner(verbose=verbose), as_json=as_json)
            if as_json and store.job(job).is_over:
                emit(json.dumps(job_report(store.job(job))))
            _tell_end(store, job)
        raise typer.Exit(code)


def wait(jobs: options.JobIds, as_json: options.JsonLines = False) -> None:
    """Wait until jobs are over; what is printed of results, `fog get` prints later."""
    with errors_in_words():
        from fogbank.cli.attachment import Manner
        from fogbank.cli.follow import see_to_end
        from fogbank.cli.reports import job_report, open_store

        with open_store() as store:
            code = see_to_end(store, jobs, Manner(prints=False, shows=len(jobs) == 1))
            for name in jobs:
                if as_json:
                    emit(json.dumps(job_report(store.job(name))))
                else:
                    _tell_end(store, name)
        raise typer.Exit(code)


def _tell_end(store: Store, name: str) -> None:
    record = store.job(name)
    if record.is_over and record.code:
        note(f"job {record.id} {record.state}: {record.reason}")


def get(
    job: options.JobId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Put each result in a folder in DIR."),
    ] = None,
    kept: Annotated[
        bool, typer.Option("--kept", help="Print what is here already, and fetch nothing.")
    ] = False,
    as_json: options.JsonLines = False,
) -> None:
    """Fetch what is missing of JOB's results, then print all of them, however often."""
    with errors_in_words():
        from fogbank.cli.attachment import Manner
        from fogbank.cli.follow import see_to_end
        from fogbank.cli.reports import open_store

        if output is not None and as_json:
            raise ValueError("--json prints results, -o writes them: give one of them")
        with open_store() as store:
            if not kept and not store.job(job).is_over:
                code = see_to_end(store, [job], Manner(prints=False))
                if not store.job(job).is_over:
                    raise typer.Exit(code)
            raise typer.Exit(_print(store, job, output, as_json=as_json))


def _print(store: Store, name: str, folder: Path | None, *, as_json: bool) -> int:
    import trio

    from fogbank.cli.array_outputs import AsJson, InOrder, OfRun, ToFolder
    from fogbank.cli.folding import FOLDED_NAME, folded_in
    from fogbank.nodes.delivery import Output, deliver_all
    from fogbank.nodes.job_spec import JobSpec
    from fogbank.sandbox.files_shell import write_atomic

    record = store.job(name)
    spec = JobSpec.load(record.spec)
    with store.look(record.id) as job:
        pattern = spec.program.load(job.file).pattern
        output: Output
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            output = ToFolder(folder, pattern)
        elif spec.kind == "run":
            output = OfRun(lambda worker: (worker,), as_json=as_json)
        else:
            output = AsJson(pattern) if as_json else InOrder()
        if spec.fold is not None and not as_json:
            result = folded_in(job, spec)
            if folder is not None:
                trio.run(deliver_all, job, output)
            if result is None:
                note("the outputs were not folded into one yet")
                return record.code or FAILED
            if folder is None:
                emit(result)
            else:
                # It may be the same file.
                write_atomic(folder / FOLDED_NAME, result, 0o644)
        else:
            trio.run(deliver_all, job, output)
    missing = "?" if record.total is None else record.total - record.over
    if missing:
        note(f"{missing} tasks have no result yet: `fog wait {record.id}`")
    return record.code if record.is_over else FAILED


def cancel(jobs: options.JobIds, as_json: options.JsonLines = False) -> None:
    """End jobs, at the workers too; results that came before are kept."""
    with errors_in_words():
        from fogbank.cli.reports import job_report, open_store

        with open_store() as store:
            for name in [store.job(job).id for job in jobs]:
                _cancel(store, name)
                if as_json:
                    emit(json.dumps(job_report(store.job(name))))


def _cancel(store: Store, name: str) -> None:
    import trio

    from fogbank.cli.attachment import Manner, attach
    from fogbank.cli.follow import wait_while_driven
    from fogbank.cli.home import user_home
    from fogbank.cli.session import Session
    from fogbank.client.journal.errors import JobBusy

    while not store.job(name).is_over:
        try:
            with attach(store, name, Manner(prints=False, shows=False)) as attachment:
                attachment.driver.cancel()
                if attachment.job.journal().held():
                    Session(user_home(), [attachment], as_json=False).run()
                else:
                    trio.run(attachment.run, None)
        except JobBusy:
            store.wish(name, "cancel")
            wait_while_driven(store, name)
    record = store.job(name)
    note(f"job {name} is over: {record.state}, {record.reason}")


def retry(
    job: options.JobId,
    failed: Annotated[
        bool, typer.Option("--failed", help="The tasks that did not succeed, for whatever reason.")
    ] = False,
    fuel: options.Fuel = None,
    memory: options.Memory = None,
    timeout: options.Timeout = None,
    output_limit: options.OutputLimit = None,
    detach: options.Detach = False,
    as_json: options.JsonLines = False,
) -> None:
    """Run again what failed of JOB, with other limits if they are given."""
    with errors_in_words():
        from fogbank.cli.attachment import Manner
        from fogbank.cli.reports import job_report, open_store

        if not failed:
            raise ValueError("say which tasks: --failed takes those that did not succeed")
        with open_store() as store:
            record = store.job(job)
            if not record.is_over:
                raise ValueError(
                    f"job {record.id} is {record.state}: wait for it, or cancel it, before"
                )
            if not record.failed:
                note(f"all tasks of job {record.id} succeeded: there is nothing to try again")
                return
            manner = Manner(prints=not detach, leaves=detach)
            code = _retry(store, record.id, (fuel, memory, timeout, output_limit), manner)
            if as_json:
                emit(json.dumps(job_report(store.job(record.id))))
            raise typer.Exit(code)


def _retry(
    store: Store,
    name: str,
    wanted: Wanted,
    manner: Manner,
) -> int:
    import trio

    from fogbank.cli.follow import see_to_end
    from fogbank.nodes.job_spec import JobSpec

    spec = _with_limits(JobSpec.load(store.job(name).spec), wanted)
    with store.drive(name) as job:
        count = trio.run(job.again, spec.dump())
    note(f"{count} tasks are run again")
    return see_to_end(store, [name], manner)


def _with_limits(spec: JobSpec, wanted: Wanted) -> JobSpec:
    """Return the job with other limits, and no time at which it must be over."""
    from fogbank.cli.sizes import parse_fuel, parse_memory
    from fogbank.sandbox.limits import Limits

    fuel, memory, timeout, output_limit = wanted
    limits = dict(spec.program.limits)
    if fuel is not None:
        limits["fuel"] = parse_fuel(fuel)
    if memory is not None:
        limits["memory"] = parse_memory(memory)
    if timeout is not None:
        limits["wall_seconds"] = timeout
    if output_limit is not None:
        limits["output"] = parse_memory(output_limit)
    Limits(**limits).check()
    return replace(spec, program=replace(spec.program, limits=limits), expires=None)
