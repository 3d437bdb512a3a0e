"""Invoices and cheques, as bytes and as text (spec/09 §9)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from fogbank.directory.mint.certificates import (
    Certificate,
    certificate_from_value,
)
from fogbank.directory.mint.points import G1_LENGTH
from fogbank.directory.mint.requests import DIGEST_LENGTH, MAX_OUTPUTS, bytes_of
from fogbank.relay.codec import decode, decode_record, encode
from fogbank.relay.errors import ProtocolError

INVOICE_LIMIT: Final = 4 << 10
CHEQUE_LIMIT: Final = 256 << 10
_INVOICE_TEXT: Final = "foginvoice1"
_CHEQUE_TEXT: Final = "fogcheque1"
_INVOICE_ITEMS: Final = 80
_CHEQUE_ITEMS: Final = 8192


@dataclass(frozen=True, slots=True)
class Invoice:
    """What somebody wants to be paid: blinded outputs of their own, 48 bytes each, one a token.

    `expires` is the time, in seconds, until which it is good.
    """

    network_id: bytes
    outputs: tuple[bytes, ...]
    expires: int

    def encode(self) -> bytes:
        """Return the invoice's bytes."""
        return encode({1: self.network_id, 2: list(self.outputs), 3: self.expires})

    def text(self) -> str:
        """Return the invoice as one word to be copied."""
        return _to_text(_INVOICE_TEXT, self.encode())


def decode_invoice(data: bytes | memoryview) -> Invoice:
    """Read an invoice; raise `ProtocolError` for anything else. Its points are not decoded."""
    record = decode_record(data, INVOICE_LIMIT, "an invoice", _INVOICE_ITEMS)
    invoice = Invoice(
        record.fixed(1, DIGEST_LENGTH),
        record.array(2, MAX_OUTPUTS, bytes_of(G1_LENGTH, "an output")),
        record.uint(3),
    )
    record.done()
    if not invoice.outputs or len(set(invoice.outputs)) != len(invoice.outputs):
        raise ProtocolError("an invoice asks for nothing, or for one output twice")
    return invoice


def invoice_from_text(text: str) -> Invoice:
    """Read what `Invoice.text` wrote; raise `ProtocolError` for anything else."""
    return decode_invoice(_from_text(_INVOICE_TEXT, text, INVOICE_LIMIT, "an invoice"))


@dataclass(frozen=True, slots=True)
class Cheque:
    """Certificates whose outputs are the payee's."""

    certificates: tuple[Certificate, ...]

    def encode(self) -> bytes:
        """Return the cheque's bytes."""
        return encode([certificate.value() for certificate in self.certificates])

    def text(self) -> str:
        """Return the cheque as one word to be copied."""
        return _to_text(_CHEQUE_TEXT, self.encode())

    def outputs(self) -> tuple[bytes, ...]:
        """Return the outputs that it pays, in order."""
        return tuple(each for cert in self.certificates for each in cert.request.outputs)


def decode_cheque(data: bytes | memoryview) -> Cheque:
    """Read a cheque; raise `ProtocolError` for anything else. Nothing is verified.

    All its outputs are different; whoever takes it checks each certificate (`check_certificate`).
    """
    value = decode(data, CHEQUE_LIMIT, _CHEQUE_ITEMS)
    if type(value) is not list or not 0 < len(value) <= MAX_OUTPUTS:
        raise ProtocolError("a cheque is not a short array of certificates")
    cheque = Cheque(tuple(map(certificate_from_value, value)))
    outputs = cheque.outputs()
    if len(outputs) > MAX_OUTPUTS or len(set(outputs)) != len(outputs):
        raise ProtocolError("a cheque pays too many outputs, or one twice")
    return cheque


def cheque_from_text(text: str) -> Cheque:
    """Read what `Cheque.text` wrote; raise `ProtocolError` for anything else."""
    return decode_cheque(_from_text(_CHEQUE_TEXT, text, CHEQUE_LIMIT, "a cheque"))


def _to_text(prefix: str, data: bytes) -> str:
    return prefix + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_text(prefix: str, text: str, limit: int, what: str) -> bytes:
    wrong = f"this is not {what}, which begins with {prefix}; was all of it copied?"
    word = "".join(text.split())
    if not word.startswith(prefix) or len(word) > len(prefix) + 4 * limit // 3 + 4:
        raise ProtocolError(wrong)
    letters = word[len(prefix) :]
    try:
        data = base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4))
    except ValueError as error:
        raise ProtocolError(wrong) from error
    if _to_text(prefix, data) != word:
        raise ProtocolError(wrong)
    return data
