"""Ed25519 and X25519 keys, and signatures that name their use (spec/01 §2, §3)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, TypeAlias

import nacl.bindings
import nacl.exceptions
import nacl.signing

from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError

KEY_LENGTH = 32
SIGNATURE_LENGTH = 64

NodeId: TypeAlias = bytes
"""A node's identity: the 32 bytes of its Ed25519 identity public key."""


class Ed25519Key:
    """A private Ed25519 key made from a 32-byte seed; it never shows its secret."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)

    def sign(self, label: str, body: bytes) -> bytes:
        """Return the 64-byte signature of `body` under `label` (spec/01 §3)."""
        return self._key.sign(_signed_bytes(label, body)).signature

    def seed(self) -> bytes:
        """Return the 32-byte seed, for a key store only."""
        return bytes(self._key)

    def __repr__(self) -> str:
        return f"<Ed25519Key {self.public.hex()[:8]}…>"


class X25519Key:
    """A private X25519 key made from 32 random bytes; it never shows its secret."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_LENGTH:
            raise ValueError("an X25519 secret has 32 bytes")
        self._secret = secret
        self.public: bytes = nacl.bindings.crypto_scalarmult_base(secret)

    def exchange(self, peer: bytes) -> bytes:
        """Return the shared secret with a peer's public key; refuse an all-zero result."""
        if len(peer) != KEY_LENGTH:
            raise ProtocolError("an X25519 public key has not 32 bytes")
        try:
            shared = nacl.bindings.crypto_scalarmult(self._secret, peer)
        except (nacl.exceptions.CryptoError, TypeError, ValueError) as error:
            raise ProtocolError("an X25519 public key is not valid") from error
        if not any(shared):
            raise ProtocolError("an X25519 public key gives an all-zero secret")
        return shared

    def seed(self) -> bytes:
        """Return the 32 secret bytes, for a key store only."""
        return self._secret

    def __repr__(self) -> str:
        return f"<X25519Key {self.public.hex()[:8]}…>"


def _signed_bytes(label: str, body: bytes) -> bytes:
    return label.encode("ascii") + b"\0" + body


def verify(public: bytes, label: str, body: bytes, signature: bytes) -> None:
    """Raise `ProtocolError` unless `signature` is `public`'s over `body` under `label`."""
    # A longer one would put bytes of its maker's choice before the label.
    if len(signature) != SIGNATURE_LENGTH:
        raise ProtocolError("a signature has not 64 bytes")
    try:
        # Joined at once: a body may be long, and each concatenation would copy it.
        signed = b"".join((signature, label.encode("ascii"), b"\0", body))
        nacl.bindings.crypto_sign_open(signed, public)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise ProtocolError("a signature does not verify") from error


_SIGNED_ITEMS = 3


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed document as it travels: exact body bytes and one signature (spec/01 §3)."""

    body: bytes
    signature: bytes

    @classmethod
    def make(cls, key: Ed25519Key, label: str, body: bytes) -> Signed:
        """Sign `body` with `key` under `label`."""
        return cls(body, key.sign(label, body))

    @classmethod
    def decode(cls, data: bytes | memoryview, limit: int) -> Signed:
        """Take apart at most `limit` bytes; nothing is verified yet."""
        return cls.from_value(decode(data, limit, _SIGNED_ITEMS))

    @classmethod
    def from_value(cls, value: Any) -> Signed:
        """Take apart an already decoded `[body, signature]`."""
        match value:
            case [bytes(body), bytes(signature)] if len(signature) == SIGNATURE_LENGTH:
                return cls(body, signature)
            case _:
                raise ProtocolError("a signed document is not [body, signature]")

    def value(self) -> list[bytes]:
        """Return the CBOR value, to be nested in another document."""
        return [self.body, self.signature]

    def encode(self) -> bytes:
        """Return the document's bytes."""
        return encode(self.value())

    def verify(self, public: bytes, label: str) -> bytes:
        """Return the body if `public` signed it under `label`; raise `ProtocolError` if not."""
        verify(public, label, self.body, self.signature)
        return self.body


def show_id(identity: bytes) -> str:
    """Return an identity as users see it: 52 characters of lower-case base32."""
    return base64.b32encode(identity).decode().rstrip("=").lower()


def parse_id(text: str) -> NodeId:
    """Read an identity as `show_id` writes it; raise `ValueError` with a sentence if it is none."""
    wrong = f"{text!r} is not a node identity (52 letters and digits)"
    stripped = text.strip().lower()
    try:
        identity = base64.b32decode(stripped.upper() + "====")
    except ValueError as error:
        raise ValueError(wrong) from error
    if len(identity) != KEY_LENGTH or show_id(identity) != stripped:
        raise ValueError(wrong)
    return identity
