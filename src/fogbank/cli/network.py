"""`fog network` and `fog join`: networks, their files, and who is in them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli.home import network_text, user_home
from fogbank.cli.output import emit, errors_in_words, note

app = typer.Typer(help="Look at the network; make a network of your own.", no_args_is_help=True)

NetworkPath = Annotated[Path, typer.Argument(help="The network's file, network.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_LIFE_PHASE = 300
_LIFE_INTERVAL = 3600
_START_SLACK = 600
_AMEND_SLACK = 7 * 86_400


def join(
    network: NetworkPath,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="A node's folder, which takes the file instead of FOGBANK_HOME."
        ),
    ] = None,
) -> None:
    """Use a network from now on: check its file and keep it in FOGBANK_HOME.

    An authority is handed the network's next file so, and takes it up while it runs.
    """
    with errors_in_words():
        from fogbank.nodes.home import Home
        from fogbank.nodes.network_file import fingerprint
        from fogbank.nodes.user import join_network

        home = user_home() if folder is None else Home(folder.absolute())
        document = join_network(home, network_text(network))
        note(f"joined {document.name!r} in {home.folder}; compare its fingerprint with others:")
        emit(fingerprint(document))


@app.command()
def create(
    network: NetworkPath,
    authorities: Annotated[
        list[Path], typer.Argument(help="Each authority's card, or its folder.")
    ],
    name: Annotated[str, typer.Option(help="The network's name.")] = "fogbank",
    interval: Annotated[int, typer.Option(help="Seconds between consensuses.")] = _LIFE_INTERVAL,
    phase: Annotated[float, typer.Option(help="Seconds of a round's phase.")] = _LIFE_PHASE,
    start_in: Annotated[
        int, typer.Option(help="Seconds until the first interval: time to sign and start.")
    ] = _START_SLACK,
    test: Annotated[
        bool, typer.Option("--test", help="A test network: private addresses are allowed.")
    ] = False,
) -> None:
    """Write a new network's file. Authorities given as folders sign it at once."""
    with errors_in_words():
        from fogbank.directory.network import Timing
        from fogbank.nodes.network_file import create_network, fingerprint, save_network

        if network.exists():
            raise ValueError(f"{network} exists already: choose another name")
        timing = Timing(int(time.time()) + start_in, round(phase * 1000), interval)
        signed = create_network(authorities, name, timing, os.urandom(32), test=test)
        save_network(network, signed)
        document = signed.document
        missing = document.quorum - len(signed.signatures)
        if missing > 0:
            note(
                f"signatures still missing: {missing}; each other authority's operator runs "
                f"`fog network sign {network} --dir FOLDER`"
            )
        note(f"{network} written; every operator should compare its fingerprint:")
        emit(fingerprint(document))


@app.command()
def amend(
    network: NetworkPath,
    to: Annotated[Path, typer.Argument(help="The next version's file, which is written.")],
    add: Annotated[
        list[Path] | None, typer.Option(help="A new authority's card; may be repeated.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A leaving authority's nickname; may be repeated.")
    ] = None,
    start_in: Annotated[
        int, typer.Option(help="Seconds until it is in force: time to sign and hand it out.")
    ] = _AMEND_SLACK,
) -> None:
    """Write the next version of a network's file, with other authorities."""
    with errors_in_words():
        from fogbank.nodes.network_file import amend_network, fingerprint, save_network

        if to.exists():
            raise ValueError(f"{to} exists already: choose another name")
        signed = amend_network(network, add or [], remove or [], int(time.time()) + start_in)
        save_network(to, signed)
        note(
            f"{to} written. A quorum of the old authorities and one of the new sign it with "
            f"`fog network sign {to} --previous {network} --dir FOLDER`; then each authority is "
            f"handed it with `fog join {to} --dir FOLDER`, and new ones are started with "
            f"`--network {to}`. All others fetch it from them in the time that is left"
        )
        if remove:
            note(
                f"{', '.join(remove)}: leave the node running, for the mint's series of its time "
                "need it. It votes no more, serves those, and ends by itself when the last one is "
                "over, after 74 days at most (`fog authority status` says when)"
            )
        emit(fingerprint(signed.document))


@app.command()
def sign(
    network: NetworkPath,
    folder: Annotated[Path, typer.Option("--dir", help="Your authority's folder.")],
    previous: Annotated[
        Path | None, typer.Option(help="The version before, if this is an amendment.")
    ] = None,
) -> None:
    """Add your authority's signature to a network's file."""
    with errors_in_words():
        from fogbank.directory.network import open_network
        from fogbank.nodes.network_file import (
            fingerprint,
            save_network,
            sign_network,
            signatures_missing,
        )

        before = open_network(network_text(previous)) if previous is not None else None
        signed = sign_network(network, folder, before)
        save_network(network, signed)
        missing = signatures_missing(signed, before)
        note(f"signed; signatures still missing: {missing}. What you signed:")
        emit(fingerprint(signed.document))


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show who is in the network, as its last consensus says."""
    with errors_in_words():
        import trio

        from fogbank.nodes.user import network_report

        report = trio.run(network_report, user_home())
        if as_json:
            emit(json.dumps(report, indent=2))
            return
        emit(
            f"{report['name']}: consensus of {report['valid_after']}, fresh until "
            f"{report['fresh_until']}, valid until {report['valid_until']}"
        )
        names = [f"{each['name']} ({each['digest'][:12]})" for each in report["runtimes"]]
        emit(f"accepted runtimes: {', '.join(names) or 'none'}")
        emit(f"credit: {report['credit']}")
        for node in report["nodes"]:
            where = ", ".join(node["addresses"]) or "-"
            emit(
                f"{node['role']:10} {node['nickname']:20} {node['identity'][:12]} {where:24} "
                f"{' '.join([*node['flags'], *node['runtimes']])}"
            )
