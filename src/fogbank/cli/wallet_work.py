"""What `fog wallet` commands do at a desk: invoices, cheques, withdrawals, words."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio
import typer

from fogbank.cli import wallet_texts as texts
from fogbank.cli.output import emit, note, read_bounded
from fogbank.cli.wallet_session import Desk, tell
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import NotEnough, WalletError, WalletExists
from fogbank.client.wallet.words import entropy_of
from fogbank.directory.mint.cheques import Cheque, Invoice, cheque_from_text, invoice_from_text
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keystore_shell import KeyStore
from fogbank.sandbox.files_shell import write_atomic

if TYPE_CHECKING:
    from fogbank.client.wallet.payments_shell import Payments

_TEXT_LIMIT = 512 << 10
_WORDS_LIMIT = 4096
_INVOICE_DAYS = 7
_LEAST_PAUSE = 0.2

_T = TypeVar("_T")


def read_text(what: str, prefix: str) -> str:
    """Return an invoice's or a cheque's text: as it stands, from its file, or from stdin."""
    if what == "-":
        data = sys.stdin.buffer.read(_TEXT_LIMIT + 1)
    elif what.lstrip().startswith("fog"):
        data = what.encode()
    else:
        try:
            data = read_bounded(Path(what), _TEXT_LIMIT)
        except OSError as error:
            raise ValueError(
                f"{what} cannot be read ({error.strerror}): give a text that begins with {prefix}, "
                "the name of a file that holds it, or -"
            ) from None
    if len(data) > _TEXT_LIMIT:
        raise ValueError(f"more than {_TEXT_LIMIT} bytes came: that is no {prefix}…")
    # Letters and terminals break long words.
    return "".join(data.decode(errors="replace").split())


def _understood(read: Callable[[str], _T], text: str, what: str) -> _T:
    try:
        return read(text)
    except ProtocolError as error:
        raise ValueError(f"this {what} was not copied as a whole: {error}") from None


def put_text(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file."""
    if output is None:
        emit(text)
    else:
        write_atomic(output, text.encode() + b"\n")


def make_invoice(desk: Desk, amount: int, output: Path | None, *, as_json: bool) -> None:
    """Print an invoice over so many tokens."""
    now = int(time.time())
    with desk.writing() as wallet:
        invoice = wallet.invoice(amount, now + _INVOICE_DAYS * desk.terms.calendar.day, now)
    if as_json:
        emit(json.dumps(_invoice_report(invoice)))
    if output is not None or not as_json:
        put_text(invoice.text(), output)
    note(
        f"an invoice over {texts.tokens(amount)}, to be paid with `fog wallet send` until "
        f"{texts.at(invoice.expires)}"
    )


def _invoice_report(invoice: Invoice) -> dict[str, object]:
    return {
        "schema": texts.INVOICE_SCHEMA,
        "amount": len(invoice.outputs),
        "expires": invoice.expires,
        "invoice": invoice.text(),
    }


def take_cheque(desk: Desk, what: str, *, as_json: bool) -> None:
    """Count a cheque once, and fetch its tokens."""
    cheque = _understood(cheque_from_text, read_text(what, "fogcheque1"), "cheque")

    async def take(payments: Payments) -> tuple[int, int, int]:
        received, settled = await payments.receive(cheque)
        tell(settled)
        return received.counted, received.again, settled.tokens

    counted, again, issued = desk.work(take, make=False)
    if as_json:
        report = {"schema": texts.RECEIPT_SCHEMA, "counted": counted, "again": again}
        emit(json.dumps({**report, "issued": issued}))
    else:
        emit(f"{texts.tokens(counted)} received")
    if again:
        note(f"{texts.tokens(again)} of this cheque were counted before, and are not counted twice")
    if issued < counted:
        note("the cheque is good and counted; the next command fetches what is missing")


