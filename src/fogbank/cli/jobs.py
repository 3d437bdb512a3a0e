"""`fog run`: run a program on a worker."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.home import user_home
from fogbank.cli.output import as_text, emit, emit_errors, errors_in_words, note
from fogbank.cli.programs import read_module, read_task, runtime_of

if TYPE_CHECKING:
    from fogbank.client.exit_codes import Ending
    from fogbank.nodes.home import Home
    from fogbank.relay.job.client_session import TaskResult
    from fogbank.sandbox.runtimes.catalogue import RuntimeSpec
    from fogbank.sandbox.task import Task


def run(
    program: options.Program,
    arguments: options.Arguments = None,
    files: options.Files = None,
    fuel: options.Fuel = None,
    memory: options.Memory = None,
    timeout: options.Timeout = None,
    runtime: options.Runtime = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what happens.")] = False,
) -> None:
    """Run PROGRAM on a worker, anonymously: stdin in, stdout out, its exit code passed on."""
    with errors_in_words(_show_error if as_json else None):
        import trio

        from fogbank.client.exit_codes import ending_of

        # Standard input may be slow: what can be found wrong before it is read, is.
        script = runtime_of(program, runtime)
        sent = read_module(program) if script is None else script
        task = read_task(program, script, arguments or [], files or [], (fuel, memory, timeout))
        result, path = trio.run(_run, user_home(), sent, task, verbose)
        ending = ending_of(result.outcome, result.exit_code, result.reason)
        if as_json:
            emit(json.dumps(_report(result, path, ending.code)))
        else:
            emit(result.stdout)
            emit_errors(result.stderr)
        if ending.sentence:
            note(ending.sentence)
        raise typer.Exit(ending.code)


async def _run(
    home: Home, program: bytes | RuntimeSpec, task: Task, verbose: bool
) -> tuple[TaskResult, tuple[str, ...]]:
    import trio

    from fogbank.cli.progress import ProgressLines
    from fogbank.nodes.jobs import run_job
    from fogbank.nodes.user import open_user
    from fogbank.relay.job.messages import TaskState

    def say(text: str) -> None:
        if verbose:
            note(text)

    lines = ProgressLines()

    def on_state(state: TaskState) -> None:
        line = lines.line(state, trio.current_time())
        if line is not None:
            say(line)

    async with open_user(home, note) as user:
        return await run_job(user, program, task, say, on_state)


def _report(result: TaskResult, path: tuple[str, ...], code: int) -> dict[str, object]:
    from fogbank.sandbox.data import whole

    stdout, stderr = whole(result.stdout), whole(result.stderr)
    return {
        "schema": "fogbank.run/1",
        "outcome": result.outcome.name.lower(),
        "reason": result.reason,
        "exit_code": code,
        "fuel": result.fuel,
        "path": list(path),
        "stdout": as_text(stdout),
        "stderr": as_text(stderr),
        "stdout_base64": base64.b64encode(stdout).decode(),
        "stderr_base64": base64.b64encode(stderr).decode(),
    }


def _show_error(error: BaseException, ending: Ending) -> None:
    from fogbank.sandbox.outcome import ModuleRefused

    outcome = error.outcome.name.lower() if isinstance(error, ModuleRefused) else "error"
    report = {
        "schema": "fogbank.run/1",
        "outcome": outcome,
        "reason": ending.sentence,
        "exit_code": ending.code,
    }
    emit(json.dumps(report))
