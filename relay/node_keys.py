"""A node's own keys: what is due for renewal, and the bytes in which they are kept (spec/01 §2).

The identity's secret is not among them: it is needed only to certify a signing key, and may be
kept elsewhere. Everything else is one value, so that a node's keys change all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fogbank.relay.certificates import (
    CLOCK_SKEW,
    LINK_LIFETIME,
    ONION_LIFETIME,
    ONION_OVERLAP,
    SIGNING_LIFETIME,
    Chain,
    Use,
    issue,
    open_certificate,
)
from fogbank.relay.codec import decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId, Signed, X25519Key
from fogbank.relay.link.handshake import LinkCredentials

STORE_LIMIT = 8192
KEY_FILE_LIMIT = 256
SIGNING_RENEWAL = SIGNING_LIFETIME * 2 // 3
LINK_RENEWAL = LINK_LIFETIME // 2
ONION_KEYS_MAX = 3

_STORE_VERSION = 1
_REQUEST = "signing request"

Random = Callable[[int], bytes]
"""Gives that many random bytes."""


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A secret of 32 bytes, when it was made, and the certificate of its public key."""

    seed: bytes = field(repr=False)
    made: int
    certificate: Signed

    def due(self, now: float, age: int) -> bool:
        """Tell whether the key is `age` seconds old, or was made when the clock was wrong."""
        return not self.made - CLOCK_SKEW <= now < self.made + age

    def value(self) -> list[Any]:
        """Return the CBOR value."""
        return [self.seed, self.made, self.certificate.value()]


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """All keys of a node but its identity's secret. Onion keys are newest first."""

    identity: NodeId
    signing: CertifiedKey
    link: CertifiedKey
    onion: tuple[CertifiedKey, ...]

    @classmethod
    def first(cls, identity: Ed25519Key, now: float, random: Random) -> NodeKeys:
        """Make a new node's keys."""
        signing = _certify(identity, Use.SIGNING, random(KEY_LENGTH), int(now))
        key = Ed25519Key(signing.seed)
        link = _certify(key, Use.LINK, random(KEY_LENGTH), int(now))
        onion = _certify(key, Use.ONION, random(KEY_LENGTH), int(now))
        return cls(identity.public, signing, link, (onion,))

    def signing_due(self, now: float) -> bool:
        """Tell whether the signing key should be renewed, for which the identity is needed."""
        return self.signing.due(now, SIGNING_RENEWAL)

    def expired(self, now: float) -> bool:
        """Tell whether the signing key cannot be used any more, and with it all others."""
        return self.signing.due(now, SIGNING_LIFETIME)

    def renewed(self, now: float, random: Random, identity: Ed25519Key | None = None) -> NodeKeys:
        """Return these keys with all renewed that is due; the signing key only with `identity`."""
        keys = self
        if identity is not None and self.signing_due(now):
            keys = keys._with_signing(_certify(identity, Use.SIGNING, random(KEY_LENGTH), int(now)))
        signing = Ed25519Key(keys.signing.seed)
        if keys.link.due(now, LINK_RENEWAL):
            link = _certify(signing, Use.LINK, random(KEY_LENGTH), int(now))
            keys = replace(keys, link=link)
        accepted = tuple(k for k in keys.onion if not k.due(now, ONION_LIFETIME + ONION_OVERLAP))
        if not accepted or accepted[0].due(now, ONION_LIFETIME):
            fresh = _certify(signing, Use.ONION, random(KEY_LENGTH), int(now))
            accepted = (fresh, *accepted)[:ONION_KEYS_MAX]
        return replace(keys, onion=accepted)

    def with_certificate(self, seed: bytes, certificate: Signed, now: float) -> NodeKeys:
        """Return these keys with a signing key that was certified elsewhere.

        Raises `ProtocolError` unless this node's identity certified it, in force at `now` and for
        the usual time.
        """
        opened = open_certificate(certificate, Use.SIGNING, now, self.identity)
        if opened.subject != Ed25519Key(seed).public:
            raise ProtocolError("this certificate is of another key than the one asked for")
        if opened.expires - opened.not_before != SIGNING_LIFETIME:
            raise ProtocolError("this certificate is not for the time that a signing key lives")
        return self._with_signing(CertifiedKey(seed, opened.not_before, certificate))

    def _with_signing(self, signing: CertifiedKey) -> NodeKeys:
        """Certify the same link and onion keys, with the same ages, by another signing key."""
        key = Ed25519Key(signing.seed)
        link = _certify(key, Use.LINK, self.link.seed, self.link.made)
        onion = tuple(_certify(key, Use.ONION, old.seed, old.made) for old in self.onion)
        return NodeKeys(self.identity, signing, link, onion)

    def chain(self) -> Chain:
        """Return what the node shows of itself."""
        return Chain(self.signing.certificate, self.link.certificate, self.onion[0].certificate)

    def credentials(self) -> LinkCredentials:
        """Return what the node proves itself with on a link."""
        return LinkCredentials(self.identity, self.chain(), Ed25519Key(self.link.seed))

    def encode(self) -> bytes:
        """Return the keys' bytes, for the node's own disk."""
        onion = [key.value() for key in self.onion]
        link, signing = self.link.value(), self.signing.value()
        return encode({0: _STORE_VERSION, 1: self.identity, 2: signing, 3: link, 4: onion})

    @classmethod
    def decode(cls, data: bytes) -> NodeKeys:
        """Read what `encode` wrote; raise `ProtocolError` if any key or certificate was altered."""
        record = decode_record(data, STORE_LIMIT, "key store")
        if record.uint(0) != _STORE_VERSION:
            raise ProtocolError("a key store was written by a later version")
        identity = record.fixed(1, KEY_LENGTH)
        signing = _decode_key(record.array(2, 3, _as_is), Use.SIGNING, identity)
        issuer = Ed25519Key(signing.seed).public
        link = _decode_key(record.array(3, 3, _as_is), Use.LINK, issuer)
        onion = record.array(4, ONION_KEYS_MAX, lambda value: _decode_key(value, Use.ONION, issuer))
        record.done()
        if not onion:
            raise ProtocolError("a key store holds no onion key")
        return cls(identity, signing, link, onion)


