"""Signatures of authorities, and the count of distinct ones (spec/05 §1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fogbank.directory.network import MAX_AUTHORITIES, NetworkDocument
from fogbank.relay.certificates import Use, open_certificate
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, SIGNATURE_LENGTH, Ed25519Key, NodeId, Signed, verify


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an authority signs with: its identity, signing key, and the certificate of that."""

    identity: NodeId
    key: Ed25519Key
    certificate: Signed

    def sign(self, label: str, body: bytes) -> AuthoritySignature:
        """Sign `body` under `label` as this authority."""
        return AuthoritySignature(self.identity, self.certificate, self.key.sign(label, body))


@dataclass(frozen=True, slots=True)
class AuthoritySignature:
    """One authority's signature over bytes that stand elsewhere: `[identity, certificate, sig]`."""

    identity: NodeId
    certificate: Signed
    signature: bytes

    def value(self) -> list[Any]:
        """Return the CBOR value."""
        return [self.identity, self.certificate.value(), self.signature]

    @classmethod
    def from_value(cls, value: Any) -> AuthoritySignature:
        """Take a decoded value apart; nothing is verified yet."""
        match value:
            case [bytes(identity), certificate, bytes(signature)] if (
                len(identity) == KEY_LENGTH and len(signature) == SIGNATURE_LENGTH
            ):
                return cls(identity, Signed.from_value(certificate), signature)
            case _:
                raise ProtocolError("a signature is not [identity, certificate, signature]")

    def verify(self, network: NetworkDocument, label: str, body: bytes, now: float) -> None:
        """Raise `ProtocolError` unless a pinned authority signed `body`, certified at `now`."""
        if not network.is_authority(self.identity):
            raise ProtocolError("a signature is of someone who is no authority of this network")
        certificate = open_certificate(self.certificate, Use.SIGNING, now, self.identity)
        verify(certificate.subject, label, body, self.signature)


def signatures_from_value(value: Any) -> tuple[AuthoritySignature, ...]:
    """Read an array of signatures, at most one per possible authority."""
    if type(value) is not list or len(value) > MAX_AUTHORITIES:
        raise ProtocolError("signatures are not a short array")
    return tuple(map(AuthoritySignature.from_value, value))


def verify_distinct(
    signatures: Iterable[AuthoritySignature],
    network: NetworkDocument,
    label: str,
    body: bytes,
    now: float,
) -> frozenset[NodeId]:
    """Verify every signature, refuse two of one authority, and return who signed."""
    signers: set[NodeId] = set()
    for signature in signatures:
        if signature.identity in signers:
            raise ProtocolError("one authority's signature stands there twice")
        signature.verify(network, label, body, now)
        signers.add(signature.identity)
    return frozenset(signers)


def verify_quorum(
    signatures: Iterable[AuthoritySignature],
    network: NetworkDocument,
    label: str,
    body: bytes,
    now: float,
) -> frozenset[NodeId]:
    """As `verify_distinct`, and raise `ProtocolError` if fewer than q authorities signed."""
    signers = verify_distinct(signatures, network, label, body, now)
    if len(signers) < network.quorum:
        raise ProtocolError(
            f"a document has {len(signers)} signatures of authorities; {network.quorum} are needed"
        )
    return signers
