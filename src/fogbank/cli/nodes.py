"""`fog authority`, `fog relay`, `fog worker`: make a node, and run it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli.home import network_text
from fogbank.cli.output import emit, errors_in_words, note
from fogbank.cli.sizes import parse_memory

if TYPE_CHECKING:
    from fogbank.nodes.home import Settings


authority = typer.Typer(help="Run a directory authority.", no_args_is_help=True)
relay = typer.Typer(help="Run a relay: lend bandwidth.", no_args_is_help=True)
worker = typer.Typer(help="Run a worker: lend computing time.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
Nickname = Annotated[str, typer.Option(help="A name for people: 1 to 19 letters and digits.")]
Addresses = Annotated[
    list[str],
    typer.Option("--address", help="IP address and port, such as 192.0.2.1:9001; may be repeated."),
]
NetworkFile = Annotated[
    Path | None, typer.Option("--network", help="The network's file, network.toml.")
]
Family = Annotated[
    Path | None,
    typer.Option(help="Your family's key file: the same for all your nodes; made if missing."),
]
Source = Annotated[
    str | None, typer.Option(help="The local address to dial from; by default the system's choice.")
]
UntilEof = Annotated[
    bool, typer.Option("--until-eof", help="End when standard input ends.", hidden=True)
]


def _init(folder: Path, settings: Settings, network: Path | None, family: Path | None) -> None:
    from fogbank.nodes.home import Home
    from fogbank.relay.keys import show_id

    text = network_text(network) if network is not None else None
    store = Home(folder.absolute()).create(settings, text, family, time.time())
    note(f"made in {folder}; its identity is")
    emit(show_id(store.identity))


@authority.command("init")
def authority_init(
    folder: Folder,
    nickname: Nickname,
    addresses: Addresses,
    tor_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Loopback port at which to show the consensus in Tor's formats, to local tools.",
        ),
    ] = None,
) -> None:
    """Make an authority's keys, and the card that `fog network create` asks for."""
    with errors_in_words():
        from fogbank.directory.addresses import parse_address
        from fogbank.directory.descriptor import Role
        from fogbank.nodes.home import Settings
        from fogbank.nodes.network_file import card_of

        places = tuple(map(parse_address, addresses))
        settings = Settings(Role.AUTHORITY, nickname, places, tor_port=tor_port)
        _init(folder, settings, None, None)
        card = folder / "card.toml"
        card.write_text(card_of(folder.absolute()), encoding="utf-8")
        note(f"send {card} to whoever writes the network's file")


@authority.command("run")
def authority_run(folder: Folder, network: NetworkFile = None, until_eof: UntilEof = False) -> None:
    """Run the authority until it is told to end (SIGTERM or Ctrl-C)."""
    _run("authority", folder, network, until_eof)


@authority.command("restored")
def authority_restored(folder: Folder) -> None:
    """Say that the folder comes from a backup: the mint merges the others' ledgers first."""
    with errors_in_words():
        from fogbank.directory.mint.ledgers_shell import mark_restored
        from fogbank.nodes.home import Home

        mark_restored(Home(folder.absolute()).mint)
        note(
            "noted: from its next start or consensus on this authority votes on no tokens until it "
            "has merged the others' ledgers"
        )


@relay.command("init")
def relay_init(
    folder: Folder,
    nickname: Nickname,
    addresses: Addresses,
    network: NetworkFile = None,
    family: Family = None,
    source: Source = None,
) -> None:
    """Make a relay."""
    with errors_in_words():
        from fogbank.directory.addresses import parse_address
        from fogbank.directory.descriptor import Role
        from fogbank.nodes.home import Settings

        places = tuple(map(parse_address, addresses))
        settings = Settings(Role.RELAY, nickname, places, source=source)
        _init(folder, settings, network, family)


@relay.command("run")
def relay_run(folder: Folder, network: NetworkFile = None, until_eof: UntilEof = False) -> None:
    """Run the relay until it is told to end (SIGTERM or Ctrl-C)."""
    _run("relay", folder, network, until_eof)


@worker.command("init")
def worker_init(
    folder: Folder,
    nickname: Nickname,
    network: NetworkFile = None,
    family: Family = None,
    cores: Annotated[int, typer.Option(help="How many tasks to run at once.")] = 1,
    memory: Annotated[
        str, typer.Option(help="Memory that one task may have: 512M, 1G, or a number of MiB.")
    ] = "1G",
    source: Source = None,
) -> None:
    """Make a worker."""
    with errors_in_words():
        from fogbank.directory.descriptor import Role
        from fogbank.nodes.home import Settings

        settings = Settings(
            Role.WORKER, nickname, cores=cores, memory=parse_memory(memory), source=source
        )
        _init(folder, settings, network, family)


@worker.command("run")
def worker_run(
    folder: Folder,
    network: NetworkFile = None,
    fetch_runtimes: Annotated[
        bool,
        typer.Option(
            "--fetch-runtimes",
            help="Get the runtimes that the network accepts from other workers, anonymously.",
        ),
    ] = False,
    drain: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seconds that running tasks have when the worker is told to end; by default as in "
            "node.toml.",
        ),
    ] = None,
    until_eof: UntilEof = False,
) -> None:
    """Run the worker until it is told to end (SIGTERM or Ctrl-C; a second one ends it at once)."""
    _run("worker", folder, network, until_eof, fetch_runtimes=fetch_runtimes, drain=drain)


def _run(
    role: str, folder: Path, network: Path | None, until_eof: bool, **options: int | None
) -> None:
    with errors_in_words():
        from functools import partial

        import trio

        from fogbank.nodes.home import Home
        from fogbank.nodes.runtime import allow_open_files, start_logging

        home = Home(folder.absolute())
        if network is not None:
            home.set_network(network_text(network))
        settings = home.settings()
        if settings.role.name.lower() != role:
            raise ValueError(
                f"{folder} holds a node of another role: run `fog {settings.role.name.lower()} run`"
            )
        start_logging()
        allow_open_files()
        trio.run(partial(_main_of(role), home, eof=until_eof, **options))


def _main_of(role: str) -> Callable[..., Awaitable[None]]:
    # Imported one at a time: a relay never loads the sandbox.
    if role == "authority":
        from fogbank.nodes.authority import run_authority

        return run_authority
    if role == "relay":
        from fogbank.nodes.relay import run_relay

        return run_relay
    from fogbank.nodes.worker import run_worker

    return run_worker
