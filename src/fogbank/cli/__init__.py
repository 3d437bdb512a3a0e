"""The `fog` command. Each subcommand's module is imported only when it is called for."""

from __future__ import annotations

from typing import Annotated

import typer

import fogbank
from fogbank.cli import demo, jobs, network, nodes, policy, testnet

app = typer.Typer(
    name="fog",
    help="Run WebAssembly jobs on other people's computers, and let others run theirs, untraced.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


nodes.authority.add_typer(policy.app, name="policy")
app.add_typer(nodes.authority, name="authority")
app.add_typer(nodes.relay, name="relay")
app.add_typer(nodes.worker, name="worker")
app.add_typer(network.app, name="network")
app.add_typer(testnet.app, name="testnet")
app.command()(jobs.run)
app.command()(network.join)
app.command()(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fog {fogbank.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options that stand before a subcommand; `--version` acts in its own callback."""


def main() -> None:
    """Run the `fog` command with the process's arguments."""
    app()