def pay_invoice(desk: Desk, what: str, output: Path | None, *, wait: bool, as_json: bool) -> None:
    """Pay an invoice, and print its cheque."""
    invoice = _understood(invoice_from_text, read_text(what, "foginvoice1"), "invoice")

    async def pay(payments: Payments) -> int:
        # What comes in may be needed; what goes on with this very payment is told by it.
        await payments.refresh()
        while True:
            try:
                return await payments.pay(invoice)
            except NotEnough as error:
                if error.ready + error.resting < len(invoice.outputs):
                    raise
                until = texts.at(error.until)
                if not wait:
                    raise WalletError(f"{error}, until {until}: give --wait to wait") from None
                note(f"waiting for tokens that rest until {until}")
                await trio.sleep(max(_LEAST_PAUSE, error.until - time.time()))

    number = desk.work(pay)
    print_again(desk, number, output, as_json=as_json)


def print_again(desk: Desk, number: int, output: Path | None, *, as_json: bool) -> None:
    """Print the cheque of a payment, and note that it was handed over."""
    with desk.writing(make=False) as wallet:
        cheque = wallet.cheque(number)
        if as_json:
            emit(json.dumps(_cheque_report(number, cheque)))
        if output is not None or not as_json:
            put_text(cheque.text(), output)
        wallet.handed_over(number, int(time.time()))
    note(
        f"payment {number}: a cheque over {texts.tokens(len(cheque.outputs()))} for whoever made "
        f"the invoice; `fog wallet send --again {number}` prints it again"
    )


def _cheque_report(number: int, cheque: Cheque) -> dict[str, object]:
    return {
        "schema": texts.CHEQUE_SCHEMA,
        "id": number,
        "amount": len(cheque.outputs()),
        "cheque": cheque.text(),
    }


def withdraw_now(desk: Desk, *, as_json: bool) -> None:
    """Withdraw what the desk's node is allotted, and did not withdraw yet."""
    from fogbank.nodes.withdrawals import withdrawal_signer

    store = KeyStore.open(desk.home.folder / "keys")

    async def withdraw(payments: Payments) -> tuple[int, int]:
        settled = await payments.withdraw(store.identity, withdrawal_signer(store))
        settled.raise_if_nothing_came()
        tell(settled)
        return sum(payments.allotted(store.identity).values()), settled.tokens

    allotted, withdrawn = desk.work(withdraw)
    if as_json:
        report = {"schema": texts.WITHDRAWAL_SCHEMA, "allotted": allotted, "withdrawn": withdrawn}
        emit(json.dumps(report))
        return
    emit(f"{texts.tokens(withdrawn)} withdrawn")
    if not withdrawn:
        note(f"the node is allotted {texts.tokens(allotted)} now, and they were withdrawn before")


def refresh_all(desk: Desk, *, as_json: bool) -> None:
    """Complete what was begun, and swap what came from words."""

    async def refresh(payments: Payments) -> int:
        settled = await payments.refresh()
        settled.raise_if_nothing_came()
        tell(settled)
        return settled.tokens

    swapped = desk.work(refresh, make=False)
    if as_json:
        emit(json.dumps({"schema": texts.REFRESH_SCHEMA, "tokens": swapped}))
    else:
        emit(f"{texts.tokens(swapped)} came in")


def restore_from_words(desk: Desk, *, as_json: bool) -> None:
    """Find a wallet's tokens again: of the words that are read, or of the wallet that is here."""
    if not desk.has_wallet:
        desk.make(entropy_of(_read_words()))
    elif not sys.stdin.isatty() and (given := sys.stdin.read(_WORDS_LIMIT).split()):
        with desk.reading() as (wallet, _):
            if given != wallet.words().split():
                raise WalletExists(
                    f"there is another wallet in {desk.home.folder} already: use another folder, "
                    "named by FOGBANK_HOME"
                )
    node = None
    if desk.role is Role.NODE:
        node = KeyStore.open(desk.home.folder / "keys").identity

    async def restore(payments: Payments) -> int:
        count, settled = await payments.restore(node)
        tell(settled)
        return count

    count = desk.work(restore)
    if as_json:
        emit(json.dumps({"schema": texts.RESTORE_SCHEMA, "tokens": count}))
    else:
        emit(f"{texts.tokens(count)} found")


def _read_words() -> str:
    if sys.stdin.isatty():
        answer: str = typer.prompt("The wallet's 12 words", err=True)
        return answer
    return sys.stdin.read(_WORDS_LIMIT)
