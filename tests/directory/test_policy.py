"""An operator's policy: read from text, carried in votes, in force within one interval."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory import consensus as consensus_module
from fogbank.directory.admission import Admission
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.descriptor import Descriptor, open_descriptor
from fogbank.directory.rules import Listed, PolicyError, Rules, parse_policy
from fogbank.directory.runtimes import KNOWN, Runtime
from fogbank.directory.schedule import nth_round
from fogbank.directory.vote import Policy
from fogbank.nodes.home import HomeError
from fogbank.nodes.policy_file import PolicyFile
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address, RefusedCode
from fogbank.relay.keys import show_id
from tests.directory.factory import (
    START,
    Node,
    make_consensus,
    make_entry,
    make_network,
    relay,
    worker,
)
from tests.directory.simulation import Simulation

NETWORK = make_network()
DOCUMENT = NETWORK.document
RELAYS = [relay(i) for i in range(4)]
WORKERS = [worker(0), replace(worker(1), engine="with-a-hole")]
NODES = [*RELAYS, *WORKERS]


def show(node: Node) -> str:
    return show_id(node.identity)


def described(node: Node) -> Descriptor:
    return open_descriptor(node.descriptor(START), DOCUMENT, START)


# The text.


def test_all_that_a_policy_says() -> None:
    policy, rules = parse_policy(
        f"""
        methods = [1]
        required_protocols = [1]
        recommended_protocols = [1, 2]
        engines = ["b", "a"]
        revoked = ["{show(RELAYS[0])}"]
        runtimes = ["python", {{name = "lua", digest = "{"ab" * 32}", size = 7}}]
        [reject]
        identities = ["{show(RELAYS[1])}"]
        networks = ["127.13.0.0/16"]
        [approve]
        identities = ["{show(WORKERS[0])}"]
        networks = ["127.0.0.0/8", "2001:db8::/32"]
        """
    )
    runtimes = (Runtime("lua", b"\xab" * 32, 7), *(each for each in KNOWN if each.name == "python"))
    assert policy == Policy((1,), (1,), (1, 2), ("a", "b"), (RELAYS[0].identity,), runtimes)
    assert not rules.admits(described(RELAYS[1]))
    assert not rules.admits(described(RELAYS[2])), "127.13.0.1 is in a rejected network"
    assert rules.admits(described(RELAYS[3]))
    assert rules.admits(described(WORKERS[0]))
    assert not rules.admits(described(WORKERS[1])), "nobody approved of it"


def test_an_empty_policy_is_the_default() -> None:
    assert parse_policy("") == (Policy(), Rules())
    assert Policy().runtimes == KNOWN
    assert parse_policy("runtimes = []")[0].runtimes == ()
    assert all(Rules().admits(described(node)) for node in NODES)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("engines = ", "not TOML"),
        ("revoke = []", "'revoke' is not a part"),
        ("required_protocols = [9]", "does not know: update it first"),
        ("methods = [9]", "does not know: update it first"),
        ("methods = []", "methods is empty"),
        ("methods = 1", "methods is not a list"),
        ("methods = ['1']", "no version number"),
        ("engines = ['']", "no engine class"),
        ("revoked = ['somebody']", "no node's identity"),
        ("revoked = [1]", "no node's identity"),
        ("runtimes = ['cobol']", "this program knows .*python"),
        ("runtimes = [1]", "no runtime"),
        ("[[runtimes]]\nname = 'lua'\ndigest = 'ab'\nsize = 1", "no runtime"),
        (f"[[runtimes]]\nname = 'lua'\ndigest = '{'ab' * 32}'\nsize = 0", "no runtime"),
        (f"[[runtimes]]\nname = 'lua'\ndigest = '{'ab' * 32}'\nsize = 1\nurl = ''", "no runtime"),
        (
            "".join(f"[[runtimes]]\nname='{n}'\ndigest='{'ab' * 32}'\nsize=1\n" for n in "ab"),
            "one module twice",
        ),
        ("reject = 1", "as a table"),
        ("[reject]\nnetworks = ['127.0.0.1/8']", "host bits"),
        ("[reject]\nnetworks = [7]", "no network such as"),
        ("[reject]\nfamilies = []", "not a part of"),
        ("[approve]", "names nobody"),
        ("grant = 7", "as a table"),
        ("[grant]\nnobody = 7", "no node's identity"),
        (f"[grant]\n{show_id(bytes(32))} = -1", "0 to 1048576 tokens"),
        (f"[grant]\n{show_id(bytes(32))} = true", "0 to 1048576 tokens"),
        (f"[grant]\n{show_id(bytes(32))} = {1 << 21}", "0 to 1048576 tokens"),
        ("[grant]\n" + "\n".join(f"a{i} = 1" for i in range(257)), "at most 256 nodes"),
    ],
)
def test_a_policy_that_cannot_be_used_says_why(text: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        parse_policy(text)


@given(st.text())
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    try:
        parse_policy(text)
    except PolicyError:
        return


# The file.


def test_a_changed_file_counts_and_a_bad_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    read = PolicyFile(path)
    assert read() == (Policy(), Rules())
    path.write_text("engines = ['one']")
    assert read()[0].engines == ("one",)
    path.write_text("engines = oops")
    assert read()[0].engines == ("one",)
    path.write_text("engines = ['one', 'two']")
    assert read()[0].engines == ("one", "two")
    path.unlink()
    assert read() == (Policy(), Rules())


def test_an_authority_does_not_start_with_a_bad_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(HomeError, match=r"policy\.toml"):
        PolicyFile(path)


# The network.


class Network(Simulation):
    """Four authorities that know all nodes, with policies that change between rounds."""

    def __init__(self) -> None:
        super().__init__(NETWORK, random.Random(1))
        for index in range(4):
            self.at(START + self.rng.uniform(0, 0.8), partial(self.boot, index))
            for node in NODES:
                self.at(START + 1, partial(self.publish, index, node.descriptor(START + 0.5)))

    def adopt_policy(self, after: int, policy: Policy, rules: Rules, who: tuple[int, ...]) -> None:
        """Give those authorities a policy, right after the consensus of that round."""
        when = nth_round(DOCUMENT, after).valid_after + 0.3
        for index in who:
            self.at(when, partial(self._set, index, policy, rules))

    def _set(self, index: int, policy: Policy, rules: Rules) -> None:
        core = self.members[index].core
        assert core is not None
        core.policy, core.rules = policy, rules

    def consensus(self, number: int) -> Consensus:
        valid_after = nth_round(DOCUMENT, number).valid_after
        assert len(self.consensuses(valid_after)) == 1
        return self.members[0].adopted[valid_after]


def names(consensus: Consensus) -> set[str]:
    return {entry.nickname for entry in (*consensus.relays(), *consensus.workers())}


REJECT_ONE = Rules(Listed(frozenset([RELAYS[1].identity])))
APPROVE_RELAYS = Rules(approved=Listed(frozenset(r.identity for r in RELAYS)))
EVERY = {node.name for node in NODES}


@pytest.mark.parametrize(
    ("policy", "rules", "gone", "revoked"),
    [
        (Policy(revoked=(RELAYS[0].identity,)), Rules(), {"relay0"}, {"relay0"}),
        (Policy(engines=("test-engine",)), Rules(), {"worker1"}, set()),
        (Policy(), REJECT_ONE, {"relay1"}, {"relay1"}),
        (
            Policy(),
            parse_policy("[reject]\nnetworks = ['127.13.0.0/16']")[1],
            {"relay2"},
            {"relay2"},
        ),
        (Policy(), APPROVE_RELAYS, {"worker0", "worker1"}, set()),
    ],
    ids=["revoked", "engine class", "rejected", "rejected network", "not approved"],
)
def test_a_policy_of_three_of_four_is_in_force_in_the_next_consensus(
    policy: Policy, rules: Rules, gone: set[str], revoked: set[str]
) -> None:
    network = Network()
    network.adopt_policy(1, policy, rules, (0, 1, 2))
    network.adopt_policy(2, Policy(), Rules(), (0, 1, 2))
    network.run_rounds(4)
    assert names(network.consensus(1)) == EVERY
    assert names(network.consensus(2)) == EVERY - gone
    by_name = {node.identity: node.name for node in NODES}
    assert {by_name[each] for each in network.consensus(2).revoked} == revoked
    assert names(network.consensus(3)) == EVERY, "it is taken back as fast"


def test_one_authority_shuts_nobody_out() -> None:
    network = Network()
    everything = Policy(engines=("none",), revoked=tuple(n.identity for n in RELAYS))
    network.adopt_policy(1, everything, APPROVE_RELAYS, (3,))
    network.run_rounds(3)
    assert names(network.consensus(2)) == EVERY
    assert network.consensus(2).revoked == ()


@contextmanager
def program_speaks(*protocols: int) -> Iterator[None]:
    """Run as a program of those protocol versions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consensus_module, "SUPPORTED_PROTOCOLS", protocols)
        yield


