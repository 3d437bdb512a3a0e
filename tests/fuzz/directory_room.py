"""The decoders of the directory: documents, votes, what authorities and clients send each other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from fogbank.directory.addresses import decode_address, encode_address, parse_address
from fogbank.directory.broadcast import Broadcast, Chain, open_evidence
from fogbank.directory.computation import compute
from fogbank.directory.consensus import (
    CONSENSUS_LABEL,
    RANDOM_METHOD,
    Consensus,
    SignedConsensus,
    open_consensus,
    reopen_consensus,
)
from fogbank.directory.descriptor import DescriptorCache, open_descriptor
from fogbank.directory.effects import SignatureMessage
from fogbank.directory.exchange import (
    GetConsensus,
    GetEvidence,
    GetNetwork,
    PushSignature,
    PushVote,
    PutDescriptor,
    Reply,
    Status,
    decode_reply,
    decode_request,
    pack,
    pack_evidence,
    pack_links,
    unpack,
    unpack_evidence,
    unpack_links,
)
from fogbank.directory.network import (
    NETWORK_LABEL,
    SignedNetwork,
    dump_network,
    load_network,
    open_network,
    verify_successor,
)
from fogbank.directory.rules import PolicyError, parse_policy
from fogbank.directory.schedule import nth_round
from fogbank.directory.shared_random import EXTENSION, RandomState, Seed, Share, decode_share
from fogbank.directory.vote import Observation, OpenVote, Policy, Vote, open_vote
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay, worker
from tests.fuzz.kinds import Decoder, Form
from tests.fuzz.signing import Ring, with_digest

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
AUTHORITY = NETWORK.authorities[0]
ROUND = nth_round(DOCUMENT, 0)
AT = ROUND.valid_after
NODES = (relay(0, family="f"), worker(1))
RING = Ring(
    [
        key
        for node in (*NETWORK.authorities, *NODES)
        for key in (node.identity_key, node.signing_key)
    ],
    DOCUMENT.network_id,
)
DESCRIPTOR, WORKER = (node.descriptor(START) for node in NODES)
IDENTITIES = sorted(node.identity for node in NETWORK.authorities)
RANDOM = RandomState(
    35,
    tuple((identity, bytes(32)) for identity in IDENTITIES),
    ((IDENTITIES[0], bytes(32)),),
    (Seed(3, START, bytes(32)), Seed(4, START, b"4" * 32)),
)
SHARE = Share(START, RANDOM, b"c" * 32, b"r" * 32).encode()


def vote_of(number: int, *extensions: tuple[int, bytes]) -> bytes:
    """Return an authority's vote, on one relay."""
    authority = NETWORK.authorities[number]
    nodes = ((DESCRIPTOR, Observation(10, START, 1000, 0)),)
    own = authority.descriptor(START)
    vote = Vote(AT, Policy(), bytes(32), own, nodes, extensions)
    return vote.sign(DOCUMENT.network_id, authority.credentials)


def opened_vote(data: bytes, number: int = 0) -> OpenVote:
    """Open the vote of one of the authorities."""
    identity = NETWORK.authorities[number].identity
    return open_vote(data, identity, DOCUMENT, AT, DescriptorCache(DOCUMENT))


VOTE = vote_of(0)
HONEST = [opened_vote(vote_of(number, (EXTENSION, SHARE)), number) for number in (1, 2, 3)]


def counted_vote(data: bytes) -> OpenVote:
    """Open a vote and count it beside three honest ones: a consensus that opens comes of it."""
    vote = opened_vote(data)
    body = compute([vote, *HONEST], DOCUMENT, ROUND).encode_body()
    open_consensus(NETWORK.sign(body), DOCUMENT, AT)
    return vote


PLAIN = make_consensus(NETWORK, [make_entry(node) for node in NODES])
WITH_RANDOM = replace(PLAIN, method=RANDOM_METHOD, random=RANDOM)
CONSENSUS, SECOND_METHOD = (NETWORK.sign(each.encode_body()) for each in (PLAIN, WITH_RANDOM))