def encode_key(kind: str, key: Ed25519Key) -> bytes:
    """Return the bytes of a file that holds one secret; `kind` says whose it is."""
    return encode({0: kind, 1: key.seed(), 2: key.public})


def decode_key(kind: str, data: bytes) -> Ed25519Key:
    """Read what `encode_key` wrote; raise `ProtocolError` if it is another kind's, or altered."""
    record = decode_record(data, KEY_FILE_LIMIT, f"{kind} key")
    found = record.text(0, 16)
    key = Ed25519Key(record.fixed(1, KEY_LENGTH))
    public = record.fixed(2, KEY_LENGTH)
    record.done()
    if found != kind or key.public != public:
        raise ProtocolError(f"this is no whole {kind} key")
    return key


def encode_request(identity: NodeId, signing: bytes) -> bytes:
    """Return the bytes that ask an identity kept elsewhere to certify a public signing key."""
    return encode({0: _REQUEST, 1: identity, 2: signing})


def answer_request(data: bytes, identity: Ed25519Key, now: float) -> tuple[bytes, Signed]:
    """Return the public key that a request names, and the identity's certificate of it.

    Raises `ProtocolError` if it is no request to this identity.
    """
    record = decode_record(data, KEY_FILE_LIMIT, "signing request")
    if record.text(0, 32) != _REQUEST:
        raise ProtocolError("this is no request for a signing certificate")
    asked, signing = record.fixed(1, KEY_LENGTH), record.fixed(2, KEY_LENGTH)
    record.done()
    if asked != identity.public:
        raise ProtocolError("this request is to another node's identity")
    return signing, issue(identity, Use.SIGNING, signing, now, SIGNING_LIFETIME)


_LIFETIMES = {
    Use.SIGNING: SIGNING_LIFETIME,
    Use.LINK: LINK_LIFETIME,
    Use.ONION: ONION_LIFETIME + ONION_OVERLAP,
}


def _public(seed: bytes, use: Use) -> bytes:
    return X25519Key(seed).public if use is Use.ONION else Ed25519Key(seed).public


def _certify(issuer: Ed25519Key, use: Use, seed: bytes, made: int) -> CertifiedKey:
    certificate = issue(issuer, use, _public(seed, use), made, _LIFETIMES[use])
    return CertifiedKey(seed, made, certificate)


def _as_is(value: Any) -> Any:
    return value


def _decode_key(value: Any, use: Use, issuer: bytes) -> CertifiedKey:
    match value:
        case [bytes(seed), int(made), document] if len(seed) == KEY_LENGTH and type(made) is int:
            certificate = Signed.from_value(document)
            opened = open_certificate(certificate, use, made, issuer)
            if opened.not_before != made or opened.subject != _public(seed, use):
                raise ProtocolError("a certificate is another key's than the one beside it")
            return CertifiedKey(seed, made, certificate)
        case _:
            raise ProtocolError("a key is not [secret, time, certificate]")
