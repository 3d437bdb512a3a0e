"""Votes that lock a request's inputs, and certificates of q of them (spec/09 §6.2, §6.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    signed_request_from_value,
)
from fogbank.directory.mint.state import SeriesRecord, is_bytes, is_uint
from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import SIGNATURE_LENGTH, Ed25519Key, verify

VOTE_LABEL: Final = "fogbank-mint-lock-v1"
CERTIFICATE_LIMIT: Final = 13 << 10
_ITEMS: Final = 256
"""Parts that no certificate has more of."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's word that it locked the inputs of one request; `member` counts from 1."""

    member: int
    signature: bytes

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.member, self.signature]


def sign_vote(key: Ed25519Key, member: int, request: Request) -> Vote:
    """Vote, with the member's V, for a request whose inputs are locked on the disk."""
    return Vote(member, key.sign(VOTE_LABEL, _vote_body(request, member, request.digest())))


def _vote_body(request: Request, member: int, digest: bytes) -> bytes:
    return encode([request.network_id, request.series, member, digest])


def check_vote(vote: Vote, request: Request, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless a member of the series gave this vote. Takes 0.1 ms."""
    _check_vote(vote, request, record, request.digest())


def _check_vote(vote: Vote, request: Request, record: SeriesRecord, digest: bytes) -> None:
    member = record.member(vote.member)
    if member is None or not member.vote_key:
        raise ProtocolError("a vote is of somebody who has no seat in its series")
    body = _vote_body(request, vote.member, digest)
    verify(member.vote_key, VOTE_LABEL, body, vote.signature)


def vote_from_value(value: Any) -> Vote:
    """Read `[member, vote]`; nothing is verified."""
    match value:
        case [member, signature] if (
            is_uint(member, MAX_AUTHORITIES) and member and is_bytes(signature, SIGNATURE_LENGTH)
        ):
            return Vote(member, signature)
        case _:
            raise ProtocolError("a vote is not [member, signature]")


def votes_from_value(value: Any) -> tuple[Vote, ...]:
    """Read an array of votes of different members, rising; nothing is verified."""
    if type(value) is not list or len(value) > MAX_AUTHORITIES:
        raise ProtocolError("votes are not a short array")
    votes = tuple(map(vote_from_value, value))
    if any(a.member >= b.member for a, b in pairwise(votes)):
        raise ProtocolError("votes are out of order, or one stands there twice")
    return votes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A request that q members locked: nothing else can take its inputs any more."""

    signed: SignedRequest
    votes: tuple[Vote, ...]

    @property
    def request(self) -> Request:
        """The request that is certified."""
        return self.signed.request

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.signed.value(), [vote.value() for vote in self.votes]]

    def encode(self) -> bytes:
        """Return the certificate's bytes."""
        return encode(self.value())


def make_certificate(
    signed: SignedRequest, votes: Iterable[Vote], record: SeriesRecord
) -> Certificate:
    """Join q votes of different members, which were checked, into a certificate."""
    chosen = {vote.member: vote for vote in votes}
    if len(chosen) < record.quorum:
        raise ValueError(f"a certificate needs {record.quorum} votes, not {len(chosen)}")
    return Certificate(signed, tuple(chosen[i] for i in sorted(chosen)[: record.quorum]))


def decode_certificate(data: bytes | memoryview) -> Certificate:
    """Read a certificate; raise `ProtocolError` for anything else. Nothing is verified."""
    return certificate_from_value(decode(data, CERTIFICATE_LIMIT, _ITEMS))


def certificate_from_value(value: Any) -> Certificate:
    """Take apart an already decoded `[signed request, votes]`."""
    match value:
        case [signed, votes]:
            return Certificate(signed_request_from_value(signed), votes_from_value(votes))
        case _:
            raise ProtocolError("a certificate is not [signed request, votes]")


def check_certificate(certificate: Certificate, network_id: bytes, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless q members of the series voted for the request.

    Needs no network and no clock: `record` is the series in any consensus. Takes 0.1 ms a vote. At
    least one honest member checked proofs, points and pairings before it voted.
    """
    request = certificate.request
    if request.network_id != network_id or request.series != record.number:
        raise ProtocolError("a certificate is of another network or series")
    if len(certificate.votes) != record.quorum:
        raise ProtocolError(f"a certificate has not the {record.quorum} votes of its series")
    digest = request.digest()
    for vote in certificate.votes:
        _check_vote(vote, request, record, digest)