def test_protocol_versions_are_upgraded_with_two_versions_running() -> None:
    """Old and new nodes share the network until version 2 is required; then in one interval not."""
    with program_speaks(1, 2):
        network = Network()
        for index, authority in enumerate(NETWORK.authorities):
            newer = replace(authority.description(), protocols=(1, 2))
            own = authority.descriptor(START + 1, newer)
            network.at(START + 1, partial(publish_own, network, index, own))
        for node in (*RELAYS[:3], WORKERS[0]):
            newer = replace(node.description(), protocols=(1, 2))
            data = node.descriptor(START + 1.5, newer)
            for index in range(4):
                network.at(START + 2, partial(network.publish, index, data))
        required = Policy(required_protocols=(2,), recommended_protocols=(2,))
        network.adopt_policy(1, required, Rules(), (0, 1))
        network.adopt_policy(2, required, Rules(), (2,))
        network.run_rounds(4)
        shared, after = network.consensus(2), network.consensus(3)
        assert names(shared) == EVERY
        assert names(after) == {"relay0", "relay1", "relay2", "worker0"}
        assert len(after.authorities()) == 4
        body = after.encode_body()
    with program_speaks(1):
        opened = open_consensus(NETWORK.sign(shared.encode_body()), DOCUMENT, shared.valid_after)
        assert opened == shared
        with pytest.raises(ProtocolError, match="too old for the network: update it"):
            open_consensus(NETWORK.sign(body), DOCUMENT, after.valid_after)


