"""A round at an authority: every message in every state (spec/05 §4, §7).

One of four authorities is a liar: the test speaks in its place. Whatever it says to another one,
and at whatever moment of a round, the three others make one consensus of it, and sign nothing
twice. Messages go through the codec, and one without an example fails the test.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

from fogbank.directory.broadcast import Chain
from fogbank.directory.consensus import SignedConsensus, open_consensus
from fogbank.directory.effects import Effect, Log, SignatureMessage
from fogbank.directory.exchange import (
    AUTHORITY_REQUEST_LIMIT,
    GetConsensus,
    GetEvidence,
    GetMint,
    GetNetwork,
    Kind,
    PushSignature,
    PushVote,
    PutDescriptor,
    Request,
    decode_request,
)
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import Policy, Vote
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import make_network, relay
from tests.directory.simulation import Simulation

HONEST = (0, 1, 2)
LIAR = 3
NETWORK = make_network(4)
DOCUMENT = NETWORK.document
CREDENTIALS = NETWORK.credentials
THIS = nth_round(DOCUMENT, 1)
NETWORK_ID = DOCUMENT.network_id
STRANGER = relay(9).credentials

MOMENTS = {
    "before the round": THIS.begins - 0.01,
    "as it begins": THIS.begins,
    "in phase 1": THIS.begins + 0.4 * THIS.phase,
    "in phase 2": THIS.begins + 1.5 * THIS.phase,
    "as it concludes": THIS.concludes,
    "among signatures": THIS.concludes + 0.3 * THIS.phase,
    "as it comes into force": THIS.valid_after,
    "after it": THIS.valid_after + 0.6 * THIS.phase,
}


def vote(text: str = "", number: int = 1, signer: int = LIAR) -> bytes:
    this = nth_round(DOCUMENT, number)
    engines = (text,) if text else ()
    plain = Vote(this.valid_after, Policy(engines=engines), b"", b"", ())
    return plain.sign(NETWORK_ID, CREDENTIALS[signer])


def chain(body: bytes, signers: tuple[int, ...] = (LIAR,), number: int = 1) -> Chain:
    sender = CREDENTIALS[LIAR].identity
    when = nth_round(DOCUMENT, number).valid_after
    made = Chain(when, sender, hashlib.sha256(body).digest())
    for signer in signers:
        made = made.signed(NETWORK_ID, CREDENTIALS[signer])
    return made


def signature(body: bytes, number: int = 1, label: str = "fogbank-consensus-v1") -> PushSignature:
    when = nth_round(DOCUMENT, number).valid_after
    signed = CREDENTIALS[LIAR].sign(label, body)
    return PushSignature(SignatureMessage(when, hashlib.sha256(body).digest(), signed))


def in_another_name(message: PushSignature, index: int) -> PushSignature:
    inner = message.message
    name = CREDENTIALS[index].identity
    return PushSignature(replace(inner, signature=replace(inner.signature, identity=name)))


PRETENDER = replace(CREDENTIALS[LIAR], certificate=STRANGER.certificate, key=STRANGER.key)
FORGED = Chain(THIS.valid_after, CREDENTIALS[LIAR].identity, hashlib.sha256(vote()).digest())
EXAMPLES: dict[str, Request] = {
    "get consensus": GetConsensus(b""),
    "get evidence": GetEvidence(),
    "get network": GetNetwork(DOCUMENT.version, bytes(32)),
    "get mint": GetMint(THIS.valid_after),
    "a descriptor": PutDescriptor(relay(0).descriptor(THIS.begins)),
    "no descriptor": PutDescriptor(b"\xa0"),
    "a descriptor from the future": PutDescriptor(relay(1).descriptor(THIS.begins + 90_000)),
    "an authority's descriptor": PutDescriptor(NETWORK.authorities[0].descriptor(THIS.begins)),
    "a chain": PushVote(chain(vote())),
    "a vote": PushVote(chain(vote()), vote()),
    "another vote": PushVote(chain(vote("other")), vote("other")),
    "a vote without its bytes": PushVote(chain(b"never sent")),
    "a vote with other bytes": PushVote(chain(vote()), vote("other")),
    "a vote that is none": PushVote(chain(b"garbage"), b"garbage"),
    "a vote of the last round": PushVote(chain(vote(number=0), number=0), vote(number=0)),
    "a vote of the next round": PushVote(chain(vote(number=2), number=2), vote(number=2)),
    "a vote of no round": PushVote(replace(chain(vote()), valid_after=1), vote()),
    "an unsigned vote": PushVote(chain(vote(), ()), vote()),
    "a vote signed twice by one": PushVote(chain(vote(), (LIAR, LIAR)), vote()),
    "a vote in another's name": PushVote(
        replace(chain(vote()), sender=CREDENTIALS[1].identity), vote()
    ),
    "a vote by a stranger's key": PushVote(FORGED.signed(NETWORK_ID, PRETENDER), vote()),
    "a signature over another consensus": signature(b"other"),
    "a signature of the last round": signature(b"other", 0),
    "a signature of the next round": signature(b"other", 2),
    "a signature of another use": signature(b"other", label="fogbank-vote-v1"),
    "a signature in another's name": in_another_name(signature(b"other"), 1),
    "a signature in its reader's name": in_another_name(signature(b"other"), 0),
}


def test_every_kind_of_request_has_an_example() -> None:
    assert {type(request) for request in EXAMPLES.values()} == set(get_args(Request))
    assert len(get_args(Request)) == len(Kind)


def deliver(sim: Simulation, index: int, request: Request) -> list[Effect]:
    """Hand a request of the liar's to a core, as its shell does."""
    member = sim.members[index]
    core, liar = member.core, CREDENTIALS[LIAR].identity
    now = sim.now + member.offset
    assert core is not None
    match decode_request(request.encode(), AUTHORITY_REQUEST_LIMIT):
        case PushVote(made, body):
            return core.receive_vote(liar, made, body, now)[1]
        case PushSignature(message):
            return core.receive_signature(liar, message, now)
        case PutDescriptor(descriptor):
            return core.receive_descriptor(descriptor, now)
        case _:
            # These read what is held and change nothing.
            return []


