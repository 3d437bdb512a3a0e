"""`fog map`: run a program many times, on many workers."""

from __future__ import annotations

import glob
import hashlib
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from typer.core import TyperCommand

from fogbank.cli import options
from fogbank.cli.home import user_home
from fogbank.cli.output import emit, errors_in_words, read_bounded
from fogbank.cli.programs import check_names, limits_of, read_files, read_module, runtime_of
from fogbank.cli.sizes import parse_memory

if TYPE_CHECKING:
    from fogbank.cli.array_inputs import Inputs
    from fogbank.cli.array_outputs import Done, Output
    from fogbank.cli.array_tasks import Pattern
    from fogbank.cli.joblog import JobLog
    from fogbank.client.scheduling.limits import ArrayLimits
    from fogbank.sandbox.runtimes.catalogue import RuntimeSpec

MARK = ":::"
"""What follows are the inputs, one for each task."""
LOG_NAME = "joblog"
"""The log in a folder of results."""
FOLDED_NAME = "reduced"
"""What all results were folded into, in a folder of results."""
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
    runtime: options.Runtime = None,
) -> None:
    """Run PROGRAM once for each input, anonymously, on many workers; results in their order."""
    with errors_in_words():
        words, values = _split(arguments or [])
        sent, common = _program(program, runtime, words, files or [], (fuel, memory, timeout))
        inputs, percent = _inputs(_Origin(values, array, lines, chunk, pattern), common)
        limits = _limits(jobs, percent, retries)
        results = _Results(output, joblog, as_json, resume)
        fold = None
        if reduce is not None:
            results.check_fold()
            fold = _program(reduce, None, (), [], (fuel, memory, timeout))
        raise typer.Exit(_run((sent, common), inputs, limits, deadline, results, fold))


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


def _program(
    program: Path,
    runtime: str | None,
    arguments: tuple[str, ...],
    files: list[Path],
    wanted: tuple[str | None, str | None, float | None],
) -> tuple[bytes | RuntimeSpec, Pattern]:
    """Read what all tasks have in common; raise `ValueError` or `OSError` with what is wrong."""
    from fogbank.cli.array_tasks import Pattern
    from fogbank.sandbox.task import INPUT_SIZE

    script = runtime_of(program, runtime)
    check_names(files, script)
    limits = limits_of(*wanted)
    contents = read_files(files)
    if script is None:
        module = read_module(program)
        digest = hashlib.sha256(module).digest()
        return module, Pattern(program.name, digest, arguments, contents, limits)
    contents = ((script.entry, read_bounded(program, INPUT_SIZE)), *contents)
    return script, Pattern(program.name, script.digest, arguments, contents, limits)


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
    return sys.stdin.buffer


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


@dataclass(frozen=True, slots=True)
class _Results:
    """Where the results go, as the options say."""

    folder: Path | None
    log: Path | None
    as_json: bool
    resume: bool

    def open_log(self) -> JobLog | None:
        """Make the folder, and open the log; raise `ValueError` or `OSError`."""
        from fogbank.cli.joblog import JobLog

        if self.folder is not None:
            if self.as_json:
                raise ValueError("--json prints results, -o writes them: give one of them")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.resume and any(self.folder.iterdir()):
                raise ValueError(
                    f"{self.folder} is not empty: name another folder, or go on with what is "
                    "there with --resume"
                )
        path = self.log or (self.folder / LOG_NAME if self.folder is not None else None)
        if path is None:
            if self.resume:
                raise ValueError("--resume needs the log of the run before: --joblog, or -o")
            return None
        return JobLog.open(path, resume=self.resume)

    def check_fold(self) -> None:
        """Raise `ValueError` if the outputs that are to be folded go elsewhere."""
        if self.as_json:
            raise ValueError("--reduce prints one result: leave --json out")
        if self.resume and self.folder is None:
            raise ValueError("--reduce with --resume needs the outputs of the run before: -o")

    def print_fold(self, path: Path) -> None:
        """Put what the outputs were folded into where it belongs."""
        from fogbank.sandbox.files_shell import write_atomic

        if self.folder is None:
            emit(path.read_bytes())
        else:
            write_atomic(self.folder / FOLDED_NAME, path.read_bytes(), 0o644)

    def output(self, done: Done) -> Output:
        """Make what takes the results."""
        from fogbank.cli.array_outputs import AsJson, InOrder, ToFolder

        if self.folder is not None:
            return ToFolder(self.folder, done)
        return AsJson(done) if self.as_json else InOrder(done)


def _run(
    program: tuple[bytes | RuntimeSpec, Pattern],
    inputs: Inputs,
    limits: ArrayLimits,
    deadline: float | None,
    results: _Results,
    fold: tuple[bytes | RuntimeSpec, Pattern] | None,
) -> int:
    from math import inf

    from fogbank.cli.array_run import ArrayRun, Folding, Job

    if deadline is not None and not 0 < deadline < inf:
        raise ValueError("--deadline is a positive number of seconds")
    job = Job(*program, inputs, limits, inf if deadline is None else deadline)
    log = results.open_log()
    with ExitStack() as stack:
        if log is not None:
            stack.callback(log.close)
        if fold is None:
            return ArrayRun(job, results.output, log).run(user_home())
        folder = results.folder
        if folder is None:
            spool = TemporaryDirectory(prefix="fogbank-map-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(spool))
        folding = Folding(*fold, folder, results.print_fold)
        kept = replace(results, folder=folder)
        return ArrayRun(job, kept.output, log, folding).run(user_home())
