"""`fog demo`: a network on this machine renders a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli.output import emit, errors_in_words, note


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the picture.")
    ] = Path("demo-output"),
) -> None:
    """Start a network, render a picture on it in tiles, compare, and end everything."""
    with errors_in_words():
        import trio

        from fogbank.demo.render import run_demo

        emit(str(trio.run(run_demo, output.absolute(), note)))
