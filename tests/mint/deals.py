"""What tests of requests share: a series with members' keys, tokens, swaps and withdrawals."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from fogbank.directory.mint.certificates import Certificate, Vote, make_certificate, sign_vote
from fogbank.directory.mint.points import G1, blind, combine_unblind, encode_point, hash_token
from fogbank.directory.mint.points import sign_share as sign_point
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Swap,
    Token,
    Withdrawal,
    sign_swap,
    sign_withdrawal,
)
from fogbank.directory.mint.state import Member, SeriesRecord
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.keys import Ed25519Key
from tests.mint.curve import NETWORK, DealtKey, scalar

NOW = 1_800_000_000
SERIES = 3


def key_of(*what: object) -> Ed25519Key:
    """Return the Ed25519 key of a name."""
    return Ed25519Key(hashlib.sha256(repr(what).encode()).digest())


@dataclass(frozen=True, slots=True)
class Output:
    """A serial that somebody is about to have signed, and its blinding factor."""

    key: Ed25519Key
    factor: int

    @classmethod
    def of(cls, *what: object) -> Output:
        """Return the output of a name."""
        return cls(key_of("serial", *what), scalar("blind", *what))

    @property
    def message(self) -> G1:
        return hash_token(NETWORK, self.key.public)

    @property
    def blinded(self) -> bytes:
        return encode_point(blind(self.message, self.factor))


@dataclass(frozen=True)
class Series:
    """A series whose keys one hand dealt; nothing is kept, as there is no ledger here."""

    quorum: int = 3
    n: int = 4
    number: int = SERIES

    @cached_property
    def dealt(self) -> DealtKey:
        return DealtKey.of(self.quorum, self.n, f"series {self.number}")

    def vote_key(self, member: int) -> Ed25519Key:
        return key_of("vote", member)

    @cached_property
    def record(self) -> SeriesRecord:
        members = tuple(
            Member(
                key_of("authority", i).public,
                self.vote_key(i).public,
                encode_point(self.dealt.share_key(i)),
            )
            for i in range(1, self.n + 1)
        )
        return SeriesRecord(self.number, self.quorum, encode_point(self.dealt.key), members, ())

    def token(self, output: Output) -> Token:
        """Return a token as the members would have made it."""
        blinded = blind(output.message, output.factor)
        members = range(1, self.quorum + 1)
        shares = {i: sign_point(self.dealt.share(i), blinded) for i in members}
        return Token(output.key.public, encode_point(combine_unblind(shares, output.factor)))

    def swap(self, count: int, name: str = "swap", to: str = "new") -> SignedRequest:
        """Return a signed swap of `count` tokens that are named, to named outputs."""
        keys = sorted((Output.of(name, k) for k in range(count)), key=lambda o: o.key.public)
        request = Request(
            NETWORK, self.number, Swap(tuple(map(self.token, keys))), outputs_of(count, to)
        )
        return sign_swap(request, [output.key for output in keys])

    def withdrawal(self, count: int, first: int = 0, to: str = "drawn") -> SignedRequest:
        """Return a node's signed withdrawal."""
        identity, signing = key_of("identity"), key_of("signing")
        certificate = issue(identity, Use.SIGNING, signing.public, NOW, SIGNING_LIFETIME)
        source = Withdrawal(identity.public, first, count)
        request = Request(NETWORK, self.number, source, outputs_of(count, to))
        return sign_withdrawal(request, signing, certificate)

    def vote(self, member: int, request: Request) -> Vote:
        return sign_vote(self.vote_key(member), member, request)

    def certificate(self, signed: SignedRequest) -> Certificate:
        """Return the certificate of the first q members."""
        members = range(1, self.quorum + 1)
        votes = [self.vote(i, signed.request) for i in members]
        return make_certificate(signed, votes, self.record)


def outputs_of(count: int, name: str) -> tuple[bytes, ...]:
    """Return the blinded points of named outputs, rising."""
    return tuple(sorted(Output.of(name, k).blinded for k in range(count)))
