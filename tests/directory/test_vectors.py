"""The directory room against spec/vectors: values worked out without its code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fogbank.directory.broadcast import Chain
from fogbank.directory.computation import first_contact_seed
from fogbank.directory.consensus import Consensus, open_consensus
from fogbank.directory.contacts import contacts
from fogbank.directory.descriptor import Description, DescriptorCache, Role, open_descriptor
from fogbank.directory.exchange import (
    REQUEST_LIMIT,
    GetNetwork,
    Reply,
    Status,
    decode_reply,
    decode_request,
    pack_links,
    unpack_links,
)
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
    load_network,
    open_network,
    verify_successor,
)
from fogbank.directory.runtimes import Runtime, encode_runtimes
from fogbank.directory.schedule import nth_round
from fogbank.directory.shared_random import (
    EXTENSION,
    Share,
    advance,
    class_of,
    commitment,
    decode_share,
    slot_rounds,
)
from fogbank.directory.vote import Observation, Policy, open_vote
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from tests.vectors import generated

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "05-directory.json").read_text())
NOW, VALID_AFTER = VECTORS["now"], VECTORS["valid_after"]
IDENTITIES = [bytes.fromhex(identity) for identity in VECTORS["network"]["signatures"]]
NETWORK = NetworkDocument(
    bytes.fromhex(VECTORS["network"]["body"])[4:36],
    "vectors",
    1,
    tuple(
        AuthorityPin(identity, f"auth{i}", (Address(f"127.{i + 1}.0.1", 9000),))
        for i, identity in enumerate(IDENTITIES)
    ),
    Timing(NOW, 500, 30, 3, 3),
    test=True,
)


RUNTIMES = tuple(
    Runtime(name, bytes.fromhex(digest), size) for name, digest, size in VECTORS["runtimes"]
)


def value(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def opened() -> Consensus:
    return open_consensus(value("consensus"), NETWORK, VALID_AFTER)


def test_the_generator_gives_the_file() -> None:
    assert generated("directory") == VECTORS


def test_the_network_document() -> None:
    assert NETWORK.encode_body().hex() == VECTORS["network"]["body"]
    signatures = tuple(
        (bytes.fromhex(identity), bytes.fromhex(signature))
        for identity, signature in VECTORS["network"]["signatures"].items()
    )
    assert open_network(dump_network(SignedNetwork(NETWORK, signatures))) == NETWORK


def test_the_next_version_of_the_network_document() -> None:
    vector = VECTORS["network_2"]
    signatures = tuple(
        (bytes.fromhex(identity), bytes.fromhex(signature))
        for identity, signature in vector["signatures"].items()
    )
    newcomer = replace(NETWORK.authorities[3], identity=signatures[4][0])
    pins = (*NETWORK.authorities[:3], newcomer)
    document = replace(NETWORK, version=2, authorities=pins, in_force=NOW + 300)
    assert document.encode_body().hex() == vector["body"]
    text = dump_network(SignedNetwork(document, signatures))
    assert verify_successor(NETWORK, load_network(text)) == document


def test_the_request_for_later_versions() -> None:
    vector = VECTORS["get_network"]
    request = GetNetwork(1, NETWORK.digest)
    assert request.encode().hex() == vector["request"]
    assert decode_request(request.encode(), REQUEST_LIMIT) == request
    texts = ("a = 1\n", "b = 2\n")
    reply = Reply(Status.DONE, NOW, pack_links(texts))
    assert reply.encode().hex() == vector["reply"]
    assert unpack_links(decode_reply(reply.encode()).body) == texts


def test_the_descriptor() -> None:
    descriptor = open_descriptor(value("descriptor"), NETWORK, NOW)
    assert descriptor.description == Description(
        "relay0", Role.RELAY, (Address("127.10.0.1", 9000),), services=("dir",)
    )
    assert len(descriptor.families) == 1


def test_the_vote_and_its_chain() -> None:
    chain = Chain.decode(value("chain"))
    assert chain.verify(NETWORK) == set(IDENTITIES[:2])
    assert chain.encode() == value("chain")
    vote = open_vote(value("vote"), chain.sender, NETWORK, VALID_AFTER, DescriptorCache(NETWORK))
    assert vote.policy == Policy(methods=(1, 2, 3), runtimes=RUNTIMES)
    assert set(vote.extensions) == {1, 2, 99}
    assert encode_runtimes(RUNTIMES) == vote.extensions[2]
    ((descriptor, seen),) = vote.nodes.values()
    assert descriptor.data == value("descriptor")
    assert seen == Observation(uptime=60)


def test_the_consensus() -> None:
    consensus = opened()
    assert consensus.valid_after == VALID_AFTER
    assert len(consensus.relays()) == 5
    assert consensus.contact_seed == value("contact_seed") == first_contact_seed(NETWORK.network_id)


def test_accepted_runtimes() -> None:
    third = open_consensus(value("consensus_3"), NETWORK, VALID_AFTER)
    assert third.runtimes == RUNTIMES
    second = open_consensus(value("consensus_2"), NETWORK, VALID_AFTER)
    assert second.runtimes is None
    assert replace(third, method=2, runtimes=None) == second


def test_shared_randomness() -> None:
    """Commitments, the seed that three revealed values give, and the contacts that follow."""
    expected = VECTORS["random"]
    consensus = open_consensus(value("consensus_2"), NETWORK, VALID_AFTER)
    state = consensus.random
    assert state is not None
    assert {who.hex(): commit.hex() for who, commit in state.commits} == expected["commits"]
    values = {bytes.fromhex(k): bytes.fromhex(v) for k, v in expected["values"].items()}
    for authority, given in values.items():
        made = commitment(NETWORK.network_id, expected["slot"], authority, given)
        assert (authority, made) in state.commits
    assert len(state.reveals) == 3
    assert set(state.reveals) <= set(values.items())

    # The next slot begins: what was revealed becomes the seed.
    share = Share(VALID_AFTER, state)
    begin = nth_round(NETWORK, (expected["slot"] + 1) * slot_rounds(NETWORK))
    after = advance([(who, share) for who in IDENTITIES], NETWORK, begin)
    assert after.seeds[-1].value.hex() == expected["seed"]

    worker = value("worker")
    assert class_of(NETWORK.network_id, worker) == expected["class"]
    assert consensus.seed_of(worker).value.hex() == expected["seed"]
    assert [entry.identity.hex() for entry in contacts(worker, consensus)] == expected["contacts"]


def test_the_share_of_a_vote() -> None:
    opened_vote = open_vote(
        value("vote"),
        Chain.decode(value("chain")).sender,
        NETWORK,
        VALID_AFTER,
        DescriptorCache(NETWORK),
    )
    share = decode_share(opened_vote.extensions[EXTENSION])
    assert share.reveal.hex() in VECTORS["random"]["values"].values()
    assert not share.commit
    assert share.encode() == opened_vote.extensions[EXTENSION]


@pytest.mark.parametrize("vector", VECTORS["consensus_refused"], ids=lambda v: v["why"])
def test_consensuses_that_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        open_consensus(bytes.fromhex(vector["document"]), NETWORK, vector["now"])


def test_the_contacts() -> None:
    chosen = contacts(value("worker"), opened())
    assert [entry.identity.hex() for entry in chosen] == VECTORS["contacts"]
