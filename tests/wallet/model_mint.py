"""A mint in memory: four honest members with keys that one hand dealt, and no network between.

What a member locked and issued it keeps for ever. It checks all that a member checks, so that
what a wallet makes is what a mint takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fogbank.client.wallet.answers import Answer, Question, What, prefix_of
from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.records import OpenRequest
from fogbank.client.wallet.store_shell import Wallet
from fogbank.client.wallet.terms import Terms
from fogbank.directory.mint.bodies import Held
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    check_certificate,
    decode_certificate,
    make_certificate,
)
from fogbank.directory.mint.points import (
    combine_unblind,
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    sign_share,
    verify_token,
)
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Withdrawal,
    decode_signed_request,
    sign_withdrawal,
    signed_inputs,
)
from fogbank.directory.mint.state import Allotment, MintState
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from tests.mint.curve import NETWORK
from tests.mint.deals import Series, key_of

DAY = 100
PAGE = 1024
START = 1_000_000
TERMS = Terms(NETWORK, Calendar(START, START, DAY), rest=25)
NODE = key_of("identity").public


@cache
def series(number: int) -> Series:
    return Series(number=number)


class Conflict(Exception):
    """A member holds an input under another request."""

    def __init__(self, other: SignedRequest) -> None:
        super().__init__("a conflict")
        self.other = other


@dataclass
class Member:
    """One member, with its ledgers of all series."""

    number: int
    locked: dict[bytes, bytes] = field(default_factory=dict)
    requests: dict[bytes, SignedRequest] = field(default_factory=dict)
    certificates: dict[bytes, Certificate] = field(default_factory=dict)
    issued: dict[bytes, tuple[bytes, bytes, int]] = field(default_factory=dict)
    """B → share, H(R), series."""

    def lock(self, signed: SignedRequest, now: int) -> Vote:
        """Vote, or raise `Conflict`; anything that is not right fails the test."""
        request, digest = signed.request, signed.request.digest()
        record = series(request.series)
        for serial in request.serials():
            if self.locked.get(serial, digest) != digest:
                raise Conflict(self.requests[self.locked[serial]])
        assert now < TERMS.calendar.lock_until(request.series)
        signed.check_proofs(None)
        for message, signature in signed_inputs(request):
            verify_token(message, signature, decode_g2(record.record.key))
        self.locked |= dict.fromkeys(request.serials(), digest)
        assert self.requests.setdefault(digest, signed) == signed, "other bytes for one request"
        return record.vote(self.number, request)

    def issue(self, certificate: Certificate, now: int) -> list[bytes]:
        """Give shares, the same ones each time."""
        request, digest = certificate.request, certificate.request.digest()
        check_certificate(certificate, NETWORK, series(request.series).record)
        assert now < TERMS.calendar.issue_until(request.series)
        self.locked |= dict.fromkeys(request.serials(), digest)
        self.requests[digest] = certificate.signed
        self.certificates[digest] = certificate
        share = series(request.series).dealt.share(self.number)
        for output in request.outputs:
            given = encode_point(sign_share(share, decode_g1(output)))
            kept = self.issued.setdefault(output, (given, digest, request.series))
            assert kept[1] == digest, "one output was asked for in two requests"
        return [self.issued[output][0] for output in request.outputs]

    def answer(self, question: Question) -> Answer:
        """Answer what a wallet asks that is restored."""
        if question.what is What.REQUEST:
            signed = self.requests.get(question.digest)
            return Answer(held=None if signed is None else Held(signed, ()))
        rows = self.rows(question.what, question.series)
        bits, prefix = question.bits, question.prefix
        wanted = [row for row in rows if prefix_of(question.what, row[0], bits) == prefix]
        return Answer(wanted[:PAGE] if question.first_page else wanted, len(rows))

    @property
    def issued_for(self) -> bytes:
        """H(R) of some request that was issued."""
        return next(iter(self.certificates))

    def rows(self, what: What, number: int) -> list[tuple[bytes, ...]]:
        if what is What.OUTPUTS:
            issued = self.issued.items()
            return sorted((B, share, digest) for B, (share, digest, k) in issued if k == number)
        return sorted(
            (serial, digest)
            for serial, digest in self.locked.items()
            if self.requests[digest].request.series == number
        )


class ModelMint:
    """Its members, and the wallet's side of what is said to them."""

    def __init__(self) -> None:
        self.members = [Member(number) for number in range(1, 5)]

        self.allotments: tuple[Allotment, ...] = ()

    def state(self, now: int) -> MintState:
        records = tuple(series(number).record for number in TERMS.calendar.living(now))
        return MintState(series=records, allotments=self.allotments)

    def allot(self, identity: bytes, amount: int) -> int:
        self.allotments = (Allotment(identity, 0, amount),)
        return amount

    def vote(self, request: OpenRequest, wallet: Wallet, now: int, members: Iterable[int]) -> None:
        """Ask some members for their votes; tell the wallet of a quorum, or that there is none."""
        certificate = self._certify(request, wallet, now, members)
        if certificate is not None:
            wallet.certified(request.id, certificate.encode(), now)

    def _certify(
        self, request: OpenRequest, wallet: Wallet, now: int, members: Iterable[int]
    ) -> Certificate | None:
        signed = decode_signed_request(request.signed)
        votes, conflicts = [], []
        for number in members:
            try:
                votes.append(self.members[number].lock(signed, now))
            except Conflict as conflict:
                conflicts.append(conflict.other)
        record = series(request.series).record
        if len(votes) >= record.quorum:
            return make_certificate(signed, votes, record)
        if len(conflicts) > record.faulty:
            wallet.beaten(request.id, conflicts[0], now)
        return None

    def carry(self, request: OpenRequest, wallet: Wallet, now: int, members: list[int]) -> None:
        """Have some members' shares at once: the wallet sees no certificate, if there is none."""
        certificate = (
            decode_certificate(request.certificate)
            if request.certificate
            else self._certify(request, wallet, now, members)
        )
        if certificate is not None:
            self._issue(request, certificate, wallet, now, members)

    def shares(self, request: OpenRequest, wallet: Wallet, now: int, members: list[int]) -> None:
        """Ask some members for shares; hand over the tokens of a quorum."""
        self._issue(request, decode_certificate(request.certificate), wallet, now, members)

    def _issue(
        self,
        request: OpenRequest,
        certificate: Certificate,
        wallet: Wallet,
        now: int,
        members: list[int],
    ) -> None:
        given = {number + 1: self.members[number].issue(certificate, now) for number in members}
        record = series(request.series).record
        if len(given) < record.quorum:
            return
        signatures = []
        for at, output in enumerate(wallet.outputs(request.id)):
            shares = {number: decode_g1(each[at]) for number, each in given.items()}
            signature = combine_unblind(shares, output.blind)
            verify_token(hash_token(NETWORK, output.serial), signature, decode_g2(record.key))
            signatures.append(encode_point(signature))
        wallet.issued(request.id, signatures, now)

    def restore(self, wallet: Wallet, now: int, members: Iterable[int], **options: Any) -> int:
        """Let a wallet find out what there is, asking some members; return how many are new."""
        search = wallet.restoring(self.state(now), now, **options)
        asked = 0
        while questions := search.questions():
            asked += len(questions)
            assert asked < 5000
            for question in questions:
                answers = {number + 1: self.members[number].answer(question) for number in members}
                search.answer(question, answers)
        return wallet.restored(search.found(), now, **options)

    def drive(self, wallet: Wallet, now: int) -> None:
        """Bring everything that is under way to its end."""
        everyone = list(range(len(self.members)))
        for request in wallet.unfinished():
            if not request.certificate:
                self.vote(request, wallet, now, everyone)
        for request in wallet.unfinished():
            if request.wants_shares:
                self.shares(request, wallet, now, everyone)

    def withdrawn(self) -> int:
        """Return how many units of allotments were turned into tokens."""
        requests = {k: v for member in self.members for k, v in member.requests.items()}
        sources = [each.request.source for each in requests.values()]
        return sum(each.count for each in sources if isinstance(each, Withdrawal))

    def is_spent(self, serial: bytes) -> bool:
        return any(serial in member.locked for member in self.members)


def new_wallet(folder: Path, entropy: bytes, role: Role = Role.CLIENT) -> None:
    """Make a wallet that happens to draw these words."""

    def random(size: int) -> bytes:
        return entropy if size == len(entropy) else os.urandom(size)

    Wallet.create(folder, NETWORK, role, random=random)


def sign(request: Request) -> SignedRequest:
    """Sign a withdrawal of the one node that there is."""
    identity, signing = key_of("identity"), key_of("signing")
    certificate = issue(identity, Use.SIGNING, signing.public, START, SIGNING_LIFETIME)
    return sign_withdrawal(request, signing, certificate)
