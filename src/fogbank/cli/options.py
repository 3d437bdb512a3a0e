"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Program = Annotated[
    Path,
    typer.Argument(
        metavar="PROGRAM",
        help="A WASI preview 1 program, .wasm or .wat, or a script, .py or .js.",
    ),
]
Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[-- ARGS]", help="The program's arguments.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", help="A file that the program may read; may be repeated."),
]
Fuel = Annotated[
    str | None,
    typer.Option(help="Fuel of a task, at most; about instructions: 500M, 2G, or a number."),
]
Memory = Annotated[
    str | None, typer.Option(help="Memory of a task, at most: 64M, 1G, or a number of MiB.")
]
OutputLimit = Annotated[
    str | None,
    typer.Option(help="Output of a task, at most: 64M, or a number of MiB; 16M if not given."),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds of real time of a task, at most.")]
Runtime = Annotated[
    str | None,
    typer.Option(help="Run PROGRAM as a script of this runtime, whatever its name ends in."),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach", "-d", help="Hand everything over to workers, print the job's id, and leave."
    ),
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON objects, one a line.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's id, or the beginning of it; see `fog ps`.")
]
JobIds = Annotated[
    list[str], typer.Argument(metavar="JOB…", help="Jobs' ids, or the beginnings of them.")
]
TaskNumber = Annotated[
    int | None, typer.Argument(metavar="[TASK]", help="A task's number.", show_default=False)
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what happens.")]
Replicas = Annotated[
    int | None,
    typer.Option(
        "--replicas", metavar="N", help="Have each task run by N workers, and compare answers."
    ),
]
Quorum = Annotated[
    int | None,
    typer.Option(
        "--quorum", metavar="K", help="So many answers must be equal; else more than half of N."
    ),
]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify",
        metavar="PROGRAM",
        help="Believe answers that PROGRAM judges right: it gets the answer as standard input, the "
        "task's input as the file `input`, and exits with 0.",
    ),
]
Attestations = Annotated[
    Path | None,
    typer.Option("--attestations", metavar="DIR", help="Keep the workers' attestations in DIR."),
]
