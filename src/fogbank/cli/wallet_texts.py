"""What `fog wallet` prints of a wallet: for people, and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fogbank.client.wallet.records import Balance, Entry, Kind, Payment

BALANCE_SCHEMA = "fogbank.wallet-balance/1"
HISTORY_SCHEMA = "fogbank.wallet-history/1"
INVOICE_SCHEMA = "fogbank.invoice/1"
CHEQUE_SCHEMA = "fogbank.cheque/1"
RECEIPT_SCHEMA = "fogbank.receipt/1"
WITHDRAWAL_SCHEMA = "fogbank.withdrawal/1"
REFRESH_SCHEMA = "fogbank.refresh/1"
RESTORE_SCHEMA = "fogbank.restore/1"
WORDS_SCHEMA = "fogbank.wallet-words/1"
_IN = frozenset({Kind.WITHDREW, Kind.RECEIVED, Kind.RESTORED})


def at(seconds: int) -> str:
    """Return a time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def tokens(count: int) -> str:
    """Return a number of tokens in words."""
    return f"{count} token" if count == 1 else f"{count} tokens"


def balance_lines(found: Balance) -> Iterator[str]:
    """Say what there is, the ready ones first."""
    yield f"{tokens(found.ready)} ready"
    if found.resting:
        yield f"{found.resting} resting since they were issued, until {at(found.rests_until)}"
    if found.on_its_way:
        yield f"{found.on_its_way} on the way: the next command that uses the network fetches them"
    if found.leaving:
        yield f"{found.leaving} in payments that were not handed over (see `fog wallet history`)"
    if found.expiring:
        yield f"{found.expiring} that nobody takes any more after {at(found.expires)}"
    if found.too_old:
        yield f"{found.too_old} too old to be taken as payment"


def balance_report(found: Balance) -> dict[str, Any]:
    """Return the balance as `--json` prints it; times are seconds since 1970, 0 for none."""
    return {"schema": BALANCE_SCHEMA, **asdict(found)}


def words_report(words: str) -> dict[str, Any]:
    """Return a wallet's words as `--json` prints them."""
    return {"schema": WORDS_SCHEMA, "words": words}


def history_lines(entries: Sequence[Entry], payments: Sequence[Payment]) -> Iterator[str]:
    """Return a line for each entry, and one for each payment with its number."""
    for entry in entries:
        sign = "+" if entry.kind in _IN else "-"
        yield f"{at(entry.time)}  {entry.kind:9} {sign}{entry.amount}"
    for payment in payments:
        yield f"payment {payment.number}: {tokens(payment.amount)}, {state(payment)}"


def state(payment: Payment) -> str:
    """Return where a payment stands, in words."""
    if payment.handed_over:
        return "handed over"
    return "not handed over yet"


def history_report(entries: Sequence[Entry], payments: Sequence[Payment]) -> dict[str, Any]:
    """Return the history as `--json` prints it."""
    return {
        "schema": HISTORY_SCHEMA,
        "entries": [
            {"time": each.time, "kind": str(each.kind), "amount": each.amount} for each in entries
        ],
        "payments": [
            {
                "id": each.number,
                "amount": each.amount,
                "made": each.made,
                "handed_over": each.handed_over,
            }
            for each in payments
        ],
    }
