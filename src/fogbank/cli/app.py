"""The `fog` command and its subcommands, each of which imports what it needs when called."""

from __future__ import annotations

from typing import Annotated

import typer

import fogbank
from fogbank.cli import (
    attestation,
    check,
    demo,
    job_commands,
    job_list,
    jobs,
    keys,
    logs,
    network,
    nodes,
    policy,
    runtimes,
    status,
    testnet,
    wallet,
)
from fogbank.cli import map as map_command
from fogbank.cli.output import FAILED, emit

app = typer.Typer(
    name="fog",
    help="Run WebAssembly jobs on other people's computers, and let others run theirs, untraced.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


nodes.authority.add_typer(policy.app, name="policy")
nodes.authority.command("status")(status.authority_status)
nodes.relay.command("status")(status.relay_status)
nodes.relay.command("why")(status.relay_why)
nodes.worker.command("why")(status.worker_why)
nodes.worker.add_typer(runtimes.app, name="runtime")
nodes.worker.command("status")(status.worker_status)
for role in (nodes.authority, nodes.relay, nodes.worker):
    role.add_typer(keys.app, name="key")
app.add_typer(nodes.authority, name="authority")
app.add_typer(nodes.relay, name="relay")
app.add_typer(nodes.worker, name="worker")
app.add_typer(network.app, name="network")
app.add_typer(testnet.app, name="testnet")
app.add_typer(wallet.app, name="wallet")
app.add_typer(attestation.app, name="attestation")
app.command()(jobs.run)
app.command()(check.check)
app.command("map", cls=map_command.MapCommand)(map_command.map_tasks)
app.command()(job_list.ps)
app.command()(job_list.why)
app.command()(logs.logs)
app.command()(job_commands.attach)
app.command()(job_commands.wait)
app.command()(job_commands.get)
app.command()(job_commands.cancel)
app.command()(job_commands.retry)
app.command()(job_list.rm)
app.command()(network.join)
app.command()(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(f"fog {fogbank.__version__}")
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


def run_app() -> int:
    """Run the `fog` command with the process's arguments; return what to exit with."""
    try:
        app()
    except SystemExit as leaving:
        cause = leaving.__context__
        if cause is not None and not isinstance(cause, typer.Exit | typer.Abort):
            # Typer has shown how the command is used. Its own code, 2, could be a program's.
            return FAILED
        return leaving.code if isinstance(leaving.code, int) else 0
    return 0
