"""From words alone, a wallet finds all that lives, and goes on beside the old one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fogbank.client.wallet import answers, lanes
from fogbank.client.wallet.answers import Answer, Question, What
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import NeedsRestore
from fogbank.client.wallet.records import Entry, Kind
from fogbank.client.wallet.store_shell import Received, Wallet
from fogbank.directory.mint.certificates import decode_certificate
from tests.mint.curve import NETWORK
from tests.wallet import model_mint
from tests.wallet.model_mint import DAY, NODE, START, TERMS, Member, ModelMint, new_wallet, sign
from tests.wallet.test_wallet import LATER, fill, made, paid

EVERYONE = range(4)
WORDS = b"a" * 16


@pytest.fixture
def mint() -> ModelMint:
    return ModelMint()


@pytest.fixture
def alice(tmp_path: Path) -> Iterator[Wallet]:
    with made(tmp_path / "alice", WORDS) as wallet:
        yield wallet


@pytest.fixture
def again(tmp_path: Path) -> Iterator[Wallet]:
    """A second wallet of Alice's words, on another machine."""
    Wallet.create(tmp_path / "again", NETWORK, Role.CLIENT, WORDS)
    with Wallet.open(tmp_path / "again", TERMS) as wallet:
        with pytest.raises(NeedsRestore, match="fog wallet restore"):
            wallet.invoice(1, START + DAY, START)
        wallet.expire(START + 100 * DAY)
        yield wallet


@pytest.fixture
def bob(tmp_path: Path) -> Iterator[Wallet]:
    with made(tmp_path / "bob", b"b" * 16) as wallet:
        yield wallet


def serials(wallet: Wallet) -> set[bytes]:
    return {token.serial for token in wallet.tokens()}


def audit(wallet: Wallet, mint: ModelMint, now: int, count: int) -> None:
    """Once it is refreshed, all is in the wallet's own branch, unspent, and so many."""
    mint.drive(wallet, now)
    while wallet.refresh(now + TERMS.rest):
        mint.drive(wallet, now + TERMS.rest)
    assert wallet.unfinished() == ()
    assert len(serials(wallet)) == len(wallet.tokens()) == count
    assert not any(mint.is_spent(serial) for serial in serials(wallet))
    assert {(token.place.role, token.place.branch) for token in wallet.tokens()} <= {(1, 1)}


