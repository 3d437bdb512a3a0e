"""`fog map`: run a program many times, on many workers."""

from __future__ import annotations

import glob
import os
import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from typer.core import TyperCommand

from fogbank.cli import options
from fogbank.cli.output import errors_in_words
from fogbank.cli.programs import read_program
from fogbank.cli.sizes import parse_memory

if TYPE_CHECKING:
    from fogbank.client.patterns import Pattern
    from fogbank.client.scheduling.limits import ArrayLimits
    from fogbank.nodes.intake import Inputs
    from fogbank.nodes.job_spec import Results

MARK = ":::"
"""What follows are the inputs, one for each task."""
LOG_NAME = "joblog"
"""The log in a folder of results."""
_JOBS_MAX = 4096
_RETRIES_MAX = 100


class MapCommand(TyperCommand):
    """Takes what follows `:::` as it is, even if it begins with a dash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        if MARK in args and "--" not in args[: args.index(MARK)]:
            place = args.index(MARK)
            args = [*args[:place], "--", *args[place:]]
        return super().parse_args(ctx, args)


def map_tasks(
    program: options.Program,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- ARGS] [::: INPUTS]",
            help="The program's arguments; {} is a task's input, {#} its number.",
        ),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(help="A task for each number: 0-999, or 1,4,10-30:5; 0-999%50: 50 at once."),
    ] = None,
    lines: Annotated[
        str | None,
        typer.Option(help="A task for each line of a file, or of standard input (-)."),
    ] = None,
    chunk: Annotated[
        str | None,
        typer.Option(help="A task for each so many bytes of standard input, in whole lines: 1M."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--files", help="A task for each file, such as 'data/*.csv'.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Put each result in a folder in DIR."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each task, as it ends.")
    ] = False,
    reduce: Annotated[
        Path | None,
        typer.Option(
            metavar="PROGRAM",
            help="Fold the outputs, in order, by this program on workers; print what is left.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="Tasks that run at once, at most.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="How often a task is tried again that a worker failed.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds for the whole array, at most.")
    ] = None,
    joblog: Annotated[
        Path | None,
        typer.Option(help="Record each result that was delivered in this file."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run what the log does not record yet.")
    ] = False,
    files: options.Files = None,
    fuel: options.Fuel = None,
    memory: options.Memory = None,
    timeout: options.Timeout = None,
    output_limit: options.OutputLimit = None,
    runtime: options.Runtime = None,
    detach: options.Detach = False,
    verbose: options.Verbose = False,
    replicas: options.Replicas = None,
    quorum: options.Quorum = None,
    verify: options.Verify = None,
    attestations: options.Attestations = None,
) -> None:
    """Run PROGRAM once for each input, anonymously, on many workers; results in their order."""
    with errors_in_words():
        from fogbank.cli.attachment import Manner
        from fogbank.cli.submission import Submission
        from fogbank.cli.verification import Checks

        words, values = _split(arguments or [])
        common = read_program(
            program, runtime, words, files or [], (fuel, memory, timeout, output_limit)
        )
        origin = _Origin(values, array, lines, chunk, pattern)
        inputs, percent = _inputs(origin, common.pattern)
        limits = _limits(jobs, percent, retries)
        if deadline is not None and not 0 < deadline < inf:
            raise ValueError("--deadline is a positive number of seconds")
        results = _results(output, joblog, as_json, resume, reduce is not None)
        folds = None
        if reduce is not None:
            folds = read_program(reduce, None, (), [], (fuel, memory, timeout, output_limit))
        submission = Submission(
            "map",
            common,
            inputs,
            limits,
            deadline,
            results,
            folds,
            resume,
            as_json,
            Checks(replicas, quorum, verify, attestations).wanted(limits.retries),
        )
        raise typer.Exit(submission.run(Manner(prints=not detach, verbose=verbose, leaves=detach)))


def _split(arguments: list[str]) -> tuple[tuple[str, ...], list[str] | None]:
    """Part the program's arguments from the inputs; None if no inputs were given."""
    if MARK not in arguments:
        return tuple(arguments), None
    place = arguments.index(MARK)
    values = arguments[place + 1 :]
    if MARK in values:
        raise ValueError(f"{MARK} can stand once only")
    if not values:
        raise ValueError(f"no inputs follow {MARK}: there is nothing to do")
    return tuple(arguments[:place]), values


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the tasks come from, as the options say."""

    values: list[str] | None
    array: str | None
    lines: str | None
    chunk: str | None
    files: str | None


def _inputs(origin: _Origin, pattern: Pattern) -> tuple[Inputs, int | None]:
    """Return the inputs, and how many of them may run at once if they say so."""
    from fogbank.cli import array_inputs

    given = (origin.values, origin.array, origin.lines, origin.chunk, origin.files)
    if sum(each is not None for each in given) != 1:
        raise ValueError(
            f"say where the tasks come from, by one of: {MARK} INPUTS, --array, --lines, --chunk, "
            "--files"
        )
    if origin.values is not None:
        return array_inputs.of_values(origin.values), None
    if origin.array is not None:
        return array_inputs.of_array(origin.array)
    if origin.files is not None:
        return array_inputs.of_files(origin.files, glob.glob), None
    if origin.lines is not None:
        return array_inputs.of_lines(_open(origin.lines), as_argument=pattern.takes_value), None
    if pattern.takes_value:
        raise ValueError("with --chunk a task's input is standard input: leave {} out")
    return array_inputs.of_chunks(_open("-"), parse_memory(origin.chunk or "")), None


def _open(name: str) -> BinaryIO:
    if name != "-":
        return Path(name).open("rb")
    if sys.stdin is None:
        raise ValueError("standard input is closed: there are no tasks to be read there")
    # A reader of its own: Python's could not be closed at the end while a thread waits in it.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def _limits(jobs: int | None, percent: int | None, retries: int | None) -> ArrayLimits:
    from fogbank.client.scheduling.limits import ArrayLimits

    if jobs is not None and percent is not None:
        raise ValueError("--jobs and the number after % say the same: give one of them")
    default = ArrayLimits()
    most = jobs if jobs is not None else percent or default.concurrent
    if not 1 <= most <= _JOBS_MAX:
        raise ValueError(f"from 1 to {_JOBS_MAX} tasks can run at once, not {most}")
    tries = default.retries if retries is None else retries
    if not 0 <= tries <= _RETRIES_MAX:
        raise ValueError(f"--retries is a number from 0 to {_RETRIES_MAX}")
    return ArrayLimits(concurrent=most, retries=tries)


def _results(
    folder: Path | None, log: Path | None, as_json: bool, resume: bool, folds: bool
) -> Results:
    """Return where the results go, as the options say, and make the folder."""
    from fogbank.nodes.job_spec import Results

    if folds and as_json:
        raise ValueError("--reduce prints one result: leave --json out")
    if folds and resume and folder is None:
        raise ValueError("--reduce with --resume needs the outputs of the run before: -o")
    if folder is not None:
        if as_json:
            raise ValueError("--json prints results, -o writes them: give one of them")
        folder.mkdir(parents=True, exist_ok=True)
        if not resume and any(folder.iterdir()):
            raise ValueError(
                f"{folder} is not empty: name another folder, or go on with what is there with "
                "--resume"
            )
        folder = folder.resolve()
    path = log or (folder / LOG_NAME if folder is not None else None)
    if path is None and resume:
        raise ValueError("--resume needs the log of the run before: --joblog, or -o")
    return Results(
        None if folder is None else str(folder),
        None if path is None else str(path.resolve()),
        as_json,
    )