def running() -> Simulation:
    sim = Simulation(NETWORK, random.Random(5))
    for index in HONEST:
        sim.boot(index)
    return sim


def assert_all_is_well(sim: Simulation, last: int = 2) -> None:
    """Check that the honest three hold one consensus a round, and signed one each."""
    sim.run_rounds(last + 1)
    for number in range(last + 1):
        when = nth_round(DOCUMENT, number).valid_after
        assert len(sim.consensuses(when)) == 1
        for index in HONEST:
            assert when in sim.members[index].adopted, (number, sim.members[index].logs)
            assert len(sim.signed[index, when]) == 1


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_message_of_a_liar_costs_a_round(name: str, moment: str) -> None:
    sim = running()
    sim.run_until(MOMENTS[moment])
    for index in (0, 0, 1):
        try:
            sim.carry_out(index, deliver(sim, index, EXAMPLES[name]))
        except ProtocolError:
            assert isinstance(EXAMPLES[name], PutDescriptor), "a push is never an error"
    assert_all_is_well(sim, 1)


@pytest.mark.parametrize("moment", MOMENTS)
def test_all_of_them_at_once_and_often(moment: str) -> None:
    """A liar is heard until it has sent 16 bad messages, of which one is told in the log."""
    sim = running()
    sim.run_until(MOMENTS[moment])
    names = random.Random(moment).choices(sorted(EXAMPLES), k=300)
    effects: list[Effect] = []
    for name in names:
        try:
            effects += deliver(sim, 0, EXAMPLES[name])
        except ProtocolError:
            assert isinstance(EXAMPLES[name], PutDescriptor)
    core = sim.members[0].core
    assert core is not None
    assert len(core._agreement._pending) <= 1
    assert all(len(held) <= 2 for held in core._agreement._broadcast._values.values())
    assert all(count <= 16 for count in core._agreement._strikes.values())
    blamed = [each for each in effects if isinstance(each, Log) and "garbage" in each.line]
    assert len(blamed) <= 1
    sim.carry_out(0, effects)
    assert_all_is_well(sim)


def changed(document: bytes, how: Callable[[SignedConsensus], SignedConsensus]) -> bytes:
    return how(SignedConsensus.decode(document)).encode()


DOCUMENTS: dict[str, Callable[[SignedConsensus], SignedConsensus]] = {
    "with a signature appended twice": lambda doc: replace(
        doc, signatures=(*doc.signatures, doc.signatures[0])
    ),
    "with a stranger's appended": lambda doc: replace(
        doc, signatures=(*doc.signatures, PRETENDER.sign("fogbank-consensus-v1", doc.body))
    ),
    "with one too few": lambda doc: replace(doc, signatures=doc.signatures[:2]),
    "with one counted thrice": lambda doc: replace(doc, signatures=doc.signatures[:1] * 3),
    "with none": lambda doc: replace(doc, signatures=()),
    "with another body": lambda doc: replace(doc, body=doc.body[:-1] + b"\0"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_signatures_that_a_liar_appends_make_no_consensus(name: str) -> None:
    """Of the next round's good consensus and of every changed one, only the good one counts."""
    sim = running()
    sim.run_rounds(2)
    when = nth_round(DOCUMENT, 1).valid_after
    document = sim.members[1].disk.consensuses[when]
    bad = changed(document, DOCUMENTS[name])
    with pytest.raises(ProtocolError):
        open_consensus(bad, DOCUMENT, when)
    member = sim.members[0]
    core = member.core
    assert core is not None
    core.consensus = None
    effects = core.receive_consensus(bad, sim.now + member.offset)
    assert core.consensus is None
    assert any(isinstance(effect, Log) for effect in effects)
    core.receive_consensus(document, sim.now + member.offset)
    assert core.consensus is not None
