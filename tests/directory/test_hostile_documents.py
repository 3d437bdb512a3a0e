"""Hostile documents, beyond what `tests/test_decoders.py` does to each decoder (spec/05 §9).

No byte of a signed document can be another one; and behind signatures that verify, any body gives
a document or one `ProtocolError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.directory.broadcast import Chain, open_evidence
from fogbank.directory.consensus import entry_from_value, open_consensus
from fogbank.directory.descriptor import DESCRIPTOR_LABEL, DescriptorCache, open_descriptor
from fogbank.directory.effects import SignatureMessage
from fogbank.directory.exchange import (
    GetConsensus,
    GetEvidence,
    PushSignature,
    PushVote,
    PutDescriptor,
    Reply,
    Request,
    Status,
    decode_reply,
    decode_request,
    pack,
    pack_evidence,
    unpack,
    unpack_evidence,
)
from fogbank.directory.network import dump_network, load_network, open_network
from fogbank.directory.runtimes import KNOWN
from fogbank.directory.shared_random import RandomState, Seed, Share
from fogbank.directory.signatures import AuthoritySignature
from fogbank.directory.vote import VOTE_LABEL, Observation, Policy, Vote, open_vote
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Signed
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay, worker

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
AUTHORITY = NETWORK.authorities[0]
RELAY = relay(0, family="f")
T0 = START + 3

DESCRIPTOR = RELAY.descriptor(START)
POLICY = Policy(engines=("class",), revoked=(bytes(32),))
RANDOM = RandomState(
    3, ((bytes(32), bytes(32)),), ((bytes(32), bytes(32)),), (Seed(2, T0, bytes(32)),)
)
VOTE = Vote(
    T0,
    POLICY,
    bytes(32),
    AUTHORITY.descriptor(START),
    ((DESCRIPTOR, Observation(1, 2, 3, 4)), (worker(0).descriptor(START), Observation())),
    ((1, Share(T0, RANDOM).encode()), (99, b"")),
).sign(DOCUMENT.network_id, AUTHORITY.credentials)
CONSENSUS = NETWORK.sign(
    replace(
        make_consensus(NETWORK, [make_entry(RELAY)]), method=3, random=RANDOM, runtimes=KNOWN
    ).encode_body()
)


def chain_of(body: bytes) -> Chain:
    chain = Chain(T0, AUTHORITY.identity, hashlib.sha256(body).digest())
    for credentials in NETWORK.credentials[:2]:
        chain = chain.signed(DOCUMENT.network_id, credentials)
    return chain


EVIDENCE = encode([chain_of(b"one").encode(), chain_of(b"two").encode()])
SIGNATURE = NETWORK.credentials[1].sign("fogbank-test-v1", b"body")
REQUESTS: list[Request] = [
    GetConsensus(bytes(32)),
    PutDescriptor(DESCRIPTOR),
    PushVote(chain_of(VOTE), VOTE),
    PushVote(chain_of(VOTE)),
    PushSignature(SignatureMessage(T0, bytes(32), SIGNATURE)),
    GetEvidence(),
]


@dataclass(frozen=True)
class Decoder:
    name: str
    decode: Callable[[bytes], object]
    valid: bytes


def verified_chain(data: bytes) -> object:
    return Chain.decode(data).verify(DOCUMENT)


SIGNED = [
    Decoder("descriptor", lambda b: open_descriptor(b, DOCUMENT, START), DESCRIPTOR),
    Decoder(
        "vote",
        lambda b: open_vote(b, AUTHORITY.identity, DOCUMENT, T0, DescriptorCache(DOCUMENT)),
        VOTE,
    ),
    Decoder("chain", verified_chain, chain_of(b"x").encode()),
    Decoder("evidence", lambda b: open_evidence(b, DOCUMENT), EVIDENCE),
    Decoder("consensus", lambda b: open_consensus(b, DOCUMENT, T0), CONSENSUS),
]
OTHERS = [
    *(
        Decoder(type(request).__name__, lambda b: decode_request(b, 1 << 20), request.encode())
        for request in REQUESTS[2:]
    ),
    Decoder("inflate", unpack, pack(CONSENSUS)),
    Decoder("proofs", unpack_evidence, pack_evidence([EVIDENCE])),
]


def resigned_descriptor(body: bytes) -> object:
    data = Signed.make(RELAY.signing_key, DESCRIPTOR_LABEL, body).encode()
    return open_descriptor(data, DOCUMENT, START)


def resigned_vote(body: bytes) -> object:
    data = Signed.make(AUTHORITY.signing_key, VOTE_LABEL, body).encode()
    return open_vote(data, AUTHORITY.identity, DOCUMENT, T0, DescriptorCache(DOCUMENT))


def resigned_consensus(body: bytes) -> object:
    return open_consensus(NETWORK.sign(body, [0, 1, 2]), DOCUMENT, T0)


RESIGNED = [
    Decoder("descriptor", resigned_descriptor, Signed.decode(DESCRIPTOR, 1 << 20).body),
    Decoder("vote", resigned_vote, Signed.decode(VOTE, 1 << 20).body),
    Decoder("consensus", resigned_consensus, decode(CONSENSUS, 1 << 20)[0]),
]


def attempt(decoder: Decoder, data: bytes) -> bool:
    """Decode; tell whether it was accepted. Anything but `ProtocolError` fails the test."""
    try:
        decoder.decode(data)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("decoder", [*SIGNED, *OTHERS, *RESIGNED], ids=lambda d: d.name)
def test_valid_bytes_pass(decoder: Decoder) -> None:
    decoder.decode(decoder.valid)


@pytest.mark.parametrize("decoder", [*SIGNED, *OTHERS], ids=lambda d: d.name)
def test_cut_anywhere_is_refused(decoder: Decoder) -> None:
    step = max(1, len(decoder.valid) // 200)
    for end in range(0, len(decoder.valid), step):
        assert not attempt(decoder, decoder.valid[:end])
    assert not attempt(decoder, decoder.valid + b"\0")


@pytest.mark.parametrize("decoder", SIGNED, ids=lambda d: d.name)
def test_one_changed_byte_anywhere_is_refused(decoder: Decoder) -> None:
    """What is signed has no byte that could be another one."""
    for place in range(len(decoder.valid)):
        data = bytearray(decoder.valid)
        data[place] ^= 1 << (place % 8)
        assert not attempt(decoder, bytes(data)), place


@pytest.mark.parametrize("decoder", RESIGNED, ids=lambda d: d.name)
def test_one_changed_byte_behind_good_signatures(decoder: Decoder) -> None:
    for place in range(0, len(decoder.valid), 3):
        data = bytearray(decoder.valid)
        data[place] ^= 1 << (place % 8)
        attempt(decoder, bytes(data))


@pytest.mark.parametrize("decoder", [*SIGNED[2:4], *OTHERS, *RESIGNED], ids=lambda d: d.name)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_arbitrary_and_mangled_bytes(decoder: Decoder, data: st.DataObject) -> None:
    attempt(decoder, data.draw(st.binary(max_size=200)))
    at = data.draw(st.integers(0, len(decoder.valid)))
    until = data.draw(st.integers(at, min(len(decoder.valid), at + 40)))
    middle = data.draw(st.binary(max_size=40))
    attempt(decoder, decoder.valid[:at] + middle + decoder.valid[until:])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 20), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("decoder", [*SIGNED[2:4], *OTHERS, *RESIGNED], ids=lambda d: d.name)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_well_formed_cbor_of_the_wrong_shape(decoder: Decoder, data: st.DataObject) -> None:
    """Put any value in the place of one field, or of everything."""
    value: Any = data.draw(VALUES)
    try:
        valid = decode(decoder.valid, 1 << 20)
    except ProtocolError:
        valid = None
    if isinstance(valid, dict):
        valid[data.draw(st.sampled_from(sorted(valid)))] = value
        value = valid
    elif isinstance(valid, list):
        valid[data.draw(st.integers(0, len(valid) - 1))] = value
        value = valid
    attempt(decoder, encode(value))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(place=st.integers(0, 14), value=VALUES)
def test_an_entry_with_any_field_replaced(place: int, value: Any) -> None:
    fields: Any = decode(encode(make_entry(RELAY).value()), 1 << 16)
    fields[place] = value
    try:
        entry = entry_from_value(fields)
    except ProtocolError:
        return
    assert encode(entry.value()) == encode(fields)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(value=VALUES)
def test_a_signature_from_any_value(value: Any) -> None:
    with pytest.raises(ProtocolError):
        AuthoritySignature.from_value(value)


def test_requests_and_replies_come_back_as_they_were() -> None:
    for request in REQUESTS:
        assert decode_request(request.encode(), 1 << 20) == request
    reply = Reply(Status.REFUSED, START, b"x", "no")
    assert decode_reply(reply.encode()) == reply
    assert unpack(pack(CONSENSUS)) == CONSENSUS
    assert unpack_evidence(pack_evidence([EVIDENCE])) == (EVIDENCE,)


def test_a_compression_bomb_stops_at_the_limit() -> None:
    bomb = pack(bytes(10_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(ProtocolError, match="too large"):
        unpack(bomb, 1_000_000)


TOML = dump_network(NETWORK.signed())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_network_toml_mangled(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(TOML)))
    until = data.draw(st.integers(at, min(len(TOML), at + 30)))
    text = TOML[:at] + data.draw(st.text(max_size=12)) + TOML[until:]
    try:
        document = open_network(text)
    except ProtocolError:
        return
    assert document == DOCUMENT


@settings(max_examples=80, deadline=None, derandomize=True)
@given(text=st.text(max_size=200))
def test_network_toml_arbitrary(text: str) -> None:
    with pytest.raises(ProtocolError):
        load_network(text)


TOML_VALUES = st.sampled_from(
    ["1", "-1", "1.5", "true", '"x"', "[]", "[1]", "{}", "{a = 1}", "2020-01-01", "inf", "1e400"]
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(line=st.integers(0, TOML.count("\n") - 1), value=TOML_VALUES)
def test_network_toml_with_any_field_replaced(line: int, value: str) -> None:
    lines = TOML.splitlines()
    name, equals, _ = lines[line].partition(" = ")
    if not equals:
        return
    lines[line] = f"{name} = {value}"
    try:
        load_network("\n".join(lines))
    except ProtocolError:
        return
    assert name in {"name", "version", "nickname", "start", "test"} | {
        "phase_ms", "interval", "warmup_rounds", "warmup_interval", "addresses",
    }  # fmt: skip
