"""`fog check`: try a program on this machine, in the jail that a worker would run it in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import emit, errors_in_words, note
from fogbank.cli.programs import read_module, read_task, runtime_of

if TYPE_CHECKING:
    from fogbank.cli.trial import Trial
    from fogbank.client.exit_codes import Ending
    from fogbank.sandbox.imports import Import

_MOST_MODULES = 10
_MOST_NAMES = 50
"""How many imports are named; a program has some 20."""


def check(
    program: options.Program,
    arguments: options.Arguments = None,
    files: options.Files = None,
    fuel: options.Fuel = None,
    memory: options.Memory = None,
    timeout: options.Timeout = None,
    output_limit: options.OutputLimit = None,
    runtime: options.Runtime = None,
    get_runtime: Annotated[
        bool, typer.Option("--get-runtime", help="Get a script's runtime first, by npm or pip.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether PROGRAM will run on a worker, and what it needs; it is run here, in the jail.

    Arguments, files, standard input, limits and the exit code are those of `fog run`.
    """
    with errors_in_words(_show_error if as_json else None):
        import trio

        from fogbank.cli.trial import prepare, try_out
        from fogbank.client.exit_codes import ending_of

        script = runtime_of(program, runtime)
        module = read_module(program) if script is None else prepare(script, get_runtime)
        wanted = (fuel, memory, timeout, output_limit)
        task = read_task(program, script, arguments or [], files or [], wanted)
        trial = trio.run(try_out, program.name, script, module, task)
        result = trial.result
        ending = ending_of(result.outcome, result.exit_code, result.reason)
        emit(json.dumps(trial.report(ending.code)) if as_json else _words(trial))
        if ending.sentence:
            note(ending.sentence)
        raise typer.Exit(ending.code)


def _words(trial: Trial) -> str:
    """Put what was found into lines for people."""
    result = trial.result
    kind = f"a script for {trial.runtime.name}" if trial.runtime else "a WebAssembly module"
    rows = [("program", f"{trial.name}, {kind}, {trial.size:,} bytes")]
    if trial.runtime is None:
        rows += [("imports", text) for text in _imports(trial.imports)]
    rows.append(("prepared", f"in {trial.prepared_seconds:.2f} s"))
    code = "" if result.exit_code is None else f", exit code {result.exit_code}"
    rows.append(("outcome", f"{result.outcome.name.lower()}{code}"))
    if trial.was_run:
        rows += [
            ("fuel", f"{result.fuel:,}"),
            ("memory", f"{result.memory:,} bytes"),
            ("time", f"{result.seconds:.3f} s"),
            ("output", f"{len(result.stdout):,} bytes, and {len(result.stderr):,} of errors"),
        ]
    rows.append(("engine", trial.engine))
    lines = [f"{name:<10}{_printable(text)}" for name, text in rows]
    if not result.succeeded:
        lines += [f"          | {_printable(line)}" for line in trial.last_errors()]
    lines.append(_verdict(trial))
    return "\n".join(lines)


def _imports(imports: tuple[Import, ...]) -> list[str]:
    """Say what is imported from where, what is not offered first; long lists are cut."""
    names: dict[str, list[str]] = {}
    for item in sorted(imports, key=lambda item: (item.is_offered, item.module, item.name)):
        mark = "" if item.is_offered else " (not offered)"
        names.setdefault(item.module, []).append(item.name + mark)
    lines = []
    for module, found in list(names.items())[:_MOST_MODULES]:
        more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
        lines.append(f"{module}: {', '.join(found[:_MOST_NAMES])}{more}")
    return lines or ["none"]


def _verdict(trial: Trial) -> str:
    if not trial.was_run:
        return "A worker would refuse it."
    if not trial.runs:
        return "It starts, and does not end well."
    code = trial.result.exit_code
    return "It runs." if code == 0 else f"It runs, and ends with exit code {code}."


def _printable(text: str) -> str:
    """Names in a module, and what a program writes, must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _show_error(error: BaseException, ending: Ending) -> None:
    from fogbank.sandbox.outcome import ModuleRefused

    outcome = error.outcome.name.lower() if isinstance(error, ModuleRefused) else "error"
    report = {
        "schema": "fogbank.check/1",
        "runs": False,
        "outcome": outcome,
        "reason": ending.sentence,
        "exit_code": ending.code,
    }
    emit(json.dumps(report))
