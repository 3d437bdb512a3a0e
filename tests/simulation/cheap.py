"""What costs a simulation time and tells it nothing: pure functions, computed once for all nodes.

All nodes of a run share one process, so that what one has computed serves the others: whether a
signature holds, and the secret of two X25519 keys, which both sides compute. ML-KEM keys come from
a small pool, each with one encapsulation to it; the X25519 half of a handshake stays fresh, and
with it every key of a circuit. What is forged or altered is found nowhere here: it takes the
real way and fails as it must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

import nacl.bindings
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from fogbank.relay import handshake
from fogbank.relay.keys import X25519Key

_POOL = 16
_REMEMBERED = 1 << 14

_really_open = nacl.bindings.crypto_sign_open
_really_exchange = X25519Key.exchange
_really_encapsulate = handshake._encapsulate

_encapsulated = lru_cache(_POOL)(_really_encapsulate)


_held: dict[bytes, None] = {}
"""Digests of what was verified: with the documents themselves these would take much memory."""


def _opened(signed: bytes, public: bytes) -> bytes:
    digest = hashlib.sha256(public + signed).digest()
    if digest not in _held:
        _really_open(signed, public)
        if len(_held) >= _REMEMBERED:
            del _held[next(iter(_held))]
        _held[digest] = None
    return signed[nacl.bindings.crypto_sign_BYTES :]


class _Kem:
    """A key of the pool, which knows the secret of the one ciphertext that others make to it."""

    def __init__(self, number: int) -> None:
        self._key = MLKEM768PrivateKey.from_seed_bytes(bytes([number]) * 64)
        self._public = self._key.public_key()
        self._ek = self._public.public_bytes_raw()

    @classmethod
    def from_seed_bytes(cls, seed: bytes) -> _Kem:
        """Return the key of the pool that a seed stands for."""
        return _kem(seed[0] % _POOL)

    def public_key(self) -> _Kem:
        """Return what has the raw bytes of the public key."""
        return self

    def public_bytes_raw(self) -> bytes:
        """Return the public key's bytes."""
        return self._ek

    def decapsulate(self, ct: bytes) -> bytes:
        """Return the secret of a ciphertext."""
        secret, known = _encapsulated(self._ek)
        return secret if ct == known else self._key.decapsulate(ct)


_kem = lru_cache(_POOL)(_Kem)
_POOLED = frozenset(_kem(number).public_bytes_raw() for number in range(_POOL))


def _encapsulate(ek: bytes) -> tuple[bytes, bytes]:
    return (_encapsulated if ek in _POOLED else _really_encapsulate)(ek)


@contextmanager
def cheap() -> Iterator[None]:
    """Have the nodes of this process share what they compute."""
    shared: dict[frozenset[bytes], bytes] = {}

    def exchange(key: X25519Key, peer: bytes) -> bytes:
        pair = frozenset((key.public, peer))
        secret = shared.pop(pair, None)
        if secret is None:
            secret = _really_exchange(key, peer)
            if len(shared) >= _REMEMBERED:
                del shared[next(iter(shared))]
            shared[pair] = secret
        return secret

    with (
        patch.object(nacl.bindings, "crypto_sign_open", _opened),
        patch.object(X25519Key, "exchange", exchange),
        patch.object(handshake, "MLKEM768PrivateKey", _Kem),
        patch.object(handshake, "_encapsulate", _encapsulate),
    ):
        yield
