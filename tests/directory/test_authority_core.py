"""The authority's core: every event in every state, and what it may never do (spec/05 §4.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fogbank.directory.agreement import Journal
from fogbank.directory.authority import Authority, Restored
from fogbank.directory.broadcast import Chain
from fogbank.directory.consensus import SignedConsensus
from fogbank.directory.effects import (
    Effect,
    FetchConsensus,
    JournalConsensus,
    JournalSignature,
    JournalVote,
    Log,
    Probe,
    SendSignature,
    SendVote,
    SignatureMessage,
)
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import Policy, Vote
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import (
    START,
    make_consensus,
    make_entry,
    make_network,
    relay,
    worker,
)

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
CREDENTIALS = NETWORK.credentials
ME = CREDENTIALS[0].identity
INDEX = st.integers(0, 3)
ROUNDS = st.integers(0, 4)


class AnyEventInAnyState(RuleBasedStateMachine):
    """One authority, three peers that send what they like, a clock that jumps, and kills."""

    def __init__(self) -> None:
        super().__init__()
        self.now = float(START)
        self.journals: dict[int, Journal] = {}
        self.kept = b""
        self.probes: list[Probe] = []
        self.sound: set[bytes] = set()
        self.core: Authority

    @initialize()
    def boot(self) -> None:
        self.core = Authority(
            DOCUMENT, CREDENTIALS[0], Restored(dict(self.journals), (), self.kept), self.now
        )
        self.probes = []
        with suppress(ProtocolError):
            self.core.publish_own(NETWORK.authorities[0].descriptor(self.now), self.now)

    def carry_out(self, effects: list[Effect]) -> None:
        """Check that nothing is signed twice, nor sent before it is journaled."""
        for effect in effects:
            match effect:
                case JournalVote(when, vote):
                    known = self.journals.get(when, Journal())
                    assert known.vote in {b"", vote}
                    self.journals[when] = replace(known, vote=vote)
                case JournalSignature(when, body):
                    known = self.journals.get(when, Journal())
                    assert known.consensus in {b"", body}
                    self.journals[when] = replace(known, consensus=body)
                case JournalConsensus(_, document):
                    self.kept = document
                case SendVote(relayed) if relayed.chain.sender == ME:
                    assert self.journals[relayed.chain.valid_after].vote == relayed.body
                case SendSignature(_, message):
                    body = self.journals[message.valid_after].consensus
                    assert hashlib.sha256(body).digest() == message.digest
                case Probe():
                    self.probes.append(effect)

    @rule(step=st.sampled_from([0.01, 0.2, 0.5, 1.0, 3.0, 40.0, -0.3, -2.0, -50.0]))
    def time_passes(self, step: float) -> None:
        self.now = max(float(START), self.now + step)
        self.carry_out(self.core.handle_timer(self.now))

    @rule()
    def the_timer_fires(self) -> None:
        self.now = max(self.now, min(self.core.next_timer(), self.now + 100))
        self.carry_out(self.core.handle_timer(self.now))

    @rule()
    def it_is_killed_and_starts_again(self) -> None:
        self.boot()

    @rule(number=ROUNDS, sender=INDEX, signers=st.lists(INDEX, max_size=4), peer=INDEX,
          text=st.binary(max_size=2), with_body=st.booleans(), sound=st.booleans())  # fmt: skip
    def a_vote_comes(
        self, number: int, sender: int, signers: list[int], peer: int, text: bytes,
        with_body: bool, sound: bool,
    ) -> None:  # fmt: skip
        when = nth_round(DOCUMENT, number).valid_after
        body = text
        if sound:
            vote = Vote(when, Policy(), b"", b"", ())
            body = vote.sign(DOCUMENT.network_id, CREDENTIALS[sender])
        chain = Chain(when, CREDENTIALS[sender].identity, hashlib.sha256(body).digest())
        for signer in signers:
            chain = chain.signed(DOCUMENT.network_id, CREDENTIALS[signer])
        who = CREDENTIALS[peer].identity
        self.carry_out(self.core.receive_vote(who, chain, body if with_body else None, self.now)[1])

    @rule(number=ROUNDS, signer=INDEX, peer=INDEX, own=st.booleans())
    def a_signature_comes(self, number: int, signer: int, peer: int, own: bool) -> None:
        when = nth_round(DOCUMENT, number).valid_after
        body = self.journals.get(when, Journal()).consensus if own else b"other"
        signature = CREDENTIALS[signer].sign("fogbank-consensus-v1", body)
        message = SignatureMessage(when, hashlib.sha256(body).digest(), signature)
        who = CREDENTIALS[peer].identity
        self.carry_out(self.core.receive_signature(who, message, self.now))

    @rule(number=ROUNDS, signers=st.lists(INDEX, max_size=4))
    def a_consensus_comes(self, number: int, signers: list[int]) -> None:
        when = nth_round(DOCUMENT, number).valid_after
        body = make_consensus(NETWORK, [make_entry(relay(0))], when).encode_body()
        if len(signers) == len(set(signers)) >= DOCUMENT.quorum:
            self.sound.add(hashlib.sha256(body).digest())
        self.carry_out(self.core.receive_consensus(NETWORK.sign(body, signers), self.now))

    @rule(number=st.integers(0, 3), ahead=st.sampled_from([-100_000, -5, 0, 5, 900]))
    def a_descriptor_comes(self, number: int, ahead: int) -> None:
        node = relay(number, born=START - 200_000) if number % 2 else worker(number)
        with suppress(ProtocolError):
            self.carry_out(
                self.core.receive_descriptor(node.descriptor(self.now + ahead), self.now)
            )

    @rule(answered=st.booleans())
    def a_probe_ends(self, answered: bool) -> None:
        if self.probes:
            probe = self.probes.pop(0)
            reached = probe.addresses[0] if answered else None
            self.carry_out(self.core.probed(probe, reached, self.now))

    @invariant()
    def what_is_held_has_its_signatures(self) -> None:
        """Another's consensus needs q signatures to be held; so does one that was made here."""
        if self.kept:
            digest = SignedConsensus.decode(self.kept).digest()
            own = {journal.consensus for journal in self.journals.values()}
            assert digest in self.sound | {hashlib.sha256(body).digest() for body in own}
            assert len(SignedConsensus.decode(self.kept).signatures) >= DOCUMENT.quorum


