"""Invoices and cheques (spec/09 §9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogbank.directory.mint.cheques import (
    CHEQUE_LIMIT,
    INVOICE_LIMIT,
    Cheque,
    Invoice,
    cheque_from_text,
    decode_cheque,
    decode_invoice,
    invoice_from_text,
)
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from tests.mint.curve import NETWORK
from tests.mint.deals import NOW, Series, outputs_of

SERIES = Series()
INVOICE = Invoice(NETWORK, outputs_of(5, "payee"), NOW)
CHEQUE = Cheque((SERIES.certificate(SERIES.swap(4)), SERIES.certificate(SERIES.withdrawal(1))))


def test_an_invoice_and_a_cheque_travel_as_words() -> None:
    invoice, cheque = INVOICE.text(), CHEQUE.text()
    assert invoice_from_text(invoice) == INVOICE
    assert cheque_from_text(cheque) == CHEQUE
    for word in (invoice, cheque):
        assert word.replace("-", "").replace("_", "").isalnum()
    wrapped = f"  {invoice[:70]}\n  {invoice[70:]}\n"
    assert invoice_from_text(wrapped) == INVOICE


def test_the_largest_ones_fit() -> None:
    assert decode_invoice(replace(INVOICE, outputs=outputs_of(64, "all")).encode())
    assert (
        len(replace(INVOICE, outputs=outputs_of(64, "all"), expires=2**63).encode()) < INVOICE_LIMIT
    )
    series = Series(22, 32)
    one = series.certificate(series.withdrawal(1))
    certificates = tuple(
        replace(one, signed=series.withdrawal(1, first=2**32 - k - 1, to=str(k))) for k in range(64)
    )
    cheque = Cheque(certificates)
    assert len(cheque.encode()) < CHEQUE_LIMIT
    assert decode_cheque(cheque.encode()) == cheque


def test_what_was_not_copied_whole_is_refused_in_words() -> None:
    for word, read, what in (
        (INVOICE.text(), invoice_from_text, "an invoice, which begins with foginvoice1"),
        (CHEQUE.text(), cheque_from_text, "a cheque, which begins with fogcheque1"),
    ):
        for text in ("", "x", word[1:], word + "!", word + "é", word[:4] + "2" + word[5:]):
            with pytest.raises(ProtocolError, match=what):
                read(text)
        for text in (word[:-1], word[:-4], word + "AAAA", word + "A", word.replace(word[30], "=")):
            with pytest.raises(ProtocolError):
                read(text)
        with pytest.raises(ProtocolError):
            read(word[:11] + "A" * 2_000_000)


def test_an_invoice_asks_for_each_output_once() -> None:
    with pytest.raises(ProtocolError):
        decode_invoice(replace(INVOICE, outputs=()).encode())
    with pytest.raises(ProtocolError):
        decode_invoice(replace(INVOICE, outputs=INVOICE.outputs[:1] * 2).encode())
    with pytest.raises(ProtocolError):
        decode_invoice(replace(INVOICE, outputs=outputs_of(65, "many")).encode())
    with pytest.raises(ProtocolError):
        decode_invoice(replace(INVOICE, network_id=b"").encode())


def test_a_cheque_pays_each_output_once() -> None:
    first = CHEQUE.certificates[0]
    again = SERIES.certificate(SERIES.swap(4, name="others"))
    many = tuple(SERIES.certificate(SERIES.withdrawal(64, first=64 * k, to=str(k))) for k in (0, 1))
    for certificates in ((), (first, first), (first, again), many):
        with pytest.raises(ProtocolError):
            decode_cheque(Cheque(certificates).encode())
    with pytest.raises(ProtocolError):
        decode_cheque(encode({1: 2}))
    assert CHEQUE.outputs() == first.request.outputs + CHEQUE.certificates[1].request.outputs
