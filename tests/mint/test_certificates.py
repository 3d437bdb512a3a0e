"""Votes and certificates (spec/09 §6.2, §6.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from fogbank.directory.mint import certificates
from fogbank.directory.mint.certificates import (
    CERTIFICATE_LIMIT,
    Certificate,
    RightVotes,
    Vote,
    check_certificate,
    check_vote,
    decode_certificate,
    make_certificate,
    sign_vote,
    vote_from_value,
)
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from tests.mint.curve import NETWORK
from tests.mint.deals import Series

SERIES = Series()
SIGNED = SERIES.swap(2)


def check(certificate: Certificate, series: Series = SERIES) -> None:
    check_certificate(certificate, NETWORK, series.record)


def test_any_quorum_of_votes_is_a_certificate() -> None:
    votes = [SERIES.vote(i, SIGNED.request) for i in range(1, 5)]
    for chosen in combinations(votes, 3):
        certificate = make_certificate(SIGNED, chosen[::-1], SERIES.record)
        assert decode_certificate(certificate.encode()) == certificate
        check(certificate)
    assert len(make_certificate(SIGNED, votes, SERIES.record).votes) == 3
    with pytest.raises(ValueError, match="needs 3 votes"):
        make_certificate(SIGNED, [votes[0], votes[0], votes[1]], SERIES.record)


def test_the_largest_certificate_fits() -> None:
    series = Series(22, 32)
    certificate = series.certificate(series.withdrawal(64, first=2**32 - 64))
    assert len(certificate.encode()) < CERTIFICATE_LIMIT
    assert decode_certificate(certificate.encode()) == certificate
    check(certificate, series)


def test_a_vote_is_of_one_member_for_one_request() -> None:
    vote, request = SERIES.vote(2, SIGNED.request), SIGNED.request
    check_vote(vote, request, SERIES.record)
    outputs = SERIES.swap(2, to="elsewhere").request.outputs
    for other in (
        replace(request, network_id=bytes(32)),
        replace(request, series=4),
        replace(request, outputs=outputs),
        SERIES.withdrawal(2).request,
    ):
        with pytest.raises(ProtocolError):
            check_vote(vote, other, SERIES.record)
    for member in (0, 1, 3, 5):
        with pytest.raises(ProtocolError):
            check_vote(replace(vote, member=member), request, SERIES.record)


def test_a_key_that_a_member_copied_gives_it_no_vote() -> None:
    members = list(SERIES.record.members)
    members[3] = replace(members[3], vote_key=members[0].vote_key)
    record = replace(SERIES.record, members=tuple(members))
    vote = SERIES.vote(1, SIGNED.request)
    check_vote(vote, SIGNED.request, record)
    with pytest.raises(ProtocolError):
        check_vote(replace(vote, member=4), SIGNED.request, record)


def test_a_member_without_a_seat_has_no_vote() -> None:
    members = list(SERIES.record.members)
    members[0] = replace(members[0], vote_key=b"")
    record = replace(SERIES.record, members=tuple(members))
    with pytest.raises(ProtocolError, match="no seat"):
        check_vote(SERIES.vote(1, SIGNED.request), SIGNED.request, record)


def test_what_is_not_a_quorum_of_right_votes_certifies_nothing() -> None:
    good = SERIES.certificate(SIGNED)
    votes = good.votes
    fourth = SERIES.vote(4, SIGNED.request)
    for wrong in (
        votes[:2],
        (*votes, fourth),
        (*votes[:2], replace(fourth, signature=bytes(64))),
        (*votes[:2], SERIES.vote(4, SERIES.withdrawal(2).request)),
        (*votes[:2], SERIES.vote(7, SIGNED.request)),
    ):
        with pytest.raises(ProtocolError):
            check(replace(good, votes=wrong))
    with pytest.raises(ProtocolError, match="another network or series"):
        check(good, Series(number=4))
    with pytest.raises(ProtocolError, match="another network or series"):
        check_certificate(good, bytes(32), SERIES.record)
    with pytest.raises(ProtocolError):
        check(replace(good, signed=SERIES.swap(2, to="elsewhere")))


def lively(member: int, *lives: tuple[int, int]) -> Vote:
    """A right vote that names lives."""
    return sign_vote(SERIES.vote_key(member), member, SIGNED.request, lives)


def test_a_vote_given_before_its_maker_lost_its_memory_stands_with_none_given_after() -> None:
    old, new = lively(1), lively(1, (1, 70))
    knows, unaware = lively(2, (1, 70)), lively(3)
    check(Certificate(SIGNED, (old, lively(2), unaware)))
    check(Certificate(SIGNED, (new, knows, unaware)))
    with pytest.raises(ProtocolError, match="lost its memory"):
        check(Certificate(SIGNED, (old, knows, unaware)))
    # Who lies about another's life is left out, and nobody else.
    liar = lively(4, (1, 99), (2, 99), (3, 99))
    votes = (new, knows, unaware, liar)
    assert make_certificate(SIGNED, votes, SERIES.record).votes == votes[:3]
    with pytest.raises(ValueError, match="needs 3 votes, not 2"):
        make_certificate(SIGNED, (old, knows, unaware), SERIES.record)
    # What a vote names is signed.
    with pytest.raises(ProtocolError, match="does not verify"):
        check(Certificate(SIGNED, (replace(new, lives=()), lively(2), unaware)))


@pytest.mark.parametrize(
    "lives", [[[1, 0]], [[0, 1]], [[33, 1]], [[2, 1], [1, 1]], [[1, 1], [1, 2]], [[1]], [1], [b""]]
)
def test_lives_of_a_wrong_shape_are_refused(lives: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        vote_from_value([1, bytes(64), lives])


def test_votes_of_a_wrong_shape_are_refused() -> None:
    good = SERIES.certificate(SIGNED)
    signed, (first, second, third) = SIGNED.value(), (vote.value() for vote in good.votes)
    assert decode_certificate(encode([signed, [first, second, third]])) == good
    wrong: list[Any] = [
        [second, first, third],
        [first, first, third],
        [first, second, [0, third[1]]],
        [first, second, [33, third[1]]],
        [first, second, [True, third[1]]],
        [first, second, [3, bytes(63)]],
        [first, second, [3]],
        [Vote(i, bytes(64)).value() for i in range(1, 34)],
        {1: first},
    ]
    for votes in wrong:
        with pytest.raises(ProtocolError):
            decode_certificate(encode([signed, votes]))
    malformed: list[Any] = [[signed], [signed, [first], 0], [[], [first]], 7]
    for value in malformed:
        with pytest.raises(ProtocolError):
            decode_certificate(encode(value))


def test_of_very_many_right_votes_the_last_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "KEPT_VOTES", 2)
    right = RightVotes()
    requests = [SERIES.swap(1, f"swap {at}").request for at in range(3)]
    votes = [SERIES.vote(1, request) for request in requests]
    for at in (0, 1, 0, 2):
        right.add(requests[at], votes[at])
    known = [right.knows(request, vote) for request, vote in zip(requests, votes, strict=True)]
    assert known == [True, False, True]
    assert not right.knows(requests[0], SERIES.vote(2, requests[0]))
    assert not right.knows(requests[0], votes[2])
