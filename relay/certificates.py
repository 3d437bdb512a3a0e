"""Certificates: which short-lived keys an identity stands for (spec/01 §4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fogbank.relay.codec import decode, decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId, Signed

CERT_LABEL = "fogbank-cert-v1"
CERT_LIMIT = 512
CHAIN_LIMIT = 3 * CERT_LIMIT + 16

DAY = 86_400
SIGNING_LIFETIME = 30 * DAY
LINK_LIFETIME = 2 * DAY
ONION_LIFETIME = 7 * DAY
ONION_OVERLAP = DAY
FAMILY_LIFETIME = 365 * DAY
CLOCK_SKEW = 600
"""Seconds by which a peer's clock may differ (spec/01 §4)."""


class Use(IntEnum):
    """What a certified key may be used for."""

    SIGNING = 1
    LINK = 2
    ONION = 3
    FAMILY = 4


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate's fields; times in seconds. Only `open_certificate` makes a trusted one."""

    use: Use
    subject: bytes
    issuer: bytes
    not_before: int
    expires: int

    def encode_body(self) -> bytes:
        """Return the bytes that the issuer signs."""
        return encode(
            {1: self.use, 2: self.subject, 3: self.issuer, 4: self.not_before, 5: self.expires}
        )


def issue(key: Ed25519Key, use: Use, subject: bytes, now: float, lifetime: int) -> Signed:
    """Certify `subject` for `use` from `now` on, for `lifetime` seconds."""
    cert = Certificate(use, subject, key.public, int(now), int(now) + lifetime)
    return Signed.make(key, CERT_LABEL, cert.encode_body())


def open_certificate(
    signed: Signed, use: Use, now: float, issuer: bytes | None = None
) -> Certificate:
    """Return a certificate that is for `use`, in force at `now`, and signed by its issuer.

    With `issuer` None the certificate's own issuer field is taken: the caller must then check
    who that is. Raises `ProtocolError`.
    """
    if len(signed.body) > CERT_LIMIT:
        raise ProtocolError("a certificate is too large")
    record = decode_record(signed.body, CERT_LIMIT, "certificate")
    found_use = record.uint(1, 255)
    cert = Certificate(
        use,
        record.fixed(2, KEY_LENGTH),
        record.fixed(3, KEY_LENGTH),
        record.uint(4),
        record.uint(5),
    )
    record.done()
    if found_use != use:
        raise ProtocolError(f"a certificate of use {found_use} stands where {use.name} is needed")
    if issuer is not None and cert.issuer != issuer:
        raise ProtocolError("a certificate has another issuer than expected")
    if cert.expires <= cert.not_before:
        raise ProtocolError("a certificate expires before it begins")
    if now < cert.not_before - CLOCK_SKEW:
        raise ProtocolError("a certificate is not in force yet: is this machine's clock slow?")
    if now >= cert.expires:
        raise ProtocolError("a certificate has expired: is this machine's clock fast?")
    signed.verify(cert.issuer, CERT_LABEL)
    return cert


def issued_at(signed: Signed) -> int:
    """Return from when on a certificate says that it is in force; nothing is verified."""
    record = decode_record(signed.body, CERT_LIMIT, "certificate")
    return record.uint(4)


@dataclass(frozen=True, slots=True)
class ChainKeys:
    """What a verified chain proves: an identity and the keys it uses now."""

    identity: NodeId
    signing: bytes
    link: bytes
    onion: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """The certificates that a node shows on a link (spec/01 §4)."""

    signing: Signed
    link: Signed
    onion: Signed

    def encode(self) -> bytes:
        """Return the chain's bytes."""
        return encode([self.signing.value(), self.link.value(), self.onion.value()])

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Chain:
        """Take a chain apart; nothing is verified yet."""
        return cls.from_value(decode(data, CHAIN_LIMIT))

    @classmethod
    def from_value(cls, value: Any) -> Chain:
        """Take apart an already decoded `[signing, link, onion]`."""
        match value:
            case [signing, link, onion]:
                return cls(
                    Signed.from_value(signing), Signed.from_value(link), Signed.from_value(onion)
                )
            case _:
                raise ProtocolError("a certificate chain is not [signing, link, onion]")

    def verify(self, now: float) -> ChainKeys:
        """Return the keys that the chain proves at `now`; raise `ProtocolError` if it does not."""
        signing = open_certificate(self.signing, Use.SIGNING, now)
        link = open_certificate(self.link, Use.LINK, now, signing.subject)
        onion = open_certificate(self.onion, Use.ONION, now, signing.subject)
        return ChainKeys(signing.issuer, signing.subject, link.subject, onion.subject)
