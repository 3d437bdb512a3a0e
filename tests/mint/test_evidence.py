"""Evidence: whom it convicts, and that nothing else does (spec/09 §7.3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fogbank.directory.mint.certificates import sign_vote
from fogbank.directory.mint.evidence import (
    EVIDENCE_LIMIT,
    TwoRequests,
    TwoVotes,
    check_evidence,
    decode_evidence,
)
from fogbank.directory.mint.exchange import Issue, Status
from fogbank.relay.errors import ProtocolError
from tests.mint.committee import committee, fresh
from tests.mint.curve import NETWORK
from tests.mint.deals import SERIES, Series

DEALT = Series()
RECORD = DEALT.record
FIRST, SECOND = DEALT.swap(2, to="first"), DEALT.swap(2, to="second")
OTHER = DEALT.swap(2, "others")
CERTIFICATE = DEALT.certificate(FIRST)


def test_evidence_travels_whole_and_convicts_who_signed_twice() -> None:
    owner = TwoRequests(FIRST, SECOND)
    member = TwoVotes(CERTIFICATE, SECOND, DEALT.vote(2, SECOND.request))
    for proof, who in ((owner, 0), (member, 2)):
        assert decode_evidence(proof.encode()) == proof
        assert check_evidence(proof, NETWORK, RECORD) == who


def test_the_largest_evidence_fits() -> None:
    largest = DEALT.withdrawal(64)
    proof = TwoVotes(DEALT.certificate(largest), largest, DEALT.vote(1, largest.request))
    assert len(proof.encode()) <= EVIDENCE_LIMIT


@pytest.mark.parametrize(
    "proof",
    [
        TwoRequests(FIRST, FIRST),
        TwoRequests(FIRST, OTHER),
        TwoRequests(FIRST, replace(SECOND, proofs=FIRST.proofs)),
        TwoRequests(Series(number=4).swap(2, to="first"), Series(number=4).swap(2, to="second")),
        TwoVotes(CERTIFICATE, FIRST, DEALT.vote(2, FIRST.request)),
        TwoVotes(CERTIFICATE, OTHER, DEALT.vote(2, OTHER.request)),
        # This one's vote is not in the certificate: it may have been overridden.
        TwoVotes(CERTIFICATE, SECOND, DEALT.vote(4, SECOND.request)),
        # Another's vote, and one that was given in another life.
        TwoVotes(CERTIFICATE, SECOND, replace(DEALT.vote(2, SECOND.request), member=3)),
        TwoVotes(CERTIFICATE, SECOND, sign_vote(DEALT.vote_key(2), 2, SECOND.request, ((2, 9),))),
    ],
)
def test_what_proves_nothing_convicts_nobody(proof: TwoRequests | TwoVotes) -> None:
    with pytest.raises(ProtocolError):
        check_evidence(decode_evidence(proof.encode()), NETWORK, RECORD)


async def test_a_second_certificate_of_one_input_convicts_at_the_service(tmp_path: Path) -> None:
    async with committee(tmp_path) as bank:
        dealt, inputs = bank.deals[SERIES], fresh(1)
        first, second = (dealt.certificate(bank.swap(inputs, fresh(1))) for _ in range(2))
        member = bank.members[4]
        assert (await member.ask(Issue(first))).status is Status.DONE
        assert (await member.ask(Issue(second))).status is Status.CONFLICT
        proofs = await member.mint.ledgers.all()[SERIES].evidence(16)
        assert {check_evidence(decode_evidence(each), NETWORK, bank.record) for each in proofs} == {
            *(0, 1, 2, 3)
        }
