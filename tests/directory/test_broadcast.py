"""The broadcast's rules one by one (spec/05 §4.2); whole rounds are in `test_rounds.py`."""

from __future__ import annotations

import hashlib

import pytest

from fogbank.directory.agreement import MAX_STRIKES, Agreement, Journal
from fogbank.directory.broadcast import Answer, Broadcast, Chain, open_evidence
from fogbank.directory.descriptor import DescriptorCache
from fogbank.directory.effects import JournalVote, Log, SendVote, SignatureMessage
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import VOTE_LABEL, Observation, Policy, Vote, open_vote
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Signed
from tests.directory.factory import START, make_network, relay

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
CREDENTIALS = NETWORK.credentials
ROUND = nth_round(DOCUMENT, 0)
PHASE_1, PHASE_2, AFTER = ROUND.begins + 0.1, ROUND.begins + 0.6, ROUND.concludes + 0.1
ME = 0


def broadcast() -> Broadcast:
    return Broadcast(DOCUMENT, ROUND, CREDENTIALS[ME])


def chain_of(body: bytes, *signers: int, sender: int | None = None) -> Chain:
    who = CREDENTIALS[signers[0] if sender is None else sender].identity
    chain = Chain(ROUND.valid_after, who, hashlib.sha256(body).digest())
    for index in signers:
        chain = chain.signed(DOCUMENT.network_id, CREDENTIALS[index])
    return chain


def test_the_own_vote_goes_to_all_others() -> None:
    core = broadcast()
    sent = core.start(b"mine")
    assert {item.to for item in sent} == {c.identity for c in CREDENTIALS[1:]}
    assert all(len(item.chain.signatures) == 1 for item in sent)
    assert core.decided() == {CREDENTIALS[ME].identity: b"mine"}


def test_a_vote_in_phase_one_is_taken_and_passed_on_signed() -> None:
    core = broadcast()
    answer, sent = core.receive(chain_of(b"v", 1), None, PHASE_1)
    assert (answer, sent) == (Answer.NEED_BODY, [])
    assert core.decided() == {}
    answer, sent = core.receive(chain_of(b"v", 1), b"v", PHASE_1)
    assert answer is Answer.TAKEN
    assert {item.to for item in sent} == {CREDENTIALS[2].identity, CREDENTIALS[3].identity}
    assert all(item.chain.verify(DOCUMENT) for item in sent)
    assert core.receive(chain_of(b"v", 1, 2), None, PHASE_2) == (Answer.TAKEN, [])


def test_a_vote_that_comes_early_is_passed_on_when_the_round_begins() -> None:
    core = broadcast()
    assert core.receive(chain_of(b"v", 1), b"v", ROUND.opens) == (Answer.TAKEN, [])
    assert {item.to for item in core.begin()} == {CREDENTIALS[2].identity, CREDENTIALS[3].identity}
    assert core.begin() == []
    # Begun once, it holds nothing back any more, even if its clock is set back.
    assert len(core.receive(chain_of(b"w", 2), b"w", ROUND.opens)[1]) == 2


@pytest.mark.parametrize(
    ("signers", "now", "answer"),
    [
        ((1,), ROUND.begins - 5, Answer.TAKEN),
        ((1,), PHASE_1, Answer.TAKEN),
        ((1,), PHASE_2, Answer.LATE),
        ((1, 2), PHASE_2, Answer.TAKEN),
        ((1, 2, 3), PHASE_2, Answer.TAKEN),
        ((1, 2, 3), AFTER, Answer.LATE),
    ],
)
def test_phase_k_asks_for_k_signatures(
    signers: tuple[int, ...], now: float, answer: Answer
) -> None:
    core = broadcast()
    assert core.receive(chain_of(b"v", *signers), b"v", now)[0] is answer
    assert bool(core.decided()) == (answer is Answer.TAKEN)


def test_what_b_plus_one_have_signed_is_not_passed_on() -> None:
    assert broadcast().receive(chain_of(b"v", 1, 2), b"v", PHASE_1)[1] == []


def test_two_votes_cancel_each_other_and_prove_it() -> None:
    core = broadcast()
    core.receive(chain_of(b"one", 1), b"one", PHASE_1)
    core.receive(chain_of(b"two", 1, 2), b"two", PHASE_2)
    core.receive(chain_of(b"three", 1, 2), b"three", PHASE_2)
    assert core.decided() == {}
    (evidence,) = core.evidence().values()
    assert open_evidence(evidence, DOCUMENT) == CREDENTIALS[1].identity


def test_two_own_votes_cancel_too() -> None:
    """As when an authority is run twice: its keys are elsewhere in use."""
    core = broadcast()
    core.start(b"mine")
    core.receive(chain_of(b"other", ME), b"other", PHASE_1)
    assert core.decided() == {}
    (evidence,) = core.evidence().values()
    assert open_evidence(evidence, DOCUMENT) == CREDENTIALS[ME].identity