def test_words_alone_find_all_that_lives(
    alice: Wallet, again: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    week = 7 * DAY
    fill(alice, mint, 20)
    fill(alice, mint, 9, START + week)
    bob.receive(paid(alice, bob, mint, 3, START + week), mint.state(START + week), START + week)
    mint.drive(bob, START + week)
    now = START + 2 * week
    alice.receive(paid(bob, alice, mint, 2, now), mint.state(now), now)
    mint.drive(alice, now)
    assert mint.restore(again, now, EVERYONE) == 28
    assert again.history() == [Entry(now, Kind.RESTORED, 28)]
    assert serials(again) == serials(alice)
    audit(again, mint, now, 28)
    # What the old one has is spent now, and whatever it still does meets nothing of the new one.
    assert all(mint.is_spent(serial) for serial in serials(alice))
    fill(again, mint, 5, now)
    alice.withdraw(2, NODE, 100, sign, now)
    (drawn,) = alice.unfinished()
    assert not {*drawn.outputs} & {token.place for token in again.tokens()}


def test_an_old_copy_is_told_what_it_lost(
    alice: Wallet, again: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    fill(alice, mint, 7)
    mint.restore(again, LATER, EVERYONE)
    audit(again, mint, LATER, 7)
    invoice = bob.invoice(3, LATER + DAY, LATER)
    alice.pay(invoice, LATER)
    mint.drive(alice, LATER)
    assert (alice.payments(), alice.unfinished()) == ((), ())
    assert [(entry.kind, entry.amount) for entry in alice.history(2)] == [
        (Kind.LOST, 1),
        (Kind.LOST, 2),
    ]
    assert alice.balance(LATER).ready == 4
    # The rest can still be tried; what is not there is not paid with.
    alice.pay(invoice, LATER)
    mint.drive(alice, LATER)
    assert alice.balance(LATER).ready == 1
    assert mint.withdrawn() == len(serials(again)) == 7


def test_tokens_of_dead_series_leave_no_gap(
    alice: Wallet, again: Wallet, mint: ModelMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More outputs died than a search passes over: those of a later period are found."""
    monkeypatch.setattr(lanes, "GAP", 64)
    for _ in range(3):
        alice.withdraw(0, NODE, 1 << 20, sign, START)
    now = START + 70 * DAY
    alice.expire(now)
    assert alice.unfinished() == ()
    fill(alice, mint, 3, now)
    assert mint.restore(again, now, EVERYONE) == 3


def test_large_series_are_looked_through_bucket_by_bucket(
    alice: Wallet, again: Wallet, bob: Wallet, mint: ModelMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BUCKET", 4)
    monkeypatch.setattr(model_mint, "PAGE", 5)
    fill(alice, mint, 40)
    paid(alice, bob, mint, 3, LATER)
    asked: list[Question] = []
    for member in mint.members:
        monkeypatch.setattr(member, "answer", noting(member, asked))
    assert mint.restore(again, LATER, EVERYONE) == 37
    buckets = {each for each in asked if each.what is What.OUTPUTS and not each.first_page}
    assert {each.bits for each in buckets} == {3}
    assert buckets <= {Question(What.OUTPUTS, 0, 3, prefix) for prefix in range(8)}


def noting(member: Member, asked: list[Question]) -> Callable[[Question], Answer]:
    def answer(question: Question) -> Answer:
        asked.append(question)
        return Member.answer(member, question)

    return answer


@pytest.mark.parametrize("lie", ["hides", "wrong shares", "all spent", "nonsense"])
def test_no_lie_of_one_member_hides_or_spends_anything(
    alice: Wallet, again: Wallet, mint: ModelMint, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    fill(alice, mint, 11)
    liar = mint.members[1]
    known = sorted(serials(alice))

    def answer(question: Question) -> Answer:
        honest = Member.answer(liar, question)
        match lie, question.what:
            case "hides", _:
                return Answer()
            case "wrong shares", What.OUTPUTS:
                shares = [row[1] for row in honest.rows]
                turned = zip(honest.rows, shares[1:] + shares[:1], strict=True)
                rows = [(row[0], share, bytes(32)) for row, share in turned]
                return Answer(rows, 1 << 60)
            case "all spent", What.SERIALS:
                return Answer([(serial, liar.issued_for) for serial in known], len(known))
            case "nonsense", What.OUTPUTS | What.SERIALS:
                return Answer([(row[0], b"\0" * 48, b"\0" * 32) for row in honest.rows], 0)
        return honest

    monkeypatch.setattr(liar, "answer", answer)
    assert mint.restore(again, LATER, EVERYONE) == 11
    audit(again, mint, LATER, 11)


def test_what_was_under_way_is_completed(alice: Wallet, again: Wallet, mint: ModelMint) -> None:
    """A withdrawal that two members issued, a swap that one locked, a swap that is certified."""
    fill(alice, mint, 4)
    first = alice.withdraw(0, NODE, 12, sign, LATER)
    assert first is not None
    mint.vote(first, alice, LATER, EVERYONE)
    (certified,) = alice.unfinished()
    mint.shares(certified, alice, LATER, [0, 3])
    swaps = alice.refresh(LATER, everything=True)
    mint.vote(swaps[0], alice, LATER, [2])
    assert len(serials(alice)) == 4
    assert mint.restore(again, LATER, EVERYONE, identity=NODE) == 0
    assert sorted(each.count for each in again.unfinished()) == [4, 8]
    audit(again, mint, LATER, 12)
    # The old one, come back, is told what became of its own.
    mint.drive(alice, LATER)
    assert serials(alice) & serials(again) == set()


def test_a_cheque_that_was_counted_and_lost_is_found_at_the_one_who_issued(
    alice: Wallet, again: Wallet, bob: Wallet, mint: ModelMint
) -> None:
    fill(bob, mint, 4)
    alice.receive(paid(bob, alice, mint, 4, LATER), mint.state(LATER), LATER)
    (receipt,) = alice.unfinished()
    mint.members[2].issue(decode_certificate(receipt.certificate), LATER)
    assert mint.restore(again, LATER, EVERYONE) == 0
    audit(again, mint, LATER, 4)


def test_a_file_that_was_put_back_is_restored_before_it_does_anything(
    tmp_path: Path, bob: Wallet, mint: ModelMint
) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    with made(home, WORDS) as wallet:
        fill(wallet, mint, 8)
        invoice = wallet.invoice(2, LATER + DAY, LATER)
        wallet.withdraw(0, NODE, 10, sign, LATER)
    shutil.copytree(home, kept)
    now = LATER + TERMS.rest
    state = mint.state(now)
    with Wallet.open(home, TERMS) as wallet:
        assert not wallet.is_copy
        mint.drive(wallet, LATER)
        bob.receive(paid(wallet, bob, mint, 7, LATER), state, LATER)
        mint.drive(bob, LATER)
        payment = bob.pay(invoice, now)
        mint.drive(bob, now)
        cheque = bob.cheque(payment.number)
        assert wallet.receive(cheque, state, now) == Received(2, 0)
        mint.drive(wallet, now)
        left = serials(wallet)
    shutil.rmtree(home)
    shutil.copytree(kept, home)
    with Wallet.open(home, TERMS) as wallet:
        assert wallet.is_copy
        assert wallet.balance(now).ready == 8
        with pytest.raises(NeedsRestore, match="fog wallet restore"):
            wallet.withdraw(0, NODE, 20, sign, now)
        mint.restore(wallet, now, EVERYONE, identity=NODE)
        assert serials(wallet) == left
        assert wallet.receive(cheque, state, now) == Received(0, 2)
        audit(wallet, mint, now, 5)
    with Wallet.open(home, TERMS) as wallet:
        assert not wallet.is_copy
    # The database alone, into the file that is there.
    (home / "wallet.db").write_bytes((kept / "wallet.db").read_bytes())
    with Wallet.open(home, TERMS) as wallet:
        assert wallet.is_copy


def test_a_node_goes_on_withdrawing_where_it_was(tmp_path: Path, mint: ModelMint) -> None:
    allotted = mint.allot(NODE, 100)
    folders = [tmp_path / "node", tmp_path / "node again"]
    new_wallet(folders[0], WORDS, Role.NODE)
    Wallet.create(folders[1], NETWORK, Role.NODE, WORDS)
    with Wallet.open(folders[0], TERMS) as node:
        fill(node, mint, 70)
    with Wallet.open(folders[1], TERMS) as node:
        assert mint.restore(node, LATER, EVERYONE, identity=NODE) == 70
        fill(node, mint, allotted, LATER)
        assert len(serials(node)) == 100 == mint.withdrawn()


def test_branches_that_stay_empty_do_not_hide_later_ones(
    tmp_path: Path, mint: ModelMint, again: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is put back over and over, with nothing in it, and then used."""
    monkeypatch.setattr(lanes, "GAP", 64)
    home = tmp_path / "home"
    made(home, WORDS).close()
    for number in range(6):
        shutil.copytree(home, tmp_path / f"copy {number}")
        home = tmp_path / f"copy {number}"
        with Wallet.open(home, TERMS) as wallet:
            mint.restore(wallet, START, EVERYONE)
    with Wallet.open(home, TERMS) as wallet:
        fill(wallet, mint, 4)
        assert {token.place.branch for token in wallet.tokens()} == {2}
    assert mint.restore(again, START, EVERYONE) == 4
