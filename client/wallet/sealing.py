"""How what a wallet keeps is sealed on the disk (spec/09 §8.4). Pure: random bytes are arguments.

All rows are sealed by one random *data key*. The data key itself lies beside them: plainly, or
sealed by a key that Argon2id makes of a passphrase. So a change of the passphrase rewrites a few
bytes at once, and no row.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Final

import nacl.exceptions
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from fogbank.client.wallet.errors import WalletError, WalletLocked
from fogbank.relay.codec import decode_record, encode
from fogbank.relay.errors import ProtocolError

KEY_SIZE: Final = SecretBox.KEY_SIZE
NONCE_SIZE: Final = SecretBox.NONCE_SIZE
SALT_SIZE: Final = argon2id.SALTBYTES
LOCK_LIMIT: Final = 512
_VERSION: Final = 1
_NAME: Final = b"fogbank-row-v1"
_SEALED_KEY: Final = NONCE_SIZE + KEY_SIZE + SecretBox.MACBYTES
_LONGEST_PASSPHRASE: Final = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a guess of the passphrase costs: passes, and bytes of memory."""

    passes: int = argon2id.OPSLIMIT_MODERATE
    memory: int = argon2id.MEMLIMIT_MODERATE


MODERATE: Final = Cost()
_MOST: Final = Cost(64, 4 << 30)
_LEAST: Final = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)


class Sealer:
    """Seals and opens rows with one data key; it never shows it."""

    __slots__ = ("_box",)

    def __init__(self, key: bytes) -> None:
        self._box = SecretBox(key)

    def seal(self, data: bytes, nonce: bytes) -> bytes:
        """Return `data` sealed, under 24 random bytes that are used once."""
        return bytes(self._box.encrypt(data, nonce))

    def open(self, data: bytes) -> bytes:
        """Return what was sealed; raise `WalletError` if it is not whole."""
        try:
            return self._box.decrypt(data)
        except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
            raise WalletError(
                "the wallet's file is damaged: move it away, and restore the wallet from its words"
            ) from error

    def name(self, data: bytes) -> bytes:
        """Return what a row is named, which tells nothing of it."""
        return hashlib.blake2b(data, digest_size=16, key=bytes(self._box), person=_NAME).digest()

    def lock(self) -> bytes:
        """Return the lock that holds the data key plainly."""
        return encode({1: _VERSION, 2: bytes(self._box)})

    def lock_with(self, passphrase: str, salt: bytes, nonce: bytes, cost: Cost = MODERATE) -> bytes:
        """Return the lock that only `passphrase` opens; it takes a second, and much memory."""
        box = SecretBox(_stretched(passphrase, salt, cost))
        sealed = bytes(box.encrypt(bytes(self._box), nonce))
        return encode({1: _VERSION, 3: salt, 4: cost.passes, 5: cost.memory, 6: sealed})

    def __repr__(self) -> str:
        return "<Sealer>"


def needs_passphrase(lock: bytes) -> bool:
    """Tell whether a lock holds the data key sealed; raise `WalletError` if it is no lock."""
    return not _read(lock).plain


def unlock(lock: bytes, passphrase: str | None) -> Sealer:
    """Open a lock; raise `WalletLocked` if it wants a passphrase, and this is not it."""
    read = _read(lock)
    if read.plain:
        return Sealer(read.plain)
    if passphrase is None:
        raise WalletLocked("the wallet is sealed: its passphrase is needed")
    box = SecretBox(_stretched(passphrase, read.salt, read.cost))
    try:
        return Sealer(box.decrypt(read.sealed))
    except nacl.exceptions.CryptoError as error:
        raise WalletLocked("this is not the wallet's passphrase: try again") from error


@dataclass(frozen=True, slots=True, repr=False)
class _Lock:
    """A lock's fields: `plain` is the data key, or empty if it is sealed."""

    plain: bytes = b""
    salt: bytes = b""
    cost: Cost = MODERATE
    sealed: bytes = b""


def _read(lock: bytes) -> _Lock:
    try:
        record = decode_record(lock, LOCK_LIMIT, "the wallet's lock")
        record.uint(1, _VERSION, _VERSION)
        if record.has(2):
            found = _Lock(record.fixed(2, KEY_SIZE))
        else:
            found = _Lock(
                salt=record.fixed(3, SALT_SIZE),
                cost=Cost(
                    record.uint(4, _MOST.passes, _LEAST.passes),
                    record.uint(5, _MOST.memory, _LEAST.memory),
                ),
                sealed=record.fixed(6, _SEALED_KEY),
            )
        record.done()
    except ProtocolError as error:
        raise WalletError(
            "the wallet's lock is damaged, or of a later fogbank: upgrade, or move the wallet's "
            f"folder away and restore it from its words ({error})"
        ) from error
    return found


def _stretched(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    """Return the key that a passphrase gives; raise `WalletError` if it is none."""
    data = unicodedata.normalize("NFKC", passphrase).encode()
    if not 0 < len(data) <= _LONGEST_PASSPHRASE:
        raise WalletError("a passphrase has 1 to 1024 bytes: choose another")
    return argon2id.kdf(KEY_SIZE, data, salt, cost.passes, cost.memory)