@pytest.mark.parametrize(
    ("chain", "match"),
    [
        (chain_of(b"v", 2, sender=1), "lacks its sender's signature"),
        (chain_of(b"v", 1, 1), "twice"),
        (
            Chain(ROUND.valid_after, CREDENTIALS[1].identity, bytes(32),
                  chain_of(b"v", 1).signatures),
            "does not verify",
        ),
    ],
)  # fmt: skip
def test_bad_chains(chain: Chain, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        broadcast().receive(chain, b"v", PHASE_1)


def test_other_bytes_than_the_chain_names() -> None:
    with pytest.raises(ProtocolError, match="not those that its chain names"):
        broadcast().receive(chain_of(b"v", 1), b"w", PHASE_1)


def test_another_round_s_chain_does_not_count() -> None:
    chain = Chain(ROUND.valid_after + 3, CREDENTIALS[1].identity, bytes(32))
    assert broadcast().receive(chain, None, PHASE_1) == (Answer.LATE, [])


@pytest.mark.parametrize("pair", [(b"a", b"a"), (b"a", None)])
def test_evidence_that_proves_nothing(pair: tuple[bytes, bytes | None]) -> None:
    first, second = chain_of(b"a", 1), chain_of(pair[1] or b"b", 1 if pair[1] else 2)
    with pytest.raises(ProtocolError, match="do not show two votes"):
        open_evidence(encode([first.encode(), second.encode()]), DOCUMENT)


# The round around the broadcast.


def agreement(journal: Journal | None = None) -> Agreement:
    cache = DescriptorCache(DOCUMENT)
    return Agreement(DOCUMENT, ROUND, CREDENTIALS[ME], cache, journal or Journal())


def test_after_some_bad_messages_a_peer_is_not_heard() -> None:
    core, peer = agreement(), CREDENTIALS[1].identity
    bad, good = chain_of(b"v", 1, 1), chain_of(b"v", 1)
    logged = [core.receive_vote(peer, bad, b"v", PHASE_1)[1] for _ in range(MAX_STRIKES)]
    assert [len(effects) for effects in logged] == [1] + [0] * (MAX_STRIKES - 1)
    assert isinstance(logged[0][0], Log)
    assert "auth1 sent garbage" in logged[0][0].line
    assert core.receive_vote(peer, good, b"v", PHASE_1) == (Answer.TAKEN, [])
    assert core.receive_vote(CREDENTIALS[2].identity, good, None, PHASE_1)[0] is Answer.NEED_BODY


def test_a_journaled_vote_is_what_is_sent() -> None:
    effects = agreement(Journal(vote=b"journaled")).start(lambda: b"new", complete=True)
    assert not any(isinstance(effect, JournalVote) for effect in effects)
    assert {e.relayed.body for e in effects if isinstance(e, SendVote)} == {b"journaled"}
    effects = agreement().start(lambda: b"new", complete=True)
    assert effects[0] == JournalVote(ROUND.valid_after, b"new")


def test_a_signature_counts_for_its_own_authority_only() -> None:
    core = agreement(Journal(consensus=b"body"))
    core.conclude()
    own = CREDENTIALS[1].sign("fogbank-consensus-v1", b"body")
    message = SignatureMessage(ROUND.valid_after, hashlib.sha256(b"body").digest(), own)
    core.receive_signature(CREDENTIALS[2].identity, message)
    assert "signatures 1/4" in core.roll_call()
    core.receive_signature(CREDENTIALS[1].identity, message)
    core.receive_signature(CREDENTIALS[1].identity, message)
    assert "signatures 2/4" in core.roll_call()
    assert core.signed(ROUND.valid_after) is None


# Votes.


def vote(nodes: tuple[bytes, ...] = (), own: bytes = b"") -> bytes:
    pairs = tuple((data, Observation(1)) for data in nodes)
    made = Vote(ROUND.valid_after, Policy(), b"", own, pairs)
    return made.sign(DOCUMENT.network_id, CREDENTIALS[1])


def opened(data: bytes, authority: int = 1, valid_after: int = ROUND.valid_after) -> None:
    cache = DescriptorCache(DOCUMENT)
    open_vote(data, CREDENTIALS[authority].identity, DOCUMENT, valid_after, cache)


def test_votes_that_are_none() -> None:
    data = relay(0).descriptor(START)
    opened(vote((data,), NETWORK.authorities[1].descriptor(START)))
    with pytest.raises(ProtocolError, match="another authority"):
        opened(vote(), authority=2)
    with pytest.raises(ProtocolError, match="another round"):
        opened(vote(), valid_after=ROUND.valid_after + 3)
    with pytest.raises(ProtocolError, match="one node twice"):
        opened(vote((data, relay(0).descriptor(START + 1))))
    with pytest.raises(ProtocolError, match="authority among the nodes"):
        opened(vote((NETWORK.authorities[0].descriptor(START),)))
    with pytest.raises(ProtocolError, match="another node's descriptor"):
        opened(vote(own=data))
    with pytest.raises(ProtocolError, match="not CBOR"):
        opened(vote((b"\xff",)))


def test_a_vote_of_another_network() -> None:
    body = decode(decode(vote(), 1 << 16)[0], 1 << 16)
    body[1] = bytes(32)
    data = Signed.make(CREDENTIALS[1].key, VOTE_LABEL, encode(body)).encode()
    with pytest.raises(ProtocolError, match="another network"):
        opened(data)