def consensus(data: bytes) -> tuple[bytes, Consensus]:
    """Open a consensus, and keep its bytes."""
    return SignedConsensus.decode(data).encode(), open_consensus(data, DOCUMENT, AT)


def reopened(data: bytes) -> tuple[bytes, Consensus]:
    """Open a consensus as of its own time, and keep its bytes."""
    return SignedConsensus.decode(data).encode(), reopen_consensus(data, DOCUMENT)


def consensus_again(both: tuple[bytes, Consensus]) -> bytes:
    """Encode an opened consensus from its fields, with the signatures that it came with."""
    data, opened = both
    return SignedConsensus(opened.encode_body(), SignedConsensus.decode(data).signatures).encode()


def make_chain(body: bytes, *signers: int) -> Chain:
    """Return the chain of the first authority's vote."""
    chain = Chain(AT, AUTHORITY.identity, hashlib.sha256(body).digest())
    for number in signers:
        chain = chain.signed(DOCUMENT.network_id, NETWORK.authorities[number].credentials)
    return chain


def chain(data: bytes) -> Chain:
    """Open a vote's chain."""
    decoded = Chain.decode(data)
    decoded.verify(DOCUMENT)
    return decoded


def received_vote(data: bytes) -> PushVote:
    """Be an authority to which another passes a vote on."""
    request = decode_request(data, 1 << 20)
    if not isinstance(request, PushVote):
        raise ProtocolError("another request")
    broadcast = Broadcast(DOCUMENT, ROUND, NETWORK.authorities[1].credentials)
    broadcast.receive(request.chain, request.body, ROUND.begins)
    broadcast.decided()
    return request


EVIDENCE = encode([make_chain(b"one", 0).encode(), make_chain(b"other", 0, 1).encode()])
SIGNATURE = AUTHORITY.credentials.sign(CONSENSUS_LABEL, PLAIN.encode_body())


def request(data: bytes) -> Any:
    """Read a request of anyone."""
    return decode_request(data, 1 << 20)


# Network files.

TOML = dump_network(NETWORK.signed()).encode()
LATER = SignedNetwork(replace(DOCUMENT, version=2, in_force=START + 3600))
for _authority in NETWORK.authorities:
    LATER = LATER.sign(_authority.identity_key)


def decode_toml(data: bytes) -> SignedNetwork:
    """Read a network's file without asking who signed it."""
    return load_network(data.decode("utf-8", "replace"))


def opened_toml(data: bytes) -> SignedNetwork:
    """Read a network's file that its authorities signed."""
    open_network(data.decode("utf-8", "replace"))
    return decode_toml(data)


def successor(data: bytes) -> SignedNetwork:
    """Read the next version of a network's file."""
    verify_successor(DOCUMENT, decode_toml(data))
    return decode_toml(data)


def sign_toml(data: bytes) -> bytes:
    """Let all authorities sign what the file says now."""
    try:
        signed = decode_toml(data)
    except ProtocolError:
        return data
    body = signed.document.encode_body()
    keys = {node.identity: Ed25519Key(node.identity_key.seed()) for node in NETWORK.authorities}
    signatures = tuple(
        (identity, keys[identity].sign(NETWORK_LABEL, body) if identity in keys else signature)
        for identity, signature in signed.signatures
    )
    return dump_network(SignedNetwork(signed.document, signatures)).encode()


def toml_again(signed: SignedNetwork) -> bytes:
    """Write a network's file."""
    return dump_network(signed).encode()


POLICY = b"""
methods = [1]
required_protocols = [1]
engines = ["class"]
revoked = []
[reject]
networks = ["203.0.113.0/24", "2001:db8::/32"]
[approve]
identities = ["%s"]
""" % (b"a" * 52)


def policy(data: bytes) -> object:
    """Read an operator's policy."""
    return parse_policy(data.decode("utf-8", "replace"))


