"""The consensus gate: each check refuses alone, and says what it found (spec/05 §5.2)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fogbank.directory.consensus import (
    CONSENSUS_LABEL,
    VALIDITY,
    Consensus,
    Flag,
    SignedConsensus,
    open_consensus,
)
from fogbank.directory.network import NetworkDocument
from fogbank.directory.signatures import AuthoritySignature
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key
from tests.directory.factory import (
    START,
    SyntheticNetwork,
    make_consensus,
    make_entry,
    make_network,
    make_synthetic,
    relay,
    seed,
    worker,
)

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
CONSENSUS = make_consensus(NETWORK, [make_entry(relay(0)), make_entry(worker(0))])
NOW = float(CONSENSUS.valid_after)


def signed(consensus: Consensus = CONSENSUS, signers: tuple[int, ...] = (0, 1, 2)) -> bytes:
    return NETWORK.sign(consensus.encode_body(), signers)


def refused(data: bytes, match: str, now: float = NOW, **limits: float) -> None:
    with pytest.raises(ProtocolError, match=match):
        open_consensus(data, DOCUMENT, now, **limits)  # type: ignore[arg-type]


def test_what_is_right_passes_and_comes_back_the_same() -> None:
    opened = open_consensus(signed(), DOCUMENT, NOW)
    assert opened == CONSENSUS
    assert opened.encode_body() == CONSENSUS.encode_body()
    assert opened.digest == SignedConsensus.decode(signed()).digest()
    assert [e.nickname for e in opened.relays()] == ["relay0"]
    assert [e.nickname for e in opened.workers()] == ["worker0"]
    assert {e.identity for e in opened.authorities()} == {a.identity for a in NETWORK.authorities}
    entry = opened.by_identity(relay(0).identity)
    assert entry is not None
    assert Flag.GUARD in entry.flags
    assert opened.by_identity(bytes(32)) is None


def test_too_large() -> None:
    data = signed()
    open_consensus(data, DOCUMENT, NOW, limit=len(data))
    refused(data, "over its limit", limit=len(data) - 1)


def test_too_few_signatures() -> None:
    refused(signed(signers=(0, 1)), "2 signatures of authorities; 3 are needed")
    refused(signed(signers=()), "0 signatures")


def test_one_authority_twice() -> None:
    refused(signed(signers=(0, 1, 1)), "twice")
    refused(signed(signers=(0, 1, 2, 2)), "twice")


def test_a_stranger_s_signature() -> None:
    strangers = make_network(5)
    body = CONSENSUS.encode_body()
    data = strangers.sign(body, (0, 1, 4))
    refused(data, "no authority of this network")


def test_a_signature_over_other_bytes_or_of_another_use() -> None:
    body = CONSENSUS.encode_body()
    good = SignedConsensus.decode(signed()).signatures
    other = NETWORK.credentials[2].sign(CONSENSUS_LABEL, body + b"\0")
    refused(SignedConsensus(body, (*good[:2], other)).encode(), "does not verify")
    other = NETWORK.credentials[2].sign("fogbank-vote-v1", body)
    refused(SignedConsensus(body, (*good[:2], other)).encode(), "does not verify")
    borrowed = AuthoritySignature(good[2].identity, good[1].certificate, good[1].signature)
    refused(SignedConsensus(body, (*good[:2], borrowed)).encode(), "another issuer")


@pytest.mark.parametrize(
    ("born", "lifetime", "match"),
    [
        (START - SIGNING_LIFETIME, SIGNING_LIFETIME, "has expired"),
        (START + 86_400, SIGNING_LIFETIME, "not in force yet"),
    ],
)
def test_a_signing_certificate_out_of_its_time(born: int, lifetime: int, match: str) -> None:
    body = CONSENSUS.encode_body()
    node = NETWORK.authorities[2]
    certificate = issue(node.identity_key, Use.SIGNING, node.signing_key.public, born, lifetime)
    good = SignedConsensus.decode(signed()).signatures
    old = replace(good[2], certificate=certificate)
    refused(SignedConsensus(body, (*good[:2], old)).encode(), match)


def test_a_certificate_of_another_use() -> None:
    node = NETWORK.authorities[2]
    certificate = issue(node.identity_key, Use.FAMILY, node.signing_key.public, START, 1000)
    good = SignedConsensus.decode(signed()).signatures
    wrong = replace(good[2], certificate=certificate)
    document = SignedConsensus(CONSENSUS.encode_body(), (*good[:2], wrong))
    refused(document.encode(), "use FAMILY|use 4")


def test_another_network() -> None:
    refused(signed(replace(CONSENSUS, network_id=bytes(32))), "another network")


def test_expired_and_not_yet_valid_say_how_the_clock_is_off() -> None:
    data = signed()
    open_consensus(data, DOCUMENT, NOW + VALIDITY - 1)
    refused(data, "expired 1 minute ago.*clock seems to be fast", NOW + VALIDITY)
    refused(data, "expired 120 minutes ago", NOW + VALIDITY + 7200)
    ahead = replace(CONSENSUS, valid_after=int(NOW) + 7200, fresh_until=int(NOW) + 7230)
    ahead = replace(ahead, valid_until=ahead.valid_after + VALIDITY)
    open_consensus(signed(ahead), DOCUMENT, ahead.valid_after - 600)
    refused(signed(ahead), "begins 120 minutes from now.*clock.*slow", NOW)
    refused(signed(ahead), "begins 10 minutes from now", ahead.valid_after - 601)


@pytest.mark.parametrize(
    "times",
    [
        {"fresh_until": CONSENSUS.valid_after},
        {"valid_until": CONSENSUS.valid_until + 1},
        {"fresh_until": CONSENSUS.valid_until + 1},
        {"valid_after": CONSENSUS.valid_after - 5},
    ],
)
def test_incoherent_times(times: dict[str, int]) -> None:
    refused(signed(replace(CONSENSUS, **times)), "contradict")  # type: ignore[arg-type]


def test_a_step_back() -> None:
    open_consensus(signed(), DOCUMENT, NOW, not_before=CONSENSUS.valid_after)
    refused(signed(), "older than one", not_before=CONSENSUS.valid_after + 1)


def test_an_unknown_method_and_a_newer_protocol_ask_for_an_update() -> None:
    refused(signed(replace(CONSENSUS, method=99)), "update Fogbank")
    refused(signed(replace(CONSENSUS, method=2)), "field 14")
    refused(signed(replace(CONSENSUS, required_protocols=(1, 2))), "update it")


def test_entries_out_of_order_or_twice() -> None:
    entries = CONSENSUS.entries
    refused(signed(replace(CONSENSUS, entries=entries[::-1])), "out of order")
    refused(signed(replace(CONSENSUS, entries=(entries[0], entries[0]))), "twice")


def test_a_bad_field_behind_good_signatures() -> None:
    bad = replace(CONSENSUS.entries[0], nickname="not a nickname")
    refused(signed(replace(CONSENSUS, entries=(bad,))), "out of bounds")
    refused(signed(replace(CONSENSUS, contact_seed=b"short")), "out of bounds")


@pytest.mark.parametrize("count", range(1, 33))
def test_quorum_arithmetic(count: int) -> None:
    """q and b against their definitions: the greatest b with 3b < n, and q = n - b."""
    document = make_network_of(count)
    faulty = max(b for b in range(count) if 3 * b < count)
    assert document.faulty == faulty
    assert document.quorum == count - faulty == math.floor(2 * count / 3) + 1
    # Two quorums share an honest authority; honest ones alone are a quorum.
    assert 2 * document.quorum - count > faulty
    assert count - faulty >= document.quorum


def make_network_of(count: int) -> NetworkDocument:
    pins = make_network(1).document.authorities
    identities = [Ed25519Key(seed("pin", i)).public for i in range(count)]
    return replace(
        DOCUMENT, authorities=tuple(replace(pins[0], identity=identity) for identity in identities)
    )


@pytest.mark.parametrize("count", [4, 7])
def test_exactly_the_quorum_is_needed(count: int) -> None:
    network: SyntheticNetwork = make_network(count)
    body = make_consensus(network).encode_body()
    quorum = network.document.quorum
    open_consensus(network.sign(body, range(quorum)), network.document, NOW)
    with pytest.raises(ProtocolError, match="are needed"):
        open_consensus(network.sign(body, range(quorum - 1)), network.document, NOW)


def test_the_factory_makes_what_passes() -> None:
    synthetic = make_synthetic(relays=5, workers=3, families={0: "a", 1: "a"})
    assert len(synthetic.consensus.relays()) == 5
    first, second = (synthetic.consensus.by_identity(n.identity) for n in synthetic.relays[:2])
    assert first is not None
    assert second is not None
    assert first.families == second.families != ()
