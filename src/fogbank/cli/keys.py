"""`fog authority key`, `fog relay key`, `fog worker key`: a node's keys (spec/01 §2.1)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fogbank.cli.output import emit, errors_in_words, note

if TYPE_CHECKING:
    from fogbank.relay.keystore_shell import KeyStore

app = typer.Typer(
    help="Look at the node's keys, renew them, and keep its identity key elsewhere.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
_LIMIT = 4096


def _store(folder: Path) -> KeyStore:
    from fogbank.relay.keystore_shell import KeyStore

    return KeyStore.open(folder.absolute() / "keys")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LIMIT)


@app.command()
def show(folder: Folder) -> None:
    """Show the identity, where its secret is, and until when the node can work without it."""
    with errors_in_words():
        from fogbank.relay.keys import show_id

        store = _store(folder)
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(store.signing_expires))
        emit(f"identity: {show_id(store.identity)}")
        emit(f"identity key: {'in the folder' if store.identity_is_here else 'elsewhere'}")
        emit(f"signing key: {show_id(store.signing_key.public)}, until {until}")


@app.command()
def take_offline(
    folder: Folder,
    to: Annotated[Path, typer.Argument(help="Where to keep the identity key from now on.")],
) -> None:
    """Move the identity key to another place; the node works on without it for some weeks."""
    with errors_in_words():
        store = _store(folder)
        store.take_offline(to.absolute())
        note(
            f"{to} is now the only copy of this node's identity: make another, and keep both safe. "
            "Before the date that `key show` names, renew the signing key: `key request` here, "
            "`key certify` where the identity key is, `key renew` here"
        )


@app.command()
def request(
    folder: Folder,
    to: Annotated[Path, typer.Argument(help="Where to write the request.")],
) -> None:
    """Ask for a new signing key to be certified, where the identity key is kept."""
    with errors_in_words():
        from fogbank.sandbox.files_shell import write_atomic

        write_atomic(to, _store(folder).request_signing(), 0o644)
        note(f"take {to} to where the identity key is, and run `key certify` there")


@app.command()
def certify(
    request: Annotated[Path, typer.Argument(help="The request that `key request` wrote.")],
    to: Annotated[Path, typer.Argument(help="Where to write the certificate.")],
    identity: Annotated[Path, typer.Option(help="The identity key's file.")],
) -> None:
    """Certify a node's new signing key for 30 days, with its identity key."""
    with errors_in_words():
        from fogbank.relay.keys import show_id
        from fogbank.relay.keystore_shell import load_identity_key
        from fogbank.relay.node_keys import answer_request
        from fogbank.sandbox.files_shell import write_atomic

        key = load_identity_key(identity)
        signing, certificate = answer_request(_read(request), key, time.time())
        write_atomic(to, certificate.encode(), 0o644)
        note(f"take {to} back to the node and run `key renew`; certified is the signing key")
        emit(show_id(signing))


@app.command()
def renew(
    folder: Folder,
    certificate: Annotated[
        Path | None,
        typer.Argument(help="What `key certify` wrote; not needed if the identity key is here."),
    ] = None,
) -> None:
    """Give the node a new signing key; one that runs takes it up within an hour."""
    with errors_in_words():
        from fogbank.relay.node_keys import answer_request

        store, now = _store(folder), time.time()
        if certificate is not None:
            data = _read(certificate)
        else:
            data = answer_request(store.request_signing(), store.identity_key(), now)[1].encode()
        store.install_signing(data, now)
        note("installed: the node takes it up within an hour, or when it is started")