def address_text(data: bytes) -> bytes:
    """Read an address as users write it, and return it as it travels."""
    return encode_address(parse_address(data.decode("utf-8", "replace")))


def address_again(data: bytes) -> bytes:
    """Write an address as users do."""
    return str(decode_address(data)).encode()


DIRECTORY = [
    Decoder(
        "descriptor",
        lambda b: open_descriptor(b, DOCUMENT, START),
        DESCRIPTOR,
        more=(WORKER, AUTHORITY.descriptor(START)),
        repair=RING.repair,
    ),
    Decoder(
        "directory request",
        request,
        GetConsensus(bytes(32)).encode(),
        more=(
            PutDescriptor(DESCRIPTOR).encode(),
            PushSignature(SignatureMessage(AT, bytes(32), SIGNATURE)).encode(),
            GetEvidence().encode(),
            GetNetwork(1, bytes(32)).encode(),
        ),
        again=lambda asked: asked.encode(),
    ),
    Decoder(
        "vote",
        counted_vote,
        VOTE,
        more=(vote_of(0, (EXTENSION, SHARE), (7, b"later")),),
        repair=RING.repair,
        limit=4096,
    ),
    Decoder(
        "consensus",
        consensus,
        CONSENSUS,
        more=(SECOND_METHOD,),
        again=consensus_again,
        repair=RING.repair,
        limit=4096,
    ),
    Decoder(
        "consensus on disk",
        reopened,
        CONSENSUS,
        more=(SECOND_METHOD,),
        again=consensus_again,
        repair=RING.repair,
        limit=4096,
    ),
    Decoder(
        "pushed vote",
        received_vote,
        PushVote(make_chain(VOTE, 0), VOTE).encode(),
        more=(PushVote(make_chain(VOTE, 0, 2)).encode(),),
        again=lambda asked: asked.encode(),
        repair=with_digest(RING.repair),
        limit=4096,
    ),
    Decoder(
        "vote's chain",
        chain,
        make_chain(VOTE, 0, 1).encode(),
        again=lambda c: c.encode(),
        repair=RING.repair,
    ),
    Decoder(
        "evidence", lambda b: open_evidence(b, DOCUMENT), EVIDENCE, repair=RING.repair, limit=4096
    ),
    Decoder(
        "list of evidence",
        unpack_evidence,
        pack_evidence([EVIDENCE, b""]),
        again=lambda proofs: pack_evidence(list(proofs)),
    ),
    Decoder(
        "list of network files",
        unpack_links,
        pack_links(["a = 1", "b = 2"]),
        again=pack_links,
    ),
    Decoder(
        "share of randomness",
        decode_share,
        SHARE,
        more=(Share().encode(),),
        again=lambda share: share.encode(),
    ),
    Decoder(
        "directory reply",
        decode_reply,
        Reply(Status.DONE, START, b"body", "why").encode(),
        again=lambda reply: reply.encode(),
    ),
    Decoder(
        "compressed consensus",
        lambda b: unpack(b, 1 << 16),
        pack(CONSENSUS),
        form=Form.BYTES,
    ),
    Decoder(
        "address", decode_address, b"\x7f\0\0\1\x23\x28", again=encode_address, form=Form.BYTES
    ),
    Decoder(
        "address of a user",
        address_text,
        b"192.0.2.1:9001",
        ValueError,
        exact=False,
        more=(b"[2001:db8::1]:9001",),
        again=address_again,
        canonical=False,
        form=Form.BYTES,
        limit=64,
    ),
    Decoder(
        "network.toml",
        decode_toml,
        TOML,
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        limit=4096,
    ),
    Decoder(
        "signed network.toml",
        opened_toml,
        TOML,
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        repair=sign_toml,
        limit=4096,
    ),
    Decoder(
        "next network.toml",
        successor,
        toml_again(LATER),
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        repair=sign_toml,
        limit=4096,
    ),
    Decoder("policy.toml", policy, POLICY, PolicyError, exact=False, form=Form.TOML),
]
