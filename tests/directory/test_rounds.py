"""Rounds of authorities over a virtual network (spec/05 §4): one consensus, never two or none."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from functools import partial

import pytest

from fogbank.directory.broadcast import Chain, Relayed, open_evidence
from fogbank.directory.consensus import Flag
from fogbank.directory.effects import (
    Effect,
    JournalSignature,
    JournalVote,
    SendSignature,
    SendVote,
)
from fogbank.directory.schedule import nth_round
from fogbank.directory.signatures import AuthoritySignature
from fogbank.directory.vote import Policy, Vote
from tests.directory.factory import START, make_network, relay, worker
from tests.directory.simulation import Simulation

SEEDS = range(3)
ROUNDS = 3


def simulate(count: int, seed: int, faulty: tuple[int, ...] = ()) -> Simulation:
    """Boot all authorities but the faulty ones, before the first round, and publish some nodes."""
    sim = Simulation(make_network(count), random.Random(seed))
    healthy = [i for i in range(count) if i not in faulty]
    for index in healthy:
        sim.at(START + sim.rng.uniform(0, 0.8), partial(sim.boot, index))
    for number in range(3):
        publish_at = START + sim.rng.uniform(1.2, 3)
        for node in (relay(number), worker(number)):
            descriptor = node.descriptor(publish_at)
            for index in healthy:
                sim.at(publish_at, partial(publish, sim, index, descriptor))
    return sim


def publish(sim: Simulation, index: int, descriptor: bytes) -> None:
    if sim.members[index].core is not None:
        sim.publish(index, descriptor)


def assert_one_consensus_each(sim: Simulation, honest: list[int], rounds: int = ROUNDS) -> None:
    """In each round every honest authority holds the same consensus, and none signed two."""
    previous = b""
    for number in range(rounds):
        valid_after = nth_round(sim.network.document, number).valid_after
        digests = sim.consensuses(valid_after)
        assert len(digests) == 1, (number, [m.logs for m in sim.members])
        for index in honest:
            consensus = sim.members[index].adopted.get(valid_after)
            assert consensus is not None, (number, index, sim.members[index].logs)
            assert consensus.previous == previous
        previous = digests.pop()
    assert all(len(d) == 1 for (i, _), d in sim.signed.items() if i in honest)


def names(sim: Simulation, index: int) -> set[str]:
    newest = sim.members[index].adopted[max(sim.members[index].adopted)]
    return {entry.nickname for entry in newest.entries}


@pytest.mark.parametrize("seed", SEEDS)
def test_all_well(seed: int) -> None:
    sim = simulate(4, seed)
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 2, 3])
    last = sim.members[0].adopted[max(sim.members[0].adopted)]
    assert len(last.authorities()) == 4
    assert {r.nickname for r in last.relays()} == {"relay0", "relay1", "relay2"}
    assert {w.nickname for w in last.workers()} == {"worker0", "worker1", "worker2"}
    stable = Flag.GUARD | Flag.STABLE | Flag.FAST | Flag.RUNNING | Flag.VALID
    assert all(Flag.RUNNING in r.flags for r in last.relays())
    assert any(r.flags == stable for r in last.relays())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("count", "down"), [(4, (3,)), (7, (1, 5))])
def test_some_down(seed: int, count: int, down: tuple[int, ...]) -> None:
    sim = simulate(count, seed, down)
    sim.run_rounds(ROUNDS)
    honest = [i for i in range(count) if i not in down]
    assert_one_consensus_each(sim, honest)
    assert names(sim, 0) >= {"relay0", "worker2"}
    assert f"missing: auth{down[0]}" in sim.members[0].core.summary  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", SEEDS)
def test_too_many_down_gives_none_and_recovers(seed: int) -> None:
    sim = simulate(4, seed, (2, 3))
    sim.run_rounds(2)
    assert all(not member.adopted for member in sim.members)
    sim.boot(2)
    sim.run_rounds(4)
    assert sim.consensuses(nth_round(sim.network.document, 3).valid_after)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lag", [0.6, 1.3, 2.2, 5.0])
def test_one_late(seed: int, lag: float) -> None:
    """All that one authority sends comes some phases late."""
    sim = simulate(4, seed)

    def late(effect: Effect) -> list[tuple[float, Effect]]:
        slow = isinstance(effect, SendVote | SendSignature)
        return [(lag * sim.phase if slow else 0.0, effect)]

    sim.members[2].filter = late
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 3])
    assert len(sim.signed[2, nth_round(sim.network.document, 1).valid_after]) <= 1


def other_vote(sim: Simulation, index: int, valid_after: int) -> tuple[Chain, bytes]:
    """Return a second vote of an authority, with its chain signed by that authority."""
    credentials = sim.network.credentials[index]
    network_id = sim.network.document.network_id
    vote = Vote(valid_after, Policy(engines=("other",)), b"", b"", ())
    body = vote.sign(network_id, credentials)
    chain = Chain(valid_after, credentials.identity, hashlib.sha256(body).digest())
    return chain.signed(network_id, credentials), body


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victims", [(0,), (0, 1), (3,)])
@pytest.mark.parametrize("lag", [0.0, 0.7, 1.1, 1.8])
def test_one_equivocates(seed: int, victims: tuple[int, ...], lag: float) -> None:
    """One authority sends another vote to some, at once or in a later phase."""
    sim = simulate(4, seed)
    me = sim.network.authorities[2].identity
    chosen = {sim.network.authorities[i].identity for i in victims}

    def lie(effect: Effect) -> list[tuple[float, Effect]]:
        match effect:
            case SendVote(relayed, deadline) if relayed.chain.sender == me and (
                relayed.to in chosen
            ):
                chain, body = other_vote(sim, 2, relayed.chain.valid_after)
                return [(lag * sim.phase, SendVote(Relayed(relayed.to, chain, body), deadline))]
        return [(0.0, effect)]

    sim.members[2].filter = lie
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 3])
    if lag == 0.0:
        for index in (0, 1, 3):
            assert sim.members[index].disk.evidence
            for evidence in sim.members[index].disk.evidence.values():
                assert open_evidence(evidence, sim.network.document) == me


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("to", [(0,), (2, 3)])
def test_one_shows_a_second_vote_late_to_some(seed: int, to: tuple[int, ...]) -> None:
    """The honest vote to all; a second one later, so that it just makes the phase or not."""
    sim = simulate(4, seed)

    def lie(effect: Effect) -> list[tuple[float, Effect]]:
        out: list[tuple[float, Effect]] = [(0.0, effect)]
        if isinstance(effect, JournalVote):
            chain, body = other_vote(sim, 1, effect.valid_after)
            for index in to:
                relayed = Relayed(sim.network.authorities[index].identity, chain, body)
                wait = sim.rng.uniform(0.5, 1.5) * sim.phase
                out.append((wait, SendVote(relayed, effect.valid_after)))
        return out

    sim.members[1].filter = lie
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 2, 3])


@pytest.mark.parametrize("seed", SEEDS)
def test_one_shows_its_vote_before_all_have_opened_the_round(seed: int) -> None:
    """A liar's vote reaches the authority with the fastest clock alone, as that one just opens."""
    sim = simulate(4, seed)
    for index, member in enumerate(sim.members):
        member.offset = (0.12 if index == 0 else -0.12) * sim.phase
    first = sim.network.authorities[0].identity

    def hide(effect: Effect) -> list[tuple[float, Effect]]:
        return [] if isinstance(effect, SendVote) else [(0.0, effect)]

    sim.members[1].filter = hide
    for number in range(ROUNDS + 1):
        this = nth_round(sim.network.document, number)
        chain, body = other_vote(sim, 1, this.valid_after)
        opens = this.opens - sim.members[0].offset + 0.001
        if opens > sim.now:
            sim.at(opens, partial(sim.push, 1, first, chain, body))
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 2, 3])


