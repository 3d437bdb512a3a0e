"""Authorities are added, replaced and removed while the network runs (spec/05 §1.4)."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest

from fogbank.directory.authority import Authority
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.descriptor import Role
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    verify_successor,
)
from fogbank.directory.schedule import nth_round
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import START, Node, SyntheticNetwork, make_network, relay
from tests.directory.simulation import Simulation

OLD = make_network(4)
CHANGE = 6
"""The first round of the second version."""
ROUNDS = 12
NEWCOMERS = tuple(Node(f"auth{i}", Role.AUTHORITY, i) for i in range(4, 7))
NODES = (*OLD.authorities, *NEWCOMERS)


def amended(members: tuple[int, ...]) -> NetworkDocument:
    """Return version 2, with the authorities of those numbers, signed and verified."""
    old = OLD.document
    pins = tuple(
        AuthorityPin(NODES[i].identity, NODES[i].name, NODES[i].addresses) for i in members
    )
    in_force = nth_round(old, CHANGE).valid_after
    document = replace(old, version=2, authorities=pins, in_force=in_force)
    document.check()
    signed = SignedNetwork(document)
    for node in NODES:
        signed = signed.sign(node.identity_key)
    return verify_successor(old, signed)


class Changing(Simulation):
    """Old authorities restart with version 2 one by one; new ones start with it.

    Those that are `living` go over to it as they run; `late` is when the first one does, else with
    the others before it is in force.
    """

    def __init__(
        self, members: tuple[int, ...], seed: int, *, living: bool = False, late: float = 0.0
    ) -> None:
        self.living = living
        self.document = amended(members)
        network = SyntheticNetwork(self.document, NODES)
        super().__init__(network, random.Random(seed), mint=True)
        self.knows = [OLD.document] * 4 + [self.document] * 3
        for index in range(4):
            self.at(START + self.rng.uniform(0, 0.8), partial(self.boot, index))
            self.at(START + 1, partial(self.publish, index, relay(0).descriptor(START + 0.5)))
            # One at a time, each in the middle of another interval before the change.
            middle = nth_round(OLD.document, 1 + index).valid_after + 1.2
            if index == 0:
                middle = late or nth_round(OLD.document, 4).valid_after + 15.0
            if not living:
                self.at(middle, partial(self.kill, index))
            self.at(middle + 0.2, partial(self._renew, index))
        for index in set(members) - set(range(4)):
            self.at(START + 40 + self.rng.uniform(0, 9), partial(self.boot, index))

    def _renew(self, index: int) -> None:
        self.knows[index] = self.document
        if not self.living:
            self.boot(index)
            return
        member = self.members[index]
        assert member.core is not None
        member.core.go_over(self.document, self.now + member.offset)
        self._tick(index, member.core)

    def boot(self, index: int) -> None:
        member, node = self.members[index], self.network.authorities[index]
        local = self.now + member.offset
        restored = member.disk.restored()
        member.core = core = Authority(
            self.knows[index], node.credentials, restored, local, mint=self.secret(index)
        )
        core.publish_own(node.descriptor(local), local)
        self._tick(index, core)

    def consensus(self, number: int) -> Consensus:
        valid_after = nth_round(self.document, number).valid_after
        assert len(self.consensuses(valid_after)) == 1, (number, [m.logs for m in self.members])
        holder = next(m for m in self.members if valid_after in m.adopted)
        return holder.adopted[valid_after]


@pytest.mark.parametrize("living", [False, True], ids=["restarting", "running on"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "members",
    [(0, 1, 2, 4), (0, 1, 2, 3, 4, 5, 6), (0, 1, 2)],
    ids=["one is replaced", "four become seven", "one is removed"],
)
def test_no_round_is_lost_when_authorities_change(
    members: tuple[int, ...], seed: int, living: bool
) -> None:
    """At each moment one version governs, whichever of the two a program goes by."""
    sim = Changing(members, seed, living=living)
    sim.run_rounds(ROUNDS)
    names = {NODES[i].name for i in members}
    previous = b""
    for number in range(ROUNDS):
        consensus = sim.consensus(number)
        assert consensus.previous == previous
        previous = consensus.digest
        listed = {entry.nickname for entry in consensus.authorities()}
        if number < CHANGE:
            assert listed <= {"auth0", "auth1", "auth2", "auth3"}
        else:
            assert listed == names, [m.logs for m in sim.members]
    # What the network had agreed on before holds on: since when nodes are in it, and the seeds.
    before, after = sim.consensus(CHANGE - 1), sim.consensus(ROUNDS - 1)
    node = relay(0).identity
    entries = before.by_identity(node), after.by_identity(node)
    assert entries[0] is not None
    assert entries[1] is not None
    assert entries[0].since == entries[1].since
    assert after.random is not None
    assert [seed.slot for seed in after.random.seeds] == [1]
    # Series are kept with the committees that they were made by.
    assert before.mint is not None
    assert after.mint is not None
    assert after.mint.series[: len(before.mint.series)] == before.mint.series
    assert [series.number for series in after.mint.series] == [0, 1]
    assert all(len(digests) == 1 for digests in sim.signed.values())


@pytest.mark.parametrize("after", [-1.0, 0.5, 14.0, 29.0])
def test_one_that_hears_of_the_change_too_late_costs_no_round_and_comes_back(after: float) -> None:
    """Whether in the middle of the first round of the new version, or after it."""
    change = nth_round(OLD.document, CHANGE).valid_after
    sim = Changing((0, 1, 2, 3, 4), 3, living=True, late=change + after)
    sim.run_rounds(ROUNDS)
    for number in range(ROUNDS):
        sim.consensus(number)
    assert all(len(digests) == 1 for digests in sim.signed.values())
    # It votes and signs again, and had part in no round of which it knew the wrong authorities.
    signed = {valid_after for index, valid_after in sim.signed if index == 0}
    assert max(signed) >= nth_round(sim.document, ROUNDS - 2).valid_after
    last = sim.consensus(ROUNDS - 1)
    assert sim.network.authorities[0].identity in last.voters


def test_a_departed_authority_signs_nothing_more_and_keeps_up() -> None:
    sim = Changing((0, 1, 2, 4), 5)
    sim.run_rounds(ROUNDS)
    signed_by_it = [valid_after for index, valid_after in sim.signed if index == 3]
    assert max(signed_by_it) < sim.document.in_force
    by_newcomer = [valid_after for index, valid_after in sim.signed if index == 4]
    assert min(by_newcomer) >= sim.document.in_force
    core = sim.members[3].core
    assert core is not None
    assert core.consensus is not None
    assert core.consensus.valid_after >= nth_round(sim.document, ROUNDS - 2).valid_after
    assert core.summary.startswith("consensus of")
    assert "not in office" in core.summary


def test_a_consensus_is_judged_by_the_version_that_governs_it() -> None:
    """Old authorities sign for old times alone, new ones for new times, whoever reads it when."""
    sim = Changing((0, 1, 4, 5), 1)
    document = sim.document
    sim.run_rounds(CHANGE)
    body = sim.consensus(CHANGE - 1).encode_body()
    old, new = [0, 1, 2], [0, 4, 5]
    at = nth_round(document, CHANGE - 1).valid_after
    assert open_consensus(sim.network.sign(body, old), document, at + 1)
    with pytest.raises(ProtocolError, match="no authority"):
        open_consensus(sim.network.sign(body, new), document, at + 1)

    later = nth_round(document, CHANGE)
    times = {
        "valid_after": later.valid_after,
        "fresh_until": later.fresh_until,
        "valid_until": later.valid_after + 86_400,
    }
    body = replace(sim.consensus(CHANGE - 1), **times).encode_body()  # type: ignore[arg-type]
    assert open_consensus(sim.network.sign(body, new), document, later.valid_after)
    with pytest.raises(ProtocolError, match="no authority"):
        open_consensus(sim.network.sign(body, old), document, later.valid_after)
