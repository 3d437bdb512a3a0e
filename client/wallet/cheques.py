"""Plans for paying and being paid by cheques (spec/09 §9). Pure."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from fogbank.client.wallet.choosing import choose
from fogbank.client.wallet.errors import ChequeRefused, NotEnough, NotYet, WalletError
from fogbank.client.wallet.own import own_outputs, swap
from fogbank.client.wallet.records import (
    Change,
    Kind,
    Offer,
    OpenRequest,
    Payment,
    Purpose,
)
from fogbank.client.wallet.terms import MOST_OFFERED, OFFER_DAYS, OFFER_GAP
from fogbank.client.wallet.wallet import Book, Draft
from fogbank.directory.mint.certificates import (
    Certificate,
    check_certificate,
    decode_certificate,
)
from fogbank.directory.mint.cheques import Cheque, Invoice
from fogbank.directory.mint.state import MintState
from fogbank.relay.errors import ProtocolError


def offer(book: Book, amount: int, until: int, now: int) -> Change:
    """Plan an invoice of 1 to 64 tokens, good until some time within 28 days."""
    if not 0 < amount <= MOST_OFFERED:
        raise WalletError(f"an invoice is over 1 to {MOST_OFFERED} tokens: make several")
    latest = now + OFFER_DAYS * book.terms.calendar.day
    if not now < until <= latest:
        raise WalletError(
            f"an invoice is good for {OFFER_DAYS} days at most: choose a shorter time"
        )
    draft = Draft(book, now)
    places, outputs = own_outputs(draft, amount, OFFER_GAP)
    draft.put(Offer(draft.number(), until, places, outputs, (b"",) * amount))
    return draft.change()


def invoice_of(book: Book, made: Offer) -> Invoice:
    """Return an invoice as it is handed out."""
    return Invoice(book.terms.network_id, made.blinded, made.until)


def digest_of(invoice: Invoice) -> bytes:
    """Return what tells an invoice from others."""
    return hashlib.sha256(invoice.encode()).digest()


def paid_already(book: Book, invoice: Invoice) -> Payment | None:
    """Return the payment of an invoice, if it was begun."""
    digest = digest_of(invoice)
    return next((each for each in book.payments.values() if each.invoice == digest), None)


def pay(book: Book, invoice: Invoice, now: int) -> Change:
    """Plan the swaps that pay an invoice; there must be no payment of it yet.

    Raises `NotEnough` if fewer tokens are ready, and `WalletError` if it cannot be paid.
    """
    if invoice.network_id != book.terms.network_id:
        raise WalletError("this invoice is of another network: ask for one of this network")
    if invoice.expires <= now:
        raise WalletError("this invoice is no longer good: ask for a new one")
    if any(not set(each.blinded).isdisjoint(invoice.outputs) for each in book.offers.values()):
        raise WalletError("this invoice is of this very wallet: give it to whoever is to pay it")
    amount = len(invoice.outputs)
    swaps = choose(book.ready(now), amount)
    if sum(map(len, swaps)) < amount:
        raise _not_enough(book, amount, now)
    draft = Draft(book, now)
    number = draft.number()
    left, made = list(invoice.outputs), []
    for inputs in swaps:
        outputs, left = left[: len(inputs)], left[len(inputs) :]
        made.append(swap(draft, Purpose.PAYMENT, inputs, outputs, payment=number).id)
    draft.put(Payment(number, digest_of(invoice), amount, tuple(made), now))
    return draft.change()


def _not_enough(book: Book, wanted: int, now: int) -> NotEnough:
    good = book.terms.calendar.good_for_payment
    resting = [
        token.rests_until
        for token in book.tokens.values()
        if not token.locked and token.rests_until > now and good(token.series, token.rests_until)
    ]
    return NotEnough(wanted, len(book.ready(now)), len(resting), max(resting, default=now))


def cheque_of(book: Book, payment: Payment) -> Cheque:
    """Return a payment's cheque; raise `NotYet` if a request of it is not certified."""
    requests = [book.requests.get(each) for each in payment.requests]
    certificates = [each.certificate for each in requests if each is not None]
    if len(certificates) < len(requests) or not all(certificates):
        raise NotYet("the cheque waits for the authorities' votes: `fog wallet` goes on with it")
    return Cheque(tuple(decode_certificate(each) for each in certificates))


def handed_over(book: Book, number: int, now: int) -> Change:
    """Plan to keep that a cheque was handed over; it can be again."""
    draft = Draft(book, now)
    payment = book.payments.get(number)
    if payment is not None and not payment.handed_over:
        draft.put(replace(payment, handed_over=True))
    return draft.change()


def receive(book: Book, cheque: Cheque, state: MintState, now: int) -> Change:
    """Plan to count a cheque: what of it was counted already is passed over.

    It is checked by itself, without the network. Raises `ChequeRefused`; all of it counts, or
    nothing.
    """
    draft = Draft(book, now)
    offers = {each.number: each for each in book.offers.values()}
    where = {
        blinded: (each.number, place)
        for each in offers.values()
        for place, blinded in enumerate(each.blinded)
    }
    taken = 0
    for certificate in cheque.certificates:
        request = certificate.request
        name = request.digest()
        mine = [where.get(output) for output in request.outputs]
        found = [each for each in mine if each is not None]
        if len(found) < len(mine):
            raise ChequeRefused("this cheque is for somebody else, or for a forgotten invoice")
        counted = {offers[number].counted[place] for number, place in found}
        if counted == {name}:
            continue
        if counted != {b""}:
            raise ChequeRefused("this cheque pays what another one has paid already")
        check(book, certificate, state, now)
        for number, place in found:
            offers[number] = _count(offers[number], place, name)
            draft.put(offers[number])
        places = tuple(offers[number].places[place] for number, place in found)
        draft.put(
            OpenRequest(
                name,
                Purpose.RECEIPT,
                request.series,
                len(places),
                b"",
                certificate.encode(),
                outputs=places,
            )
        )
        taken += len(places)
    draft.note(Kind.RECEIVED, taken)
    return draft.change()


def check(book: Book, certificate: Certificate, state: MintState, now: int) -> None:
    """Raise `ChequeRefused` unless a certificate holds and its series is good for long enough."""
    series = certificate.request.series
    record = state.series_of(series)
    if record is None or not book.terms.calendar.good_for_payment(series, now):
        raise ChequeRefused(
            f"this cheque is of series {series}, which is not taken any more, or not yet"
        )
    try:
        check_certificate(certificate, book.terms.network_id, record)
    except ProtocolError as error:
        raise ChequeRefused(f"this cheque is not certified: {error}") from error


def _count(made: Offer, place: int, name: bytes) -> Offer:
    counted = list(made.counted)
    counted[place] = name
    return replace(made, counted=tuple(counted))
