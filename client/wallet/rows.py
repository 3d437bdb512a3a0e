"""A wallet's records as bytes, as they are sealed on the disk (spec/09 §8.4). Pure.

What is read here was authenticated when it was opened: something else than what `encode_row` writes
is of a later version, or damaged before it was sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from fogbank.client.wallet.derivation import Place, Role
from fogbank.client.wallet.errors import WalletError
from fogbank.client.wallet.records import (
    RECORDS,
    About,
    Counter,
    Entry,
    Kind,
    Offer,
    OpenRequest,
    Payment,
    Purpose,
    Record,
    Token,
    Units,
)
from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError

ROW_LIMIT: Final = 64 << 10


def encode_row(record: Record) -> bytes:
    """Return a record's bytes: an array of its type and its fields, in order."""
    values = [_value(getattr(record, each.name)) for each in fields(record)]
    return encode([RECORDS.index(type(record)), *values])


def name_of(record: Record) -> bytes:
    """Return what names a record among all: its type, and what tells it from others of that."""
    return encode([RECORDS.index(type(record)), _value(record.key)])


def decode_row(data: bytes) -> Record:
    """Read a record's bytes; raise `WalletError` if they are none."""
    try:
        kind, *values = decode(data, ROW_LIMIT)
        return _READERS[RECORDS[kind]](*values)
    except (ProtocolError, LookupError, TypeError, ValueError) as error:
        raise _of_later_version() from error


def encode_entry(entry: Entry) -> bytes:
    """Return the bytes of a line of the history."""
    return encode([entry.time, str(entry.kind), entry.amount])


def decode_entry(data: bytes) -> Entry:
    """Read a line of the history; raise `WalletError` if it is none."""
    try:
        time, kind, amount = decode(data, ROW_LIMIT)
        return Entry(time, Kind(kind), amount)
    except (ProtocolError, TypeError, ValueError) as error:
        raise _of_later_version() from error


def _of_later_version() -> WalletError:
    return WalletError("the wallet has something in it that a later fogbank wrote: upgrade")


def _value(value: Any) -> Value:
    match value:
        case bool() | bytes():
            return value
        case int():
            return int(value)
        case Place(role, branch, period, counter):
            return [int(role), branch, period, counter]
        case tuple():
            return [_value(each) for each in value]
    raise TypeError(f"a record holds a {type(value).__name__}")


def _place(value: Any) -> Place:
    role, branch, period, counter = value
    return Place(Role(role), branch, period, counter)


def _places(value: Any) -> tuple[Place, ...]:
    return tuple(_place(each) for each in value)


def _token(place: Any, *rest: Any) -> Token:
    return Token(_place(place), *rest)


def _request(name: Any, purpose: Any, series: Any, count: Any, *rest: Any) -> OpenRequest:
    signed, certificate, inputs, outputs, payment = rest
    ends = (_places(inputs), _places(outputs))
    return OpenRequest(name, Purpose(purpose), series, count, signed, certificate, *ends, payment)


def _offer(number: Any, until: Any, places: Any, blinded: Any, counted: Any) -> Offer:
    return Offer(number, until, _places(places), tuple(blinded), tuple(counted))


def _payment(number: Any, invoice: Any, amount: Any, requests: Any, *rest: Any) -> Payment:
    return Payment(number, invoice, amount, tuple(requests), *rest)


def _with_role(kind: type[Counter | About]) -> Callable[..., Counter | About]:
    return lambda role, *rest: kind(Role(role), *rest)


_READERS: Final[dict[type[Record], Callable[..., Record]]] = {
    Token: _token,
    OpenRequest: _request,
    Offer: _offer,
    Payment: _payment,
    Counter: _with_role(Counter),
    Units: Units,
    About: _with_role(About),
}
