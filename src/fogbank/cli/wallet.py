"""`fog wallet`: credit, which is tokens of this network; to send, receive, keep and restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fogbank.cli.output import emit, errors_in_words, note

app = typer.Typer(
    help="Credit: see, send and receive tokens, keep them safe, and restore them from words.",
    no_args_is_help=True,
)

Node = Annotated[
    Path | None,
    typer.Option("--dir", help="Use the wallet of the node in this folder, not your own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to FILE.")
]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        metavar="N",
        help="Read the wallet's passphrase from file descriptor N; else FOG_WALLET_PASSPHRASE is "
        "used, or you are asked.",
    ),
]


@app.command()
def balance(node: Node = None, as_json: AsJson = False, passphrase: PassphraseFd = None) -> None:
    """Show how many tokens there are, ready and on their way; asks nobody."""
    with errors_in_words():
        from fogbank.cli import wallet_texts
        from fogbank.cli.wallet_session import Desk

        with Desk(node, passphrase).reading() as (wallet, now):
            found, warnings = wallet.balance(now), wallet.warnings(now)
        if as_json:
            emit(json.dumps(wallet_texts.balance_report(found)))
            return
        for line in wallet_texts.balance_lines(found):
            emit(line)
        for warning in warnings:
            note(warning)


@app.command()
def history(
    node: Node = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="So many entries, the newest ones.")
    ] = None,
    as_json: AsJson = False,
    passphrase: PassphraseFd = None,
) -> None:
    """Show what came and went, the newest first; asks nobody."""
    with errors_in_words():
        from fogbank.cli import wallet_texts
        from fogbank.cli.wallet_session import Desk

        with Desk(node, passphrase).reading() as (wallet, _):
            entries, payments = wallet.history(count), wallet.payments()
        if as_json:
            emit(json.dumps(wallet_texts.history_report(entries, payments)))
            return
        for line in wallet_texts.history_lines(entries, payments):
            emit(line)


@app.command()
def withdraw(node: Node = None, as_json: AsJson = False, passphrase: PassphraseFd = None) -> None:
    """Turn what the node in --dir is allotted into tokens of its wallet, now."""
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk
        from fogbank.cli.wallet_work import withdraw_now

        if node is None:
            raise ValueError("only nodes are allotted tokens: name the node's folder with --dir")
        withdraw_now(Desk(node, passphrase), as_json=as_json)


@app.command()
def receive(
    what: Annotated[
        str,
        typer.Argument(
            metavar="AMOUNT|CHEQUE",
            help="How many tokens to ask for; or a cheque: its text, its file, or - for stdin.",
        ),
    ],
    output: Output = None,
    node: Node = None,
    as_json: AsJson = False,
    passphrase: PassphraseFd = None,
) -> None:
    """Print an invoice over AMOUNT tokens, or take the CHEQUE that somebody paid it with."""
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk
        from fogbank.cli.wallet_work import make_invoice, take_cheque

        desk = Desk(node, passphrase)
        if what.isascii() and what.isdecimal():
            make_invoice(desk, int(what), output, as_json=as_json)
        elif output is not None:
            raise ValueError("-o is for invoices: a cheque is taken into the wallet")
        else:
            take_cheque(desk, what, as_json=as_json)


@app.command()
def send(
    invoice: Annotated[
        str | None,
        typer.Argument(metavar="[INVOICE]", help="Its text, its file, or - for stdin."),
    ] = None,
    again: Annotated[
        int | None,
        typer.Option("--again", metavar="ID", help="Print the cheque of an earlier payment."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for tokens that rest since they were issued.")
    ] = False,
    output: Output = None,
    node: Node = None,
    as_json: AsJson = False,
    passphrase: PassphraseFd = None,
) -> None:
    """Pay INVOICE: print the cheque, which its maker takes with `fog wallet receive`."""
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk
        from fogbank.cli.wallet_work import pay_invoice, print_again

        if (invoice is None) == (again is None):
            raise ValueError("give an invoice, or --again with the number of a payment")
        desk = Desk(node, passphrase)
        if again is not None:
            print_again(desk, again, output, as_json=as_json)
        elif invoice is not None:
            pay_invoice(desk, invoice, output, wait=wait, as_json=as_json)


@app.command()
def refresh(node: Node = None, as_json: AsJson = False, passphrase: PassphraseFd = None) -> None:
    """Complete what was begun, and swap tokens that came from words for new ones."""
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk
        from fogbank.cli.wallet_work import refresh_all

        refresh_all(Desk(node, passphrase), as_json=as_json)


@app.command()
def backup(node: Node = None, as_json: AsJson = False, passphrase: PassphraseFd = None) -> None:
    """Show the 12 words that the wallet can be restored from."""
    with errors_in_words():
        from fogbank.cli import wallet_texts
        from fogbank.cli.wallet_session import Desk

        with Desk(node, passphrase).writing() as wallet:
            words = wallet.words()
        note(
            "whoever knows these words has the wallet's tokens: write them on paper, in order, and "
            "show them to nobody"
        )
        emit(json.dumps(wallet_texts.words_report(words)) if as_json else words)


@app.command()
def restore(node: Node = None, as_json: AsJson = False, passphrase: PassphraseFd = None) -> None:
    """Find the tokens of a wallet again, from its words: asked for, or read from stdin.

    If there is a wallet here already, its own words are used.
    """
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk
        from fogbank.cli.wallet_work import restore_from_words

        restore_from_words(Desk(node, passphrase), as_json=as_json)


@app.command()
def encrypt(
    node: Node = None,
    passphrase: PassphraseFd = None,
    new_passphrase: Annotated[
        int | None,
        typer.Option(
            "--new-passphrase-fd", metavar="N", help="Read the new one from file descriptor N."
        ),
    ] = None,
) -> None:
    """Seal the wallet by a passphrase, or by another one: without it nothing can be spent."""
    with errors_in_words():
        from fogbank.cli.passphrase import read_passphrase
        from fogbank.cli.wallet_session import Desk

        with Desk(node, passphrase).writing() as wallet:
            chosen = read_passphrase(new_passphrase, is_new=True)
            wallet.protect(chosen)
        note("the wallet is sealed: if the passphrase is forgotten, only its words bring it back")


@app.command()
def decrypt(node: Node = None, passphrase: PassphraseFd = None) -> None:
    """Take the passphrase off the wallet: whoever reads its file can spend its tokens then."""
    with errors_in_words():
        from fogbank.cli.wallet_session import Desk

        with Desk(node, passphrase).writing(make=False) as wallet:
            wallet.protect(None)
        note("the wallet is no longer sealed")
