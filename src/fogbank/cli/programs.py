"""What commands that run a PROGRAM read of it: the program, its files, its limits."""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from fogbank.cli.home import user_home
from fogbank.cli.output import file_of, note, read_bounded, read_data
from fogbank.cli.sizes import parse_fuel, parse_memory

if TYPE_CHECKING:
    from fogbank.nodes.job_spec import Program
    from fogbank.sandbox.data import Data
    from fogbank.sandbox.limits import Limits
    from fogbank.sandbox.runtimes.catalogue import RuntimeSpec
    from fogbank.sandbox.task import Task

Wanted: TypeAlias = tuple[str | None, str | None, float | None, str | None]
"""Limits as options give them: fuel, memory, seconds, output."""
_STDIN_SECONDS = 3.0
_STDIN_NOTE = "waiting for standard input to end; if there is none, add </dev/null"


def runtime_of(program: Path, name: str | None) -> RuntimeSpec | None:
    """Return the runtime that the program is a script for, by name if one is given.

    None if it is a module; raises `ValueError` if there is no such runtime.
    """
    from fogbank.sandbox.runtimes.catalogue import CATALOGUE, by_name, by_suffix

    if name is None:
        return by_suffix(program.name)
    runtime = by_name(name)
    if runtime is None:
        known = ", ".join(each.name for each in CATALOGUE)
        raise ValueError(f"there is no runtime {name!r}: this release knows {known}")
    return runtime


def read_module(program: Path) -> bytes:
    """Read the program; raise `ModuleRefused` or `OSError` if it is none."""
    from fogbank.sandbox.limits import MODULE_SIZE
    from fogbank.sandbox.outcome import ModuleRefused, Outcome
    from fogbank.sandbox.wat import module_from_file

    try:
        data = read_bounded(program, MODULE_SIZE)
    except ValueError as error:
        raise ModuleRefused(Outcome.INVALID_MODULE, str(error)) from None
    return module_from_file(data)


def limits_of(
    fuel: str | None, memory: str | None, timeout: float | None, output: str | None
) -> Limits:
    """Return the limits that the options ask for; raise `ValueError` with what is wrong."""
    from fogbank.sandbox.limits import Limits

    default = Limits()
    limits = Limits(
        fuel=default.fuel if fuel is None else parse_fuel(fuel),
        memory=default.memory if memory is None else parse_memory(memory),
        wall_seconds=default.wall_seconds if timeout is None else timeout,
        output=default.output if output is None else parse_memory(output),
    )
    limits.check()
    return limits


def check_names(files: list[Path], script: RuntimeSpec | None = None) -> None:
    """Raise `ValueError` if two of the files have one name, or one has a script's own."""
    names = [path.name for path in files]
    if len(set(names)) != len(names):
        raise ValueError("two of the files have the same name: the program sees names only")
    if script is not None and script.entry in names:
        raise ValueError(f"the script is sent as {script.entry}: give that file another name")


def read_files(files: list[Path]) -> tuple[tuple[str, Data], ...]:
    """Read the files that the program gets, by their names; raise `ValueError` or `OSError`."""
    from fogbank.sandbox.task import INPUT_SIZE

    return tuple((path.name, read_data(path, INPUT_SIZE)) for path in files)


def read_program(
    program: Path,
    runtime: str | None,
    arguments: tuple[str, ...],
    files: list[Path],
    wanted: Wanted,
    *,
    single: bool = False,
) -> Program:
    """Read what all tasks of a job have in common, of which there may be one only.

    Raises `ValueError`, `ModuleRefused` or `OSError` with what is wrong.
    """
    from fogbank.client.patterns import Pattern
    from fogbank.nodes.job_spec import Program
    from fogbank.sandbox.task import INPUT_SIZE

    script = runtime_of(program, runtime)
    sent = read_module(program) if script is None else script
    check_names(files, script)
    limits = limits_of(*wanted)
    contents = read_files(files)
    if script is not None:
        contents = ((script.entry, read_bounded(program, INPUT_SIZE)), *contents)
    digest = hashlib.sha256(sent).digest() if isinstance(sent, bytes) else sent.digest
    return Program(sent, Pattern(program.name, digest, arguments, contents, limits, single))


def read_task(
    program: Path,
    script: RuntimeSpec | None,
    arguments: list[str],
    files: list[Path],
    wanted: Wanted,
) -> Task:
    """Put the task together; raises `ValueError` or `OSError` with what is wrong."""
    from fogbank.sandbox.task import INPUT_SIZE, Task

    check_names(files, script)
    limits = limits_of(*wanted)
    contents = read_files(files)
    if script is not None:
        contents = ((script.entry, read_bounded(program, INPUT_SIZE)), *contents)
    stdin = read_stdin()
    task = Task(args=(program.name, *arguments), files=contents, stdin=stdin, limits=limits)
    task.check()
    return task


def read_stdin() -> Data:
    """Return standard input; nothing from a terminal, which has no end of its own.

    Much of it is not read into memory: a file is used where it is, anything else is written to one.
    Raises `ValueError` if it is more than a task is given.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    patience = threading.Timer(_STDIN_SECONDS, note, [_STDIN_NOTE])
    patience.daemon = True
    patience.start()
    try:
        stdin = file_of(sys.stdin.buffer)
        return _spooled(sys.stdin.buffer) if stdin is None else stdin
    finally:
        patience.cancel()


def _spooled(stream: BinaryIO) -> Data:
    from fogbank.sandbox.data import PORTION
    from fogbank.sandbox.scratch_shell import Scratch
    from fogbank.sandbox.task import INPUT_SIZE

    sink = Scratch(user_home().scratch_folder).sink()
    size = 0
    while part := stream.read(PORTION):
        size += len(part)
        if size > INPUT_SIZE:
            raise ValueError(
                f"standard input has more than {INPUT_SIZE} bytes, the most that is taken"
            )
        sink.write(part)
    return sink.done()