@pytest.mark.parametrize("seed", SEEDS)
def test_one_sends_garbage(seed: int) -> None:
    """Garbage in every field that a decoder lets pass: bodies, digests, signatures, documents."""
    sim = simulate(4, seed)

    def garble(effect: Effect) -> list[tuple[float, Effect]]:
        match effect:
            case SendVote(relayed, deadline):
                return [(0.0, SendVote(garbled_vote(sim.rng, relayed), deadline))]
            case SendSignature(to, message, deadline):
                signature = message.signature
                bad = AuthoritySignature(
                    signature.identity, signature.certificate, sim.rng.randbytes(64)
                )
                return [(0.0, SendSignature(to, replace(message, signature=bad), deadline))]
        return [(0.0, effect)]

    sim.members[0].filter = garble
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [1, 2, 3])
    assert any("auth0" in line for line in sim.members[1].logs)


def garbled_vote(rng: random.Random, relayed: Relayed) -> Relayed:
    chain = relayed.chain
    match rng.randrange(4):
        case 0:
            return replace(relayed, body=rng.randbytes(200))
        case 1:
            return replace(relayed, chain=replace(chain, digest=rng.randbytes(32)))
        case 2:
            return replace(relayed, chain=replace(chain, signatures=chain.signatures * 2))
        case _:
            return replace(relayed, chain=replace(chain, sender=rng.randbytes(32)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signed_vote_that_is_nonsense_is_left_out_by_all(seed: int) -> None:
    """The chain is sound and agreed on; what it names is no vote."""
    sim = simulate(4, seed)
    credentials = sim.network.credentials[3]
    network_id = sim.network.document.network_id
    body = b"not a vote"

    def nonsense(effect: Effect) -> list[tuple[float, Effect]]:
        match effect:
            case SendVote(relayed, deadline) if relayed.chain.sender == credentials.identity:
                chain = Chain(
                    relayed.chain.valid_after,
                    credentials.identity,
                    hashlib.sha256(body).digest(),
                ).signed(network_id, credentials)
                return [(0.0, SendVote(Relayed(relayed.to, chain, body), deadline))]
        return [(0.0, effect)]

    sim.members[3].filter = nonsense
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 2])
    assert any("vote of auth3 does not count" in line for line in sim.members[0].logs)


