"""A wallet's file: what it shows, who may change it, and what a kill leaves of it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from nacl.pwhash import argon2id

from fogbank.client.wallet import folder_shell, vault_shell
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.errors import (
    NoWallet,
    WalletBusy,
    WalletError,
    WalletExists,
    WalletLocked,
)
from fogbank.client.wallet.sealing import Cost, Sealer
from fogbank.client.wallet.store_shell import Wallet, wallet_exists
from fogbank.client.wallet.tables import MIGRATIONS
from tests.mint.curve import NETWORK
from tests.wallet.model_mint import DAY, NODE, START, TERMS, ModelMint, new_wallet, sign
from tests.wallet.mortal import Killed, mortal
from tests.wallet.test_wallet import LATER, fill, made

ENTROPY = b"a secret of mine"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "wallet"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a passphrase cost little."""
    cost = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
    monkeypatch.setattr(Sealer.lock_with, "__defaults__", (cost,))


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_nothing_on_the_disk_is_readable(home: Path, tmp_path: Path) -> None:
    mint = ModelMint()
    with made(home, ENTROPY) as wallet, made(tmp_path / "bob", b"b" * 16) as bob:
        fill(wallet, mint, 12)
        wallet.invoice(3, LATER + DAY, LATER)
        wallet.pay(bob.invoice(5, LATER + DAY, LATER), LATER)
        wallet.withdraw(0, NODE, 13, sign, LATER)
        secrets = [ENTROPY, NODE, NETWORK, b"withdrew"]
        for token in wallet.tokens():
            secrets += [token.serial, token.signature]
        for request in wallet.unfinished():
            secrets += [request.id, request.signed]
            secrets += [output.blinded for output in wallet.outputs(request.id)]
        for offer in wallet.offers():
            secrets += offer.blinded
        written = bytes_of(home)
        assert len(secrets) > 35
        assert not [secret for secret in secrets if secret in written]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (home, *home.iterdir())]
    assert not any(mode & 0o077 for mode in modes)


@pytest.mark.usefixtures("cheap")
def test_a_passphrase_keeps_everything_and_is_needed(home: Path) -> None:
    mint = ModelMint()
    with made(home, ENTROPY) as wallet:
        fill(wallet, mint, 3)
        plain = bytes_of(home)
        wallet.protect("open sesame")
        assert wallet.is_protected
        words = wallet.words()
    key = data_key(home / "wallet.db", plain)
    assert key not in bytes_of(home), "the data key is left somewhere"
    for wrong in (None, lambda: "open says me"):
        with pytest.raises(WalletLocked):
            Wallet.open(home, TERMS, wrong)
    with Wallet.open(home, TERMS, lambda: "open sesame") as wallet:
        assert wallet.words() == words
        assert wallet.balance(LATER).ready == 3
        wallet.protect(None)
    with Wallet.open(home, TERMS) as wallet:
        assert wallet.balance(LATER).ready == 3


def data_key(path: Path, before: bytes) -> bytes:
    """Return the data key that lay in the file before it was sealed."""
    at = before.index(bytes.fromhex("a20101025820")) + 6
    return before[at : at + 32]


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("after", [False, True])
def test_a_passphrase_is_changed_whole_or_not_at_all(home: Path, after: bool) -> None:
    phrase: str | None = None
    made(home, ENTROPY).close()
    for new in ("first", "second", None, "third"):
        with pytest.raises(Killed), opened_by(home, phrase) as wallet, mortal(0, after=after):
            wallet.protect(new)
        phrase = new if after else phrase
        with opened_by(home, phrase) as wallet:
            assert wallet.is_protected == (phrase is not None)
            wallet.protect(new)
        phrase = new


def opened_by(home: Path, phrase: str | None) -> Wallet:
    return Wallet.open(home, TERMS, lambda: phrase or "")


def test_rows_in_each_others_place_are_refused(home: Path) -> None:
    with made(home, ENTROPY) as wallet:
        fill(wallet, ModelMint(), 2)
    db = sqlite3.connect(home / "wallet.db", isolation_level=None)
    (first, one), (second, other), *_ = db.execute("SELECT name, sealed FROM record").fetchall()
    db.execute("UPDATE record SET sealed = ? WHERE name = ?", (other, first))
    db.execute("UPDATE record SET sealed = ? WHERE name = ?", (one, second))
    with pytest.raises(WalletError, match="tampered"):
        Wallet.open(home, TERMS)
    db.execute("UPDATE record SET sealed = ? WHERE name = ?", (one[:-1] + b"\0\0", first))
    with pytest.raises(WalletError, match="damaged"):
        Wallet.open(home, TERMS)
    db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(WalletError, match="later fogbank"):
        Wallet.open(home, TERMS)


@pytest.mark.parametrize("at", [0, 4096, 8192, 12288, 16384])
def test_a_damaged_file_is_told_in_words(home: Path, at: int) -> None:
    with made(home, ENTROPY) as wallet:
        fill(wallet, ModelMint(), 40)
    path = home / "wallet.db"
    data = bytearray(path.read_bytes())
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(WalletError, match="damaged"):
        Wallet.open(home, TERMS).history()


def test_a_reader_beside_a_writer_sees_no_copy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(home, ENTROPY).close()
    with Wallet.open(home, TERMS) as writer:
        count = folder_shell.count_of

        def meanwhile(folder: Path) -> int:
            before = count(folder)
            writer.invoice(1, START + DAY, START)
            return before

        monkeypatch.setattr(vault_shell, "count_of", meanwhile)
        with Wallet.open(home, TERMS, read_only=True) as reader:
            assert not reader.is_copy


HOLD = """
import sys
from pathlib import Path
from tests.wallet.model_mint import TERMS
from fogbank.client.wallet.store_shell import Wallet
with Wallet.open(Path(sys.argv[1]), TERMS):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_changes_a_wallet(home: Path) -> None:
    made(home, ENTROPY).close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(WalletBusy, match="another process"):
            Wallet.open(home, TERMS)
        with Wallet.open(home, TERMS, read_only=True) as reader:
            assert reader.balance(START).ready == 0
            with pytest.raises(WalletBusy):
                reader.invoice(1, START + DAY, START)
            with pytest.raises(WalletBusy):
                reader.protect("a")
        other.stdin.close()
    Wallet.open(home, TERMS).close()


def test_a_wallet_is_made_once_and_of_one_network(home: Path) -> None:
    assert not wallet_exists(home)
    with pytest.raises(NoWallet):
        Wallet.open(home, TERMS)
    for after in (False, True):
        with pytest.raises(Killed), mortal(0, after=after):
            new_wallet(home, ENTROPY, Role.NODE)
        assert wallet_exists(home) == after
    with pytest.raises(WalletExists):
        Wallet.create(home, NETWORK, Role.CLIENT)
    with Wallet.open(home, TERMS) as wallet:
        assert wallet.role is Role.NODE
    other = type(TERMS)(bytes(32), TERMS.calendar, TERMS.rest)
    with pytest.raises(WalletError, match="another network"):
        Wallet.open(home, other)


def test_a_full_disk_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with made(home, ENTROPY) as wallet:
        database = wallet._vault._database
        database._writer.execute("PRAGMA max_page_count = 1")
        with pytest.raises(WalletError, match="make room"):
            wallet.invoice(64, START + DAY, START)
        offers = wallet.offers()
    with Wallet.open(home, TERMS) as wallet:
        assert sorted(wallet.offers(), key=lambda each: each.number) == sorted(
            offers, key=lambda each: each.number
        )
