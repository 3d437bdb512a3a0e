"""Attacks on the mint, against real services; each against a naive rule too, where it succeeds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from fogbank.directory.mint import bodies, crunch, swaps_shell
from fogbank.directory.mint.certificates import (
    Certificate,
    Vote,
    check_certificate,
    make_certificate,
    sign_vote,
)
from fogbank.directory.mint.exchange import (
    Issue,
    Lock,
    Message,
    Reply,
    Status,
)
from fogbank.directory.mint.points import decode_g1, encode_point, sign_share
from fogbank.directory.mint.requests import SignedRequest, Swap, sign_swap
from fogbank.relay.errors import ProtocolError
from tests.mint.committee import Answer, Member, committee, fresh, votes_for_everything
from tests.mint.curve import NETWORK
from tests.mint.deals import SERIES, Series, key_of

# One output from several requests.


async def shares_at_lock(member: Member, message: Message, honest: Answer) -> Reply:
    """The naive rule: whoever is the first to have a serial recorded gets the share at once."""
    reply = await honest(message)
    if isinstance(message, Lock) and reply.status is Status.DONE:
        share = member.bank.deals[SERIES].dealt.share(member.place)
        for output in message.signed.request.outputs:
            point = encode_point(sign_share(share, decode_g1(output)))
            member.bank.given.setdefault(output, {})[member.place] = point
    return reply


@pytest.mark.parametrize("is_naive", [False, True])
async def test_inflation(tmp_path: Path, is_naive: bool) -> None:
    """Three tokens for four: each member signs three outputs, each for another input."""
    async with committee(tmp_path) as bank:
        inputs, outputs = fresh(3), fresh(4)
        for member in bank.members.values():
            member.liar = shares_at_lock if is_naive else None
            wanted = [each for at, each in enumerate(outputs, 1) if at != member.place]
            for token, output in zip(inputs, wanted, strict=True):
                signed = bank.swap([token], [output])
                votes = await bank.votes(signed, [member.place])
                assert len(votes) == 1
                await bank.shares(Certificate(signed, tuple(votes)))
        assert len(bank.tokens(outputs)) == (4 if is_naive else 0)


# One input in several requests.


@pytest.mark.parametrize("is_naive", [False, True])
async def test_double_spending_against_split_views(tmp_path: Path, is_naive: bool) -> None:
    """Two payees, one token, a liar that votes for everything, every split of the honest."""
    liars = {4: votes_for_everything} | ({3: votes_for_everything} if is_naive else {})
    async with committee(tmp_path, liars=liars) as bank:
        most = 0
        for split in product((0, 1), repeat=3):
            token, outputs = fresh(1), fresh(2)
            requests = [bank.swap(token, [output]) for output in outputs]
            votes: list[list[Vote]] = [[], []]
            for i, first in enumerate(split, 1):
                for at in (first, 1 - first):
                    votes[at] += await bank.votes(requests[at], [i])
            for signed, given in zip(requests, votes, strict=True):
                every = [*given, *await bank.votes(signed, [4])]
                if len(every) >= bank.record.quorum:
                    # Shown to those alone that would not know better.
                    certificate = make_certificate(signed, every, bank.record)
                    await bank.shares(certificate, [each.member for each in every])
            most = max(most, len(bank.tokens(outputs)))
        assert most == (2 if is_naive else 1)


async def test_who_signs_two_requests_is_shown_the_first_with_its_proof(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        token, outputs = fresh(1), fresh(2)
        first, second = (bank.swap(token, [output]) for output in outputs)
        await bank.votes(first, [1])
        reply = await bank.members[1].ask(Lock(second))
        assert reply.status is Status.CONFLICT
        signed, vote = answers_conflict(reply)
        assert signed == first
        signed.check_proofs(bank.now)
        assert vote is not None
        assert vote.member == 1


def answers_conflict(reply: Reply) -> tuple[SignedRequest, Vote | None]:
    return bodies.unpack_conflict(reply.body)


async def test_one_certificate_shown_again_gives_the_same_shares(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        token, output = fresh(1), fresh(1)
        certificate = await bank.certify(bank.swap(token, output))
        replies = [await bank.members[1].ask(Issue(certificate)) for _ in range(3)]
        assert {reply.status for reply in replies} == {Status.DONE}
        assert len({reply.body for reply in replies}) == 1
        head = bank.members[1].mint.ledgers.all()[SERIES].head
        assert (head.locked, head.issued) == (1, 1)
        await bank.shares(certificate)
        assert bank.tokens(output) == output


async def test_an_output_that_is_paid_twice_is_one_token(tmp_path: Path) -> None:
    """Who pays it twice loses the second token; nobody wins one."""
    async with committee(tmp_path) as bank:
        output = fresh(1)
        for _ in range(2):
            await bank.shares(await bank.certify(bank.swap(fresh(1), output)))
        assert len(bank.given[output[0].blinded]) == 4
        assert bank.tokens(output) == output


# Replays.


class SameKey(Series):
    """The naive rule: a series with the key of another one."""

    @property
    def dealt(self):  # type: ignore[no-untyped-def]
        return Series(self.quorum, self.n, SERIES).dealt


@pytest.mark.parametrize("is_naive", [False, True])
async def test_replay_across_series(tmp_path: Path, is_naive: bool) -> None:
    async with committee(tmp_path) as bank:
        older = (SameKey if is_naive else Series)(3, 4, SERIES - 1)
        await bank.begin_series(older)
        token, outputs = fresh(1), fresh(2)
        signed = bank.swap(token, outputs[:1])
        certificate = await bank.certify(signed)
        await bank.shares(certificate)
        # The same request, and its certificate, as if of the series before.
        body = replace(signed.request, series=older.number)
        for other in (
            SignedRequest(body, signed.proofs),
            sign_swap(replace(body, outputs=(outputs[1].blinded,)), [token[0].key]),
        ):
            votes = await bank.votes(other)
            assert len(votes) == (4 if is_naive and other.proofs != signed.proofs else 0)
            forged = Certificate(other, certificate.votes)
            for member in bank.members.values():
                assert (await member.ask(Issue(forged))).status is Status.REFUSED


async def test_replay_across_networks(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        token, output = fresh(1), fresh(1)
        signed = bank.swap(token, output)
        other = sign_swap(replace(signed.request, network_id=bytes(32)), [token[0].key])
        reply = await bank.members[1].ask(Lock(other))
        assert reply.status is Status.REFUSED
        assert "network" in reply.reason
        certificate = await bank.certify(signed)
        moved = Certificate(SignedRequest(other.request, signed.proofs), certificate.votes)
        for forged in (moved, Certificate(other, certificate.votes)):
            assert (await bank.members[1].ask(Issue(forged))).status is Status.REFUSED


# Certificates.


def too_few(certificate: Certificate) -> Certificate:
    return replace(certificate, votes=certificate.votes[:-1])


def too_many(certificate: Certificate) -> Certificate:
    return replace(certificate, votes=(*certificate.votes, vote(4, certificate)))


def vote(member: int, certificate: Certificate, name: int | None = None) -> Vote:
    """Return a vote with that number, by the key of another member or of a stranger."""
    key = key_of("vote", member if name is None else name)
    return sign_vote(key, member, certificate.request)


def repeated(certificate: Certificate) -> Certificate:
    first = certificate.votes[0]
    return replace(certificate, votes=(first, first, certificate.votes[1]))


def renumbered(certificate: Certificate) -> Certificate:
    """One member's vote as if it were three members'."""
    first = certificate.votes[0]
    return replace(certificate, votes=tuple(replace(first, member=i) for i in (1, 2, 3)))


def of_strangers(certificate: Certificate) -> Certificate:
    return replace(certificate, votes=tuple(vote(i, certificate, i + 100) for i in (1, 2, 3)))


def of_no_members(certificate: Certificate) -> Certificate:
    return replace(certificate, votes=tuple(vote(i, certificate) for i in (5, 6, 7)))


def of_another_request(certificate: Certificate) -> Certificate:
    other = Series().swap(1, "another")
    return replace(certificate, votes=tuple(vote(i, Certificate(other, ())) for i in (1, 2, 3)))


def one_forged(certificate: Certificate) -> Certificate:
    return replace(certificate, votes=(*certificate.votes[:-1], vote(3, certificate, 99)))


def of_a_forgotten_life(certificate: Certificate) -> Certificate:
    """Member 2 has heard that member 1 lost its memory after it had voted."""
    named = sign_vote(key_of("vote", 2), 2, certificate.request, ((1, 7),))
    votes = (certificate.votes[0], named, certificate.votes[2])
    return replace(certificate, votes=votes)


FORGED = [
    too_few,
    too_many,
    repeated,
    renumbered,
    of_strangers,
    of_no_members,
    of_another_request,
    one_forged,
    of_a_forgotten_life,
]


@pytest.mark.parametrize("is_naive", [False, True])
async def test_forged_certificates(
    tmp_path: Path, is_naive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_naive:
        monkeypatch.setattr(swaps_shell, "check_votes", lambda *_: None)
        monkeypatch.setattr(crunch, "verify", lambda *_: None)
    async with committee(tmp_path) as bank:
        accepted = set()
        for forge in FORGED:
            signed = bank.swap(fresh(1), fresh(1))
            votes = tuple(vote(i, Certificate(signed, ())) for i in (1, 2, 3))
            forged = forge(Certificate(signed, votes))
            with pytest.raises(ProtocolError):
                check_certificate(forged, NETWORK, bank.record)
            if await bank.shares(forged):
                accepted.add(forge)
            # The right one is taken.
            right = Certificate(bank.swap(fresh(1), fresh(1)), ())
            right = replace(right, votes=tuple(vote(i, right) for i in (1, 2, 3)))
            check_certificate(right, NETWORK, bank.record)
            assert await bank.shares(right) == {1, 2, 3, 4}
        assert bool(accepted) == is_naive


# Liars among the members.


@pytest.mark.parametrize("liars", [1, 2])
async def test_b_members_that_share_their_keys_make_no_token(tmp_path: Path, liars: int) -> None:
    """They sign whatever they like; the others want a certificate. b + 1 of four could double."""
    async with committee(tmp_path) as bank:
        for i in range(5 - liars, 5):
            bank.members[i].liar = votes_for_everything
        # Nothing pays for this output: the token that it spends was never issued.
        nothing, output = fresh(1), fresh(1)
        request = bank.swap(nothing, output).request
        assert isinstance(request.source, Swap)
        (paid,) = request.source.inputs
        forged = Swap((replace(paid, signature=output[0].blinded),))
        signed = sign_swap(replace(request, source=forged), [nothing[0].key])
        votes = await bank.votes(signed)
        assert len(votes) == liars
        await bank.shares(Certificate(signed, tuple(votes)))
        assert not bank.tokens(output)


async def lies_about_shares(member: Member, message: Message, honest: Answer) -> Reply:
    """Give shares of another output."""
    reply = await honest(message)
    if not isinstance(message, Issue) or reply.status is not Status.DONE:
        return reply
    share = member.bank.deals[SERIES].dealt.share(member.place)
    outputs = message.certificate.request.outputs
    points = [sign_share(share + 1, decode_g1(each)) for each in outputs]
    return Reply(Status.DONE, bodies.pack_shares([encode_point(each) for each in points]))


async def test_b_members_that_lie_about_shares_withhold_no_token(tmp_path: Path) -> None:
    async with committee(tmp_path, liars={2: lies_about_shares}) as bank:
        output = fresh(1)
        await bank.shares(await bank.certify(bank.swap(fresh(1), output)))
        assert bank.tokens(output) == output
        assert len(bank.given[output[0].blinded]) == 4
        assert len(bank.right_shares(output[0])) == 3
