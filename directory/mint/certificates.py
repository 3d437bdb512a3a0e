"""Votes that lock a request's inputs, and certificates of q of them (spec/09 §6.2, §6.3)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

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
MAX_LIFE: Final = 1 << 40
KEPT_VOTES: Final = 8192
"""Votes that are known to be right, some 3 MB."""
_ITEMS: Final = 4096
"""Parts that no certificate has more of."""


Lives: TypeAlias = "tuple[tuple[int, int], ...]"
"""Members that lost their memory of a series, rising, and the life that each leads since then."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's word that it locked the inputs of one request; `member` counts from 1.

    `lives` are those that it knows of, its own among them: nearly always none.
    """

    member: int
    signature: bytes
    lives: Lives = ()

    @property
    def life(self) -> int:
        """The life in which its maker gave it; the first one is 0."""
        return dict(self.lives).get(self.member, 0)

    def value(self) -> list[Value]:
        """Return the CBOR array."""
        return [self.member, self.signature, [list(each) for each in self.lives]]


def sign_vote(key: Ed25519Key, member: int, request: Request, lives: Lives = ()) -> Vote:
    """Vote, with the member's V, for a request whose inputs are locked on the disk."""
    return Vote(member, key.sign(VOTE_LABEL, vote_body(request, member, lives)), lives)


def vote_body(request: Request, member: int, lives: Lives = ()) -> bytes:
    """Return the bytes that a vote signs."""
    return _vote_body(request, request.digest(), member, lives)


def _vote_body(request: Request, digest: bytes, member: int, lives: Lives) -> bytes:
    named = [list(each) for each in lives]
    return encode([request.network_id, request.series, member, digest, named])


def check_vote(vote: Vote, request: Request, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless a member of the series gave this vote. Takes 0.1 ms."""
    _check_vote(vote, request, record, request.digest())


def _check_vote(vote: Vote, request: Request, record: SeriesRecord, digest: bytes) -> None:
    body = _vote_body(request, digest, vote.member, vote.lives)
    verify(vote_key(record, vote.member), VOTE_LABEL, body, vote.signature)


def vote_key(record: SeriesRecord, member: int) -> bytes:
    """Return the key V of a member; raise `ProtocolError` if it has no seat."""
    found = record.member(member)
    if found is None or not found.vote_key:
        raise ProtocolError("a vote is of somebody who has no seat in its series")
    return found.vote_key


class RightVotes:
    """The last votes that were given or verified here: a certificate's need no second look."""

    def __init__(self) -> None:
        self._votes: OrderedDict[tuple[bytes, int], Vote] = OrderedDict()

    def add(self, request: Request, vote: Vote) -> None:
        """Keep a vote for a request, which is right."""
        key = request.digest(), vote.member
        self._votes[key] = vote
        self._votes.move_to_end(key)
        if len(self._votes) > KEPT_VOTES:
            self._votes.popitem(last=False)

    def knows(self, request: Request, vote: Vote) -> bool:
        """Tell whether this very vote is one of them."""
        return self._votes.get((request.digest(), vote.member)) == vote


def vote_from_value(value: Any) -> Vote:
    """Read `[member, signature, lives]`; nothing is verified."""
    match value:
        case [member, signature, list(lives)] if (
            is_uint(member, MAX_AUTHORITIES) and member and is_bytes(signature, SIGNATURE_LENGTH)
        ):
            return Vote(member, signature, _lives(lives))
        case _:
            raise ProtocolError("a vote is not [member, signature, lives]")


def _lives(value: list[Any]) -> Lives:
    if len(value) > MAX_AUTHORITIES:
        raise ProtocolError("a vote names more lives than there are members")
    lives = tuple(map(_life, value))
    if any(a >= b for (a, _), (b, _) in pairwise(lives)):
        raise ProtocolError("a vote's lives are out of order, or one stands there twice")
    return lives


def _life(value: Any) -> tuple[int, int]:
    match value:
        case [member, life] if (
            is_uint(member, MAX_AUTHORITIES) and member and is_uint(life, MAX_LIFE) and life
        ):
            return member, life
        case _:
            raise ProtocolError("a life is not [member, life]")


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
    """Join q votes of different members, which were checked, into a certificate.

    Raises `ValueError` unless there are q that can stand together.
    """
    chosen = _together({vote.member: vote for vote in votes})
    if len(chosen) < record.quorum:
        raise ValueError(f"a certificate needs {record.quorum} votes, not {len(chosen)}")
    return Certificate(signed, tuple(chosen[i] for i in sorted(chosen)[: record.quorum]))


def _together(votes: dict[int, Vote]) -> dict[int, Vote]:
    """Leave out votes, the most contested first, until none names a later life of another."""
    left = dict(votes)
    while True:
        clashes = Counter(
            member
            for vote in left.values()
            for member, life in vote.lives
            if member in left and life > left[member].life
            for member in (member, vote.member)
        )
        if not clashes:
            return left
        del left[max(clashes, key=lambda member: (clashes[member], member))]


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


def check_votes(certificate: Certificate, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless q members' votes can stand together; none is verified.

    None of them may name a later life of another than that one's own vote: else it was given in
    a life that its maker has forgotten (spec/09 §7.4).
    """
    votes = {vote.member: vote for vote in certificate.votes}
    if len(certificate.votes) != record.quorum or len(votes) != record.quorum:
        raise ProtocolError(f"a certificate has not the {record.quorum} votes of its series")
    for vote in certificate.votes:
        vote_key(record, vote.member)
        if any(each in votes and life > votes[each].life for each, life in vote.lives):
            raise ProtocolError(
                "a certificate holds a vote that its maker gave before it lost its memory: ask it "
                "for a new one"
            )


def check_certificate(certificate: Certificate, network_id: bytes, record: SeriesRecord) -> None:
    """Raise `ProtocolError` unless q members of the series voted for the request.

    Needs no network and no clock: `record` is the series in any consensus. Takes 0.1 ms a vote. At
    least one honest member checked proofs, points and pairings before it voted.
    """
    request = certificate.request
    if request.network_id != network_id or request.series != record.number:
        raise ProtocolError("a certificate is of another network or series")
    check_votes(certificate, record)
    digest = request.digest()
    for vote in certificate.votes:
        _check_vote(vote, request, record, digest)