@pytest.mark.parametrize("seed", SEEDS)
def test_seven_with_a_liar_and_one_down(seed: int) -> None:
    sim = simulate(7, seed, (6,))
    me = sim.network.authorities[2].identity

    def lie(effect: Effect) -> list[tuple[float, Effect]]:
        match effect:
            case SendVote(relayed, deadline) if relayed.chain.sender == me:
                if sim.rng.random() < 0.5:
                    return []
                chain, body = other_vote(sim, 2, relayed.chain.valid_after)
                wait = sim.rng.choice((0.0, 0.9, 1.4, 2.1)) * sim.phase
                return [(wait, SendVote(Relayed(relayed.to, chain, body), deadline))]
        return [(0.0, effect)]

    sim.members[2].filter = lie
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 3, 4, 5])


@pytest.mark.parametrize("seed", SEEDS)
def test_two_liars_of_seven_sign_for_each_other(seed: int) -> None:
    """They pass a hidden vote between them and show it in the last phase, with both signatures."""
    sim = simulate(7, seed)
    one, two = 2, 5
    target = sim.network.authorities[0].identity
    network_id = sim.network.document.network_id

    def lie(effect: Effect) -> list[tuple[float, Effect]]:
        if not isinstance(effect, JournalVote):
            return [(0.0, effect)]
        chain, body = other_vote(sim, one, effect.valid_after)
        chain = chain.signed(network_id, sim.network.credentials[two])
        wait = sim.rng.uniform(0.8, 2.4) * sim.phase
        hidden = SendVote(Relayed(target, chain, body), effect.valid_after)
        return [(0.0, effect), (wait, hidden)]

    sim.members[one].filter = lie
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 3, 4, 6])


@pytest.mark.parametrize("seed", range(12))
def test_killed_anywhere_in_a_round(seed: int) -> None:
    """One authority is killed and comes back, at any moment: it signs nothing twice."""
    sim = simulate(4, seed)
    second = nth_round(sim.network.document, 1)
    killed = sim.rng.uniform(second.opens, second.valid_after + sim.phase)
    back = killed + sim.rng.uniform(0.05, 1.0) * sim.phase
    sim.at(killed, lambda: sim.kill(1))
    sim.at(back, lambda: sim.boot(1))
    sim.run_rounds(ROUNDS)
    assert_one_consensus_each(sim, [0, 1, 2, 3])


def test_a_kill_between_journal_and_sending_repeats_the_same() -> None:
    """Nothing of what was journaled is sent; after the restart the journaled bytes are."""
    sim = simulate(4, 5)
    sim.run_rounds(1)
    lost: list[Effect] = []

    def crash(effect: Effect) -> list[tuple[float, Effect]]:
        if isinstance(effect, JournalVote | JournalSignature):
            return [(0.0, effect)]
        lost.append(effect)
        return []

    second = nth_round(sim.network.document, 1)
    sim.run_until(second.opens + 0.01)
    sim.members[1].filter = crash
    sim.run_until(second.begins + 0.2)
    journaled = sim.members[1].disk.journals[second.valid_after].vote
    sim.kill(1)
    sim.members[1].filter = None
    sim.boot(1)
    sim.run_rounds(ROUNDS)
    assert any(isinstance(effect, SendVote) and effect.relayed.body == journaled for effect in lost)
    assert sim.members[1].disk.journals[second.valid_after].vote == journaled
    assert_one_consensus_each(sim, [0, 1, 2, 3])


def test_a_relay_that_stops_answering_leaves_the_consensus() -> None:
    sim = simulate(4, 1)
    sim.run_rounds(3)
    assert "relay1" in names(sim, 0)
    gone = relay(1).identity
    sim.reachable = lambda probe: probe.identity != gone
    sim.run_rounds(6)
    assert "relay1" not in names(sim, 0)
    assert "relay0" in names(sim, 0)


def test_one_publication_is_enough() -> None:
    """A node that reaches one authority only is known to all after a round, and listed."""
    sim = simulate(4, 3)
    sim.run_rounds(1)
    sim.publish(2, relay(9).descriptor(sim.now))
    sim.run_rounds(ROUNDS)
    assert "relay9" in names(sim, 0)


def test_clock_set_back_signs_nothing_twice() -> None:
    sim = simulate(4, 2)
    sim.run_rounds(2)
    member = sim.members[0]
    member.offset -= 2.0
    sim.run_rounds(ROUNDS)
    assert all(len(digests) == 1 for (i, _), digests in sim.signed.items() if i == 0)
    assert_one_consensus_each(sim, [1, 2, 3])
