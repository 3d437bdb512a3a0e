"""`fog run`: run a program on a worker."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli.home import user_home
from fogbank.cli.output import errors_in_words, note
from fogbank.cli.sizes import parse_fuel, parse_memory

if TYPE_CHECKING:
    from fogbank.nodes.home import Home
    from fogbank.relay.job.client_session import TaskResult
    from fogbank.sandbox.task import Task


def run(
    program: Annotated[Path, typer.Argument(help="A WASI preview 1 program, .wasm or .wat.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="The program's arguments.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", help="A file that the program may read; may be repeated."),
    ] = None,
    fuel: Annotated[
        str | None, typer.Option(help="Fuel, at most; about instructions: 500M, 2G, or a number.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory, at most: 64M, 1G, or a number of MiB.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds of real time, at most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what happens.")] = False,
) -> None:
    """Run PROGRAM on a worker, anonymously: stdin in, stdout out, its exit code passed on."""
    with errors_in_words():
        import trio

        from fogbank.client.errors import ClientError
        from fogbank.client.exit_codes import ending_of, ending_of_error
        from fogbank.relay.errors import RelayError
        from fogbank.sandbox.outcome import ModuleRefused
        from fogbank.sandbox.wat import module_from_file

        task = _task(program, arguments or [], files or [], (fuel, memory, timeout))
        try:
            module = module_from_file(program.read_bytes())
            result, path = trio.run(_run, user_home(), module, task, verbose)
        except (RelayError, ClientError, ModuleRefused) as error:
            ending = ending_of_error(error)
            if as_json:
                typer.echo(json.dumps(_error_report(ending.code, ending.sentence)))
            note(ending.sentence)
            raise typer.Exit(ending.code) from None
        ending = ending_of(result.outcome, result.exit_code, result.reason)
        if as_json:
            typer.echo(json.dumps(_report(result, path, ending.code)))
        else:
            sys.stdout.buffer.write(result.stdout)
            sys.stdout.buffer.flush()
            sys.stderr.buffer.write(result.stderr)
            sys.stderr.buffer.flush()
        if ending.sentence:
            note(ending.sentence)
        raise typer.Exit(ending.code)


def _task(
    program: Path,
    arguments: list[str],
    files: list[Path],
    wanted: tuple[str | None, str | None, float | None],
) -> Task:
    """Put the task together; raises `ValueError` or `OSError` with what is wrong."""
    from fogbank.sandbox.limits import Limits
    from fogbank.sandbox.task import Task

    fuel, memory, timeout = wanted
    default = Limits()
    limits = Limits(
        fuel=default.fuel if fuel is None else parse_fuel(fuel),
        memory=default.memory if memory is None else parse_memory(memory),
        wall_seconds=default.wall_seconds if timeout is None else timeout,
        output=default.output,
    )
    names = [path.name for path in files]
    if len(set(names)) != len(names):
        raise ValueError("two of the files have the same name: the program sees names only")
    # A terminal has no end of its own; a program is given what is piped to it.
    stdin = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    task = Task(
        args=(program.name, *arguments),
        files=tuple((path.name, path.read_bytes()) for path in files),
        stdin=stdin,
        limits=limits,
    )
    task.check()
    return task


async def _run(
    home: Home, module: bytes, task: Task, verbose: bool
) -> tuple[TaskResult, tuple[str, ...]]:
    from fogbank.client.job_shell import run_task
    from fogbank.nodes.user import open_user
    from fogbank.relay.job.messages import TaskState

    def say(text: str) -> None:
        if verbose:
            note(text)

    def on_state(state: TaskState) -> None:
        say(f"{state.state.name.lower()} {state.reason}".rstrip())

    async with open_user(home, say) as user, user.worker_stream() as (stream, path):
        say(f"circuit: {' → '.join(path)}")
        return await run_task(stream, module, task, on_state), path


def _report(result: TaskResult, path: tuple[str, ...], code: int) -> dict[str, object]:
    return {
        "schema": "fogbank.run/1",
        "outcome": result.outcome.name.lower(),
        "reason": result.reason,
        "exit_code": code,
        "fuel": result.fuel,
        "path": list(path),
        "stdout": _text(bytes(result.stdout)),
        "stderr": _text(bytes(result.stderr)),
        "stdout_base64": base64.b64encode(result.stdout).decode(),
        "stderr_base64": base64.b64encode(result.stderr).decode(),
    }


def _error_report(code: int, sentence: str) -> dict[str, object]:
    return {"schema": "fogbank.run/1", "outcome": "error", "reason": sentence, "exit_code": code}


def _text(data: bytes) -> str | None:
    """Return output as text, or None if it is not UTF-8; its bytes stand in base64 in any case."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
