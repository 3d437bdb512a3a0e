"""Proofs that an owner signed two requests, or that a member voted for two (spec/09 §7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    certificate_from_value,
    check_certificate,
    check_vote,
    vote_from_value,
)
from fogbank.directory.mint.ledger import TWO_REQUESTS, TWO_VOTES
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    signed_request_from_value,
)
from fogbank.directory.mint.state import SeriesRecord
from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError

EVIDENCE_LIMIT: Final = 15 << 10
"""Bytes of a proof."""
_ITEMS: Final = 8192


@dataclass(frozen=True, slots=True)
class TwoRequests:
    """The owner of an input signed both requests."""

    first: SignedRequest
    second: SignedRequest

    def encode(self) -> bytes:
        """Return the proof's bytes."""
        return encode([TWO_REQUESTS, self.first.value(), self.second.value()])


@dataclass(frozen=True, slots=True)
class TwoVotes:
    """A member voted for what is certified, and in the same life for another request."""

    certificate: Certificate
    signed: SignedRequest
    vote: Vote

    def encode(self) -> bytes:
        """Return the proof's bytes."""
        proof: list[Value] = [TWO_VOTES, self.certificate.value(), self.signed.value()]
        return encode([*proof, self.vote.value()])


def decode_evidence(data: bytes | memoryview) -> TwoRequests | TwoVotes:
    """Read a proof; raise `ProtocolError` for anything else. Nothing is verified."""
    value: Any = decode(data, EVIDENCE_LIMIT, _ITEMS)
    match value:
        case [1, first, second]:
            return TwoRequests(signed_request_from_value(first), signed_request_from_value(second))
        case [2, certificate, signed, vote]:
            return TwoVotes(
                certificate_from_value(certificate),
                signed_request_from_value(signed),
                vote_from_value(vote),
            )
        case _:
            raise ProtocolError("that is no evidence of the mint's")


def check_evidence(
    evidence: TwoRequests | TwoVotes, network_id: bytes, record: SeriesRecord
) -> int:
    """Return the member that is convicted, by its number; 0 if it is an owner of tokens.

    Raises `ProtocolError` if the proof proves nothing.
    """
    if isinstance(evidence, TwoRequests):
        evidence.first.check_proofs(None)
        evidence.second.check_proofs(None)
        _check_apart(evidence.first.request, evidence.second.request, network_id, record)
        return 0
    certificate, request = evidence.certificate, evidence.signed.request
    check_certificate(certificate, network_id, record)
    check_vote(evidence.vote, request, record)
    _check_apart(certificate.request, request, network_id, record)
    same = (each for each in certificate.votes if each.member == evidence.vote.member)
    if not any(each.life == evidence.vote.life for each in same):
        raise ProtocolError("the evidence shows no two votes of one member in one life")
    return evidence.vote.member


def _check_apart(first: Request, second: Request, network_id: bytes, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless these are two requests of the series that share an input."""
    for each in (first, second):
        if each.network_id != network_id or each.series != record.number:
            raise ProtocolError("the evidence is of another network or series")
    if first.digest() == second.digest() or not set(first.serials()) & set(second.serials()):
        raise ProtocolError("the evidence shows no two requests that share an input")