AnyEventInAnyState.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestAnyEventInAnyState = AnyEventInAnyState.TestCase


def authority(now: float, journals: dict[int, Journal] | None = None) -> Authority:
    return Authority(DOCUMENT, CREDENTIALS[0], Restored(journals or {}), now)


def of(effects: list[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


FIRST, SECOND = nth_round(DOCUMENT, 0), nth_round(DOCUMENT, 1)


def agree(core: Authority, when: Callable[[float], float] = lambda t: t) -> list[Effect]:
    """Let all peers vote in the second round, and let it conclude."""
    effects = core.handle_timer(when(SECOND.begins))
    for credentials in CREDENTIALS[1:]:
        vote = Vote(SECOND.valid_after, Policy(), b"", b"", ())
        body = vote.sign(DOCUMENT.network_id, credentials)
        chain = Chain(SECOND.valid_after, credentials.identity, hashlib.sha256(body).digest())
        chain = chain.signed(DOCUMENT.network_id, credentials)
        effects += core.receive_vote(credentials.identity, chain, body, when(SECOND.begins) + 0.01)[
            1
        ]
    return effects + core.handle_timer(SECOND.concludes)


@pytest.mark.parametrize("late", [0.0, 0.2])
def test_a_busy_machine_is_a_little_late_and_signs_all_the_same(late: float) -> None:
    """It was up before the round opened, and looked at the clock only after it had begun."""
    core = authority(START)
    core.handle_timer(START)
    effects = agree(core, lambda t: t + late)
    assert of(effects, JournalVote)
    assert of(effects, JournalSignature)


def test_started_after_the_beginning_it_votes_but_signs_no_consensus() -> None:
    core = authority(SECOND.begins + 0.2)
    effects = agree(core, lambda t: t + 0.2)
    assert of(effects, JournalVote)
    assert not of(effects, JournalSignature)
    assert any("too late" in e.line for e in effects if isinstance(e, Log))


def test_very_late_it_does_not_even_vote() -> None:
    core = authority(START)
    effects = core.handle_timer(SECOND.begins + 0.3)
    assert not of(effects, JournalVote)
    assert not of(effects, SendVote)


def test_what_was_signed_before_a_restart_is_sent_again() -> None:
    core = authority(SECOND.concludes + 0.1, {SECOND.valid_after: Journal(b"vote", b"body")})
    effects = core.handle_timer(SECOND.concludes + 0.1)
    assert not of(effects, JournalSignature)
    sent = of(effects, SendSignature)
    assert len(sent) == 3


def test_a_missed_consensus_is_asked_for_from_one_after_another() -> None:
    core = authority(START)
    now, asked = SECOND.valid_after + 0.3, []
    for _ in range(7):
        asked += of(core.handle_timer(now), FetchConsensus)
        now += 0.5
    assert {e.source for e in asked if isinstance(e, FetchConsensus)} == {
        c.identity for c in CREDENTIALS[1:]
    }
    assert len(asked) == 7


def test_one_authority_alone_is_a_network() -> None:
    single = make_network(1)
    core = Authority(single.document, single.credentials[0], Restored(), START)
    core.publish_own(single.authorities[0].descriptor(START), START)
    now = float(START)
    while core.consensus is None and now < START + 10:
        now = core.next_timer()
        core.handle_timer(now)
    assert core.consensus is not None
    assert core.consensus.valid_after == nth_round(single.document, 0).valid_after
