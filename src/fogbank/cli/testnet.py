"""`fog testnet`: a whole network of real processes on this machine."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli.output import emit, errors_in_words, note

app = typer.Typer(
    help="Start, look at, and end a whole network on this machine.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Option("--dir", help="The folder that holds the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SECONDS = 60.0


@app.command()
def up(
    folder: Folder,
    authorities: Annotated[int, typer.Option(help="How many authorities.")] = 4,
    relays: Annotated[int, typer.Option(help="How many relays.")] = 5,
    workers: Annotated[int, typer.Option(help="How many workers.")] = 3,
    tor_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Loopback port for Tor's formats, for tools that use stem."
        ),
    ] = None,
    runtimes: Annotated[
        list[str] | None,
        typer.Option("--runtime", help="A runtime that all workers hold; may be repeated."),
    ] = None,
) -> None:
    """Start a network, and return when every node is listed and every worker reachable."""
    with errors_in_words():
        from functools import partial

        import trio

        from fogbank.testnet.layout import Size
        from fogbank.testnet.up import bring_up, client_home

        size = Size(authorities, relays, workers, tor_port, tuple(runtimes or ()))
        size.check()
        folder = folder.absolute()
        trio.run(partial(bring_up, folder, size, attached=False, seconds=_SECONDS, report=note))
        note("the network is up; to use it:")
        emit(f"export FOGBANK_HOME={shlex.quote(str(client_home(folder)))}")


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Show every node: its role, nickname, process, address, and whether it runs."""
    with errors_in_words():
        from fogbank.testnet import processes

        rows = [node.row() for node in processes.load(folder.absolute())]
        if as_json:
            emit(json.dumps({"schema": "fogbank.testnet/1", "nodes": rows}, indent=2))
            return
        for row in rows:
            emit(
                f"{row['role']:10} {row['nickname']:12} {row['pid']:>8} {row['address']:18} "
                f"{row['state']}"
            )


@app.command()
def grant(
    folder: Folder,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's nickname.")],
    amount: Annotated[int, typer.Argument(metavar="TOKENS", help="How many, of each series.")],
) -> None:
    """Have all authorities grant NODE so many TOKENS, which it can withdraw into its wallet."""
    with errors_in_words():
        from fogbank.testnet.grants import grant as grant_tokens

        grant_tokens(folder.absolute(), node, amount)
        note(
            f"{node} is granted {amount} tokens from the next consensus but one on, and withdraws "
            "them by itself"
        )


@app.command()
def down(folder: Folder) -> None:
    """End the network."""
    with errors_in_words():
        from fogbank.testnet.up import bring_down

        note(f"{bring_down(folder.absolute())} processes ended")
