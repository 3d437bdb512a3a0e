"""`fog wallet` where no network runs: what needs none, and what is refused in words."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fogbank.client.wallet.derivation import Place, Role
from fogbank.client.wallet.records import Change, Token
from fogbank.client.wallet.store_shell import Wallet
from fogbank.client.wallet.terms import Terms
from fogbank.directory.addresses import Address
from fogbank.nodes.home import Home
from fogbank.relay.keystore_shell import KeyStore
from fogbank.testnet.layout import make_network
from tests.system.networks import command, environment, fog

OLD, NEW = "FOG_WALLET_PASSPHRASE", "FOG_WALLET_NEW_PASSPHRASE"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user of a network that nobody runs."""
    return a_home(tmp_path, start=1_800_000_000)


def a_home(tmp_path: Path, start: int) -> Path:
    """Make it; the network began at `start`, in seconds since 1970."""
    store = KeyStore.create(tmp_path / "keys", start)
    text = make_network([(store, "authority1", Address("127.0.0.1", 9))], bytes(32), start)
    folder = tmp_path / "home"
    Home(folder).set_network(text)
    return folder


def said(home: Path, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> str:
    """Run a `fog wallet` command; return its output, or if it fails what it says."""
    answer = fog("wallet", *arguments, stdin=stdin, home=home)
    assert answer.returncode == code, answer.stderr.decode()
    return (answer.stderr if code else answer.stdout).decode().strip()


def test_a_wallet_is_made_when_it_is_first_needed_and_kept(home: Path, tmp_path: Path) -> None:
    assert "no wallet" in said(home, "balance", code=125)
    invoice = said(home, "receive", "3")
    assert invoice.startswith("foginvoice1")
    found = json.loads(said(home, "balance", "--json"))
    assert (found["schema"], found["ready"]) == ("fogbank.wallet-balance/1", 0)
    words = said(home, "backup")
    assert len(words.split()) == 12
    assert json.loads(said(home, "backup", "--json")) == {
        "schema": "fogbank.wallet-words/1",
        "words": words,
    }
    assert said(home, "history") == ""
    made = json.loads(said(home, "receive", "2", "--json", "-o", tmp_path / "invoice"))
    assert (made["schema"], made["amount"]) == ("fogbank.invoice/1", 2)
    assert (tmp_path / "invoice").read_text().strip() == made["invoice"] != invoice


def test_what_is_no_invoice_or_cheque_is_refused_in_words(home: Path, tmp_path: Path) -> None:
    said(home, "receive", "1")
    for arguments, stdin, why in (
        (("receive", "0"), b"", "1 to 64"),
        (("receive", "65"), b"", "1 to 64"),
        (("receive", "fogcheque1AAAA"), b"", "copied"),
        (("receive", "-"), b"foginvoice1AAAA", "fogcheque1"),
        (("send", "-"), b"nothing of the kind", "foginvoice1"),
        (("send", tmp_path / "missing"), b"", "a text that begins with foginvoice1"),
        (("receive", "3x"), b"", "a text that begins with fogcheque1"),
        (("send",), b"", "--again"),
        (("send", "--again", "7"), b"", "no payment 7"),
        (("withdraw",), b"", "--dir"),
        (("balance", "--dir", tmp_path), b"", "no node"),
    ):
        assert why in said(home, *arguments, stdin=stdin, code=125)


def test_a_passphrase_is_never_an_argument(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = said(home, "backup")
    assert NEW in said(home, "encrypt", code=125)
    monkeypatch.setenv(NEW, "open sesame")
    said(home, "encrypt")
    assert OLD in said(home, "backup", code=125)
    monkeypatch.setenv(OLD, "open barley")
    assert "passphrase" in said(home, "backup", code=125)
    monkeypatch.delenv(OLD)
    reading, writing = os.pipe()
    os.write(writing, b"open sesame\n")
    os.close(writing)
    answer = subprocess.run(
        command(("wallet", "backup", "--passphrase-fd", str(reading))),
        pass_fds=(reading,),
        capture_output=True,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        timeout=90,
        check=True,
    )
    os.close(reading)
    assert answer.stdout.decode().strip() == words
    monkeypatch.setenv(OLD, "open sesame")
    said(home, "decrypt")
    monkeypatch.delenv(OLD)
    assert said(home, "backup") == words


def test_a_clock_alone_lets_no_token_be_forgotten(tmp_path: Path) -> None:
    """Without the network nobody says that the clock is right."""
    home = a_home(tmp_path, start=1_000_000_000)
    Wallet.create(home / "wallet", Home(home).network().network_id, Role.CLIENT)
    place = Place(Role.CLIENT, 0, 0, 0)
    terms = Terms.of(Home(home).network())
    with Wallet.open(home / "wallet", terms) as wallet:
        wallet._change(lambda _: Change((Token(place, 0, bytes(32), bytes(48)),)))
    said(home, "receive", "1")
    assert json.loads(said(home, "balance", "--json"))["too_old"] == 1
