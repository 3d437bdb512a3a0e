"""`fog attestation rerun`: find out here whether a worker told the truth (spec/12 §4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli import options
from fogbank.cli.output import emit, errors_in_words, read_bounded
from fogbank.cli.programs import read_program, read_stdin

WRONG = 1
"""The exit code if the worker was wrong."""


def rerun(
    file: Annotated[Path, typer.Argument(help="A file of an attestation, all parts shown.")],
    program: options.Program,
    arguments: options.Arguments = None,
    files: options.Files = None,
    task: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="The task's number, if it was an array's.")
    ] = None,
    runtime: options.Runtime = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run PROGRAM here, on the input that was attested, and say whether the worker was right.

    Arguments, files and standard input are those of the task. The exit code is 0 if the worker was
    right, 1 if it was wrong, 125 if that cannot be told.
    """
    with errors_in_words():
        import trio

        from fogbank.cli.trial import prepare, try_out
        from fogbank.client.patterns import Item
        from fogbank.client.verification.recheck import Recheck
        from fogbank.relay.job.attestation import PROOF_LIMIT, Proof
        from fogbank.relay.keys import show_id
        from fogbank.sandbox.engine import engine_class
        from fogbank.sandbox.runtimes.catalogue import RuntimeSpec

        proof = Proof.decode(read_bounded(file, PROOF_LIMIT))
        worker = show_id(proof.verify())
        words = tuple(arguments or [])
        single = task is None
        given = read_program(
            program, runtime, words, files or [], (None, None, None, None), single=single
        )
        item = Item(1 if task is None else task, stdin=read_stdin())
        pattern, sent = given.pattern, given.sent
        again = Recheck(proof, pattern.program, engine_class(), pattern.make(item))
        ready = again.task()
        script = sent if isinstance(sent, RuntimeSpec) else None
        module = prepare(sent, get=False) if isinstance(sent, RuntimeSpec) else sent
        trial = trio.run(try_out, program.name, script, module, ready)
        faults = [leaf.name.lower() for leaf in again.faults(ready, trial.result)]
        if as_json:
            fields = {"worker": worker, "right": not faults, "wrong": faults}
            emit(json.dumps({"schema": "fogbank.rerun/1", **fields}))
        else:
            what = f"was wrong about: {', '.join(faults)}" if faults else "was right"
            emit(f"{worker} {what}")
        raise typer.Exit(WRONG if faults else 0)
