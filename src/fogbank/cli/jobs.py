"""`fog run`: run a program on a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import emit, errors_in_words
from fogbank.cli.programs import read_program, read_stdin

if TYPE_CHECKING:
    from fogbank.client.exit_codes import Ending


def run(
    program: options.Program,
    arguments: options.Arguments = None,
    files: options.Files = None,
    fuel: options.Fuel = None,
    memory: options.Memory = None,
    timeout: options.Timeout = None,
    output_limit: options.OutputLimit = None,
    runtime: options.Runtime = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: options.Verbose = False,
    detach: options.Detach = False,
    replicas: options.Replicas = None,
    quorum: options.Quorum = None,
    verify: options.Verify = None,
    attestations: options.Attestations = None,
) -> None:
    """Run PROGRAM on a worker, anonymously: stdin in, stdout out, its exit code passed on."""
    with errors_in_words(_show_error if as_json else None):
        from fogbank.cli.attachment import Manner
        from fogbank.cli.submission import Submission
        from fogbank.cli.verification import Checks
        from fogbank.client.patterns import Item
        from fogbank.client.scheduling.limits import ArrayLimits
        from fogbank.nodes.intake import Inputs
        from fogbank.nodes.job_spec import Results

        # Standard input may be slow: what can be found wrong before it is read, is.
        wanted = (fuel, memory, timeout, output_limit)
        words = tuple(arguments or [])
        common = read_program(program, runtime, words, files or [], wanted, single=True)
        checks = Checks(replicas, quorum, verify, attestations).wanted(ArrayLimits().retries)
        item = Item(1, stdin=read_stdin())
        common.pattern.make(item)
        submission = Submission(
            "run",
            common,
            Inputs(iter([item]), 1),
            results=Results(as_json=as_json),
            shows_json=as_json,
            wanted=checks,
        )
        manner = Manner(prints=not detach, verbose=verbose, leaves=detach)
        raise typer.Exit(submission.run(manner))


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
