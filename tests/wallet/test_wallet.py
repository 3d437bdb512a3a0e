"""What a wallet does, step by step, against a mint in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fogbank.client.wallet.errors import ChequeRefused, NotEnough, NotYet, WalletError
from fogbank.client.wallet.records import Entry, Kind, Purpose
from fogbank.client.wallet.store_shell import Received, Wallet
from fogbank.directory.mint.cheques import Cheque, Invoice
from tests.mint.curve import NETWORK
from tests.wallet.model_mint import DAY, NODE, START, TERMS, ModelMint, new_wallet, sign

LATER = START + TERMS.rest


@pytest.fixture
def mint() -> ModelMint:
    return ModelMint()


def made(folder: Path, entropy: bytes) -> Wallet:
    new_wallet(folder, entropy)
    return Wallet.open(folder, TERMS)


@pytest.fixture
def alice(tmp_path: Path) -> Iterator[Wallet]:
    with made(tmp_path / "alice", b"a" * 16) as wallet:
        yield wallet


@pytest.fixture
def bob(tmp_path: Path) -> Iterator[Wallet]:
    with made(tmp_path / "bob", b"b" * 16) as wallet:
        yield wallet


def fill(wallet: Wallet, mint: ModelMint, amount: int, now: int = START) -> None:
    """Withdraw, until an allotment of so much is used up."""
    while wallet.withdraw(TERMS.calendar.current(now), NODE, amount, sign, now):
        mint.drive(wallet, now)


def paid(alice: Wallet, bob: Wallet, mint: ModelMint, amount: int, now: int) -> Cheque:
    payment = alice.pay(bob.invoice(amount, now + DAY, now), now)
    mint.drive(alice, now)
    alice.handed_over(payment.number, now)
    return alice.cheque(payment.number)


def test_an_allotment_becomes_tokens_that_rest_and_are_ready(
    alice: Wallet, mint: ModelMint
) -> None:
    first = alice.withdraw(0, NODE, 77, sign, START)
    assert first is not None
    assert (first.count, first.purpose, first.wants_shares) == (64, Purpose.WITHDRAWAL, False)
    assert alice.balance(START).on_its_way == 64
    fill(alice, mint, 77)
    assert alice.unfinished() == ()
    found = alice.balance(START)
    assert (found.ready, found.resting, found.rests_until) == (0, 77, LATER)
    assert alice.balance(LATER).ready == 77
    assert alice.history() == [
        Entry(START, Kind.WITHDREW, 1),
        Entry(START, Kind.WITHDREW, 4),
        Entry(START, Kind.WITHDREW, 8),
        Entry(START, Kind.WITHDREW, 64),
    ]
    assert alice.history(1) == [Entry(START, Kind.WITHDREW, 1)]
    assert alice.withdraw(0, NODE, 77, sign, START) is None
    assert alice.withdraw(0, NODE, 80, sign, TERMS.calendar.withdraw_until(0)) is None


def test_a_cheque_moves_tokens_once(alice: Wallet, bob: Wallet, mint: ModelMint) -> None:
    fill(alice, mint, 20)
    invoice = bob.invoice(11, LATER + DAY, LATER)
    payment = alice.pay(invoice, LATER)
    assert payment.amount == 11
    assert [request.count for request in alice.unfinished()] == [8, 2, 1]
    assert alice.balance(LATER).leaving == 11
    assert alice.pay(invoice, LATER) == payment, "the same invoice is not paid twice"
    with pytest.raises(NotYet):
        alice.cheque(payment.number)
    mint.drive(alice, LATER)
    cheque = alice.cheque(payment.number)
    assert alice.unfinished() == ()
    alice.handed_over(payment.number, LATER)
    assert (alice.balance(LATER).ready, alice.balance(LATER).handed_over) == (9, 11)
    state = mint.state(LATER)
    assert bob.receive(cheque, state, LATER) == Received(11, 0)
    assert bob.receive(cheque, state, LATER) == Received(0, 11)
    assert bob.balance(LATER).on_its_way == 11
    mint.drive(bob, LATER)
    assert bob.balance(LATER).resting == 11
    assert bob.receive(cheque, state, LATER) == Received(0, 11)
    assert bob.balance(LATER + TERMS.rest).ready == 11
    assert bob.history() == [Entry(LATER, Kind.RECEIVED, 11)]
    assert alice.history(1) == [Entry(LATER, Kind.PAID, 11)]


def test_what_is_not_a_good_cheque_counts_nothing(
    alice: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    fill(alice, mint, 16)
    cheque = paid(alice, bob, mint, 3, LATER)
    state = mint.state(LATER)
    (first, second) = cheque.certificates
    forged = Cheque((first, type(second)(second.signed, second.votes[:-1])))
    old = TERMS.calendar.lock_until(0) - 7 * DAY
    for wallet, given, when, why in (
        (alice, cheque, LATER, "somebody else"),
        (bob, forged, LATER, "not certified"),
        (bob, cheque, old, "series 0"),
    ):
        with pytest.raises(ChequeRefused, match=why):
            wallet.receive(given, state, when)
    assert bob.balance(LATER).on_its_way == 0
    assert bob.history() == []
    # A part of it is good by itself, and the rest counts when it comes.
    assert bob.receive(Cheque((first,)), state, LATER) == Received(2, 0)
    assert bob.receive(cheque, state, LATER) == Received(1, 2)


def test_an_output_is_paid_once(alice: Wallet, bob: Wallet, mint: ModelMint) -> None:
    fill(alice, mint, 16)
    invoice = bob.invoice(2, LATER + DAY, LATER)
    twice = Invoice(NETWORK, invoice.outputs, invoice.expires - 1)
    cheques = []
    for each in (invoice, twice):
        payment = alice.pay(each, LATER)
        mint.drive(alice, LATER)
        cheques.append(alice.cheque(payment.number))
    assert bob.receive(cheques[0], mint.state(LATER), LATER) == Received(2, 0)
    with pytest.raises(ChequeRefused, match="paid already"):
        bob.receive(cheques[1], mint.state(LATER), LATER)


def test_only_what_is_ready_and_good_is_paid_with(
    alice: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    fill(alice, mint, 8)
    invoice = bob.invoice(9, LATER + DAY, START)
    with pytest.raises(NotEnough) as caught:
        alice.pay(invoice, START)
    assert (caught.value.ready, caught.value.resting, caught.value.until) == (0, 8, LATER)
    with pytest.raises(NotEnough):
        alice.pay(invoice, LATER)
    for wrong in (
        Invoice(bytes(32), invoice.outputs, invoice.expires),
        Invoice(NETWORK, invoice.outputs, LATER),
    ):
        with pytest.raises(WalletError, match="invoice"):
            alice.pay(wrong, LATER)
    assert alice.unfinished() == ()


def test_a_wallet_does_not_pay_itself(alice: Wallet, bob: Wallet, mint: ModelMint) -> None:
    fill(alice, mint, 8)
    own = alice.invoice(3, LATER + DAY, LATER)
    outputs = bob.invoice(1, LATER + DAY, LATER).outputs + own.outputs[:1]
    for invoice in (own, Invoice(NETWORK, own.outputs[1:], own.expires - 1)):
        with pytest.raises(WalletError, match="this very wallet"):
            alice.pay(invoice, LATER)
    with pytest.raises(WalletError, match="this very wallet"):
        alice.pay(Invoice(NETWORK, outputs, own.expires), LATER)
    assert alice.unfinished() == ()
    assert alice.balance(LATER).ready == 8


def test_the_oldest_series_that_is_good_is_spent_first(
    alice: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    week = 7 * DAY
    fill(alice, mint, 5)
    fill(alice, mint, 20, START + week)
    now = START + 2 * week
    alice.pay(bob.invoice(12, now + DAY, now), now)
    assert [(each.series, each.count) for each in alice.unfinished()] == [
        (0, 4),
        (0, 1),
        (1, 4),
        (1, 2),
        (1, 1),
    ]


def test_old_tokens_are_warned_of_and_forgotten(alice: Wallet, mint: ModelMint) -> None:
    fill(alice, mint, 5)
    no_payment = TERMS.calendar.lock_until(0) - 7 * DAY
    assert alice.warnings(no_payment - 8 * DAY) == ()
    (warning,) = alice.warnings(no_payment - DAY)
    assert "5 tokens" in warning
    assert "1.0 days" in warning
    assert alice.balance(no_payment - DAY).expiring == 5
    assert alice.balance(no_payment).too_old == 5
    alice.expire(TERMS.calendar.lock_until(0) - 1)
    assert alice.balance(no_payment).too_old == 5
    alice.expire(TERMS.calendar.lock_until(0))
    assert alice.balance(no_payment).too_old == 0
    assert alice.history(1) == [Entry(TERMS.calendar.lock_until(0), Kind.EXPIRED, 5)]


def test_no_counter_is_taken_that_a_restore_would_not_find(alice: Wallet, mint: ModelMint) -> None:
    for _ in range(3):
        alice.invoice(64, START + DAY, START)
    with pytest.raises(WalletError, match="wait for their tokens"):
        alice.invoice(1, START + DAY, START)
    # A withdrawal has room, and makes some.
    fill(alice, mint, 64)
    alice.invoice(64, START + DAY, START)
    for amount, until in ((0, START + DAY), (65, START + DAY), (1, START), (1, START + 29 * DAY)):
        with pytest.raises(WalletError, match="an invoice is"):
            alice.invoice(amount, until, START)