def publish_own(network: Network, index: int, descriptor: bytes) -> None:
    core = network.members[index].core
    assert core is not None
    core.publish_own(descriptor, network.now)


# Relays' extends: whom the newest consensus shuts out is gone, whatever older ones say.


def admitting(*consensuses: Consensus) -> Admission:
    admission = Admission(lambda: START + 10, test=True)
    for consensus in consensuses:
        admission.add(consensus)
    return admission


BEFORE = make_consensus(NETWORK, [make_entry(node) for node in NODES])
LATER = replace(make_consensus(NETWORK, []), valid_after=START + 33)


def test_a_node_of_an_older_consensus_is_admitted() -> None:
    admission = admitting(BEFORE, LATER)
    for node in NODES:
        assert admission.check(node.identity, node.addresses or None) is None
    wrong = (Address("127.99.0.1", 1),)
    assert admission.check(RELAYS[0].identity, wrong) is RefusedCode.BAD_ADDRESS
    assert admission.check(relay(99).identity, None) is RefusedCode.NOT_IN_CONSENSUS


@pytest.mark.parametrize(
    ("newest", "gone"),
    [
        (replace(LATER, revoked=(RELAYS[0].identity,)), {"relay0"}),
        (replace(LATER, engines=("test-engine",)), {"worker1"}),
        (replace(LATER, required_protocols=(1, 2)), EVERY),
    ],
    ids=["revoked", "engine class", "protocol"],
)
def test_a_node_that_is_shut_out_is_not(newest: Consensus, gone: set[str]) -> None:
    admission = admitting(BEFORE, newest)
    refused = {n.name for n in NODES if admission.check(n.identity, None) is not None}
    assert refused == gone
