"""What a wallet keeps is opened with its data key alone, and that with the passphrase alone."""

from __future__ import annotations

import pytest
from nacl.pwhash import argon2id

from fogbank.client.wallet.errors import WalletError, WalletLocked
from fogbank.client.wallet.sealing import (
    KEY_SIZE,
    LOCK_LIMIT,
    MODERATE,
    NONCE_SIZE,
    SALT_SIZE,
    Cost,
    Sealer,
    needs_passphrase,
    unlock,
)
from fogbank.relay.codec import decode, encode

CHEAP = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
KEY = bytes(range(KEY_SIZE))
NONCE = bytes(NONCE_SIZE)
SALT = bytes(SALT_SIZE)


def test_a_plain_lock_opens_without_a_passphrase() -> None:
    sealer = Sealer(KEY)
    again = unlock(sealer.lock(), None)
    assert not needs_passphrase(sealer.lock())
    assert again.open(sealer.seal(b"a row", NONCE)) == b"a row"


def test_a_sealed_lock_opens_with_its_passphrase_alone() -> None:
    sealer = Sealer(KEY)
    lock = sealer.lock_with("Grüße", SALT, NONCE, CHEAP)
    assert needs_passphrase(lock)
    assert KEY not in lock
    # The same text, typed on another keyboard.
    assert unlock(lock, "Gru\u0308\u00dfe").lock() == sealer.lock()
    for wrong in (None, "grüße", "x"):
        with pytest.raises(WalletLocked):
            unlock(lock, wrong)
    with pytest.raises(WalletError, match="choose another"):
        sealer.lock_with("", SALT, NONCE, CHEAP)


def test_a_guess_costs_what_the_library_calls_moderate() -> None:
    fields = decode(Sealer(KEY).lock_with("long enough", SALT, NONCE), LOCK_LIMIT)
    assert (fields[4], fields[5]) == (MODERATE.passes, MODERATE.memory)
    assert MODERATE.passes >= 3
    assert MODERATE.memory >= 256 << 20


def test_what_was_tampered_with_does_not_open() -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"a row", NONCE)
    for wrong in (sealed[:-1], bytes([sealed[0] ^ 1]) + sealed[1:], b"", sealed + b"x"):
        with pytest.raises(WalletError, match="damaged"):
            sealer.open(wrong)
    lock = sealer.lock_with("passphrase", SALT, NONCE, CHEAP)
    fields = decode(lock, LOCK_LIMIT)
    for wrong_lock in (
        b"",
        lock[:-1],
        encode({**fields, 1: 2}),
        encode({**fields, 5: 1 << 40}),
        encode({**fields, 7: 0}),
    ):
        with pytest.raises(WalletError, match="damaged"):
            unlock(wrong_lock, "passphrase")


def test_nothing_secret_is_shown() -> None:
    assert repr(Sealer(KEY)) == "<Sealer>"
