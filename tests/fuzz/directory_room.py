"""The decoders of the directory: documents, votes, what authorities and clients send each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fogbank.client.topology import Topology
from fogbank.directory.broadcast import CHAIN_LIMIT, Broadcast, Chain, open_evidence
from fogbank.directory.computation import compute
from fogbank.directory.consensus import (
    CONSENSUS_LABEL,
    MINT_METHOD,
    RANDOM_METHOD,
    RUNTIMES_METHOD,
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
    GetMint,
    GetNetwork,
    PushSignature,
    PushVote,
    PutDescriptor,
    Reply,
    Status,
    announced_vote,
    decode_reply,
    decode_request,
    pack,
    pack_evidence,
    pack_links,
    unpack,
    unpack_evidence,
    unpack_links,
)
from fogbank.directory.runtimes import Runtime, decode_runtimes, encode_runtimes
from fogbank.directory.schedule import Round, nth_round
from fogbank.directory.shared_random import (
    EXTENSION,
    RandomState,
    Seed,
    Share,
    commitment,
    decode_share,
    slot_rounds,
)
from fogbank.directory.signatures import AuthoritySignature
from fogbank.directory.vote import Observation, OpenVote, Policy, Vote, open_vote
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay, worker
from tests.fuzz.kinds import Decoder, Form
from tests.fuzz.signing import Ring, with_digest
from tests.mint.test_state import STATE as MINT_STATE

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
SLOT = 35
LATER = nth_round(DOCUMENT, SLOT * slot_rounds(DOCUMENT) + slot_rounds(DOCUMENT) - 1)
"""A round in which the values of a slot are revealed."""
VALUE = b"r" * 32
RANDOM = RandomState(
    SLOT,
    tuple(
        (identity, commitment(DOCUMENT.network_id, SLOT, identity, VALUE))
        for identity in IDENTITIES
    ),
    ((IDENTITIES[0], VALUE),),
    (Seed(3, START, bytes(32)), Seed(4, START, b"4" * 32)),
)
RUNTIMES = (
    Runtime("lua", b"l" * 32, 1),
    Runtime("python", bytes(32), 1 << 20),
    Runtime("python", b"p" * 32, 1 << 25),
)
SHARE = Share(START, RANDOM, b"c" * 32, VALUE).encode()


def vote_of(number: int, *extensions: tuple[int, bytes], this: Round = ROUND) -> bytes:
    """Return an authority's vote, on one relay."""
    authority = NETWORK.authorities[number]
    nodes = ((DESCRIPTOR, Observation(10, START, 1000, 0)),)
    own = authority.descriptor(START)
    vote = Vote(this.valid_after, Policy(), bytes(32), own, nodes, extensions)
    return vote.sign(DOCUMENT.network_id, authority.credentials)


def opened_vote(data: bytes, number: int = 0, this: Round = ROUND) -> OpenVote:
    """Open the vote of one of the authorities."""
    identity = NETWORK.authorities[number].identity
    return open_vote(data, identity, DOCUMENT, this.valid_after, DescriptorCache(DOCUMENT))


VOTE = vote_of(0)


def counted_in(this: Round) -> Callable[[bytes], OpenVote]:
    """Return a decoder of votes that counts each beside three honest ones.

    Whatever it says, a consensus that opens comes of it.
    """
    honest = [
        opened_vote(vote_of(number, (EXTENSION, SHARE), this=this), number, this)
        for number in (1, 2, 3)
    ]

    def counted_vote(data: bytes) -> OpenVote:
        vote = opened_vote(data, 0, this)
        body = compute([vote, *honest], DOCUMENT, this).encode_body()
        open_consensus(NETWORK.sign(body), DOCUMENT, this.valid_after)
        return vote

    return counted_vote


PLAIN = make_consensus(NETWORK, [make_entry(node) for node in NODES])
WITH_RANDOM = replace(PLAIN, method=RANDOM_METHOD, random=RANDOM)
WITH_RUNTIMES = replace(WITH_RANDOM, method=RUNTIMES_METHOD, runtimes=RUNTIMES)
WITH_MINT = replace(WITH_RUNTIMES, method=MINT_METHOD, mint=MINT_STATE)
CONSENSUS, *LATER_METHODS = (
    NETWORK.sign(each.encode_body()) for each in (PLAIN, WITH_RANDOM, WITH_RUNTIMES, WITH_MINT)
)


def consensus(data: bytes) -> tuple[bytes, Consensus]:
    """Open a consensus, and keep its bytes."""
    opened = open_consensus(data, DOCUMENT, AT)
    topology = Topology(opened)
    assert len(topology.guards.items) <= len(topology.relays.items)
    assert len(topology.workers.items) <= len(opened.entries)
    return SignedConsensus.decode(data).encode(), opened


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


def announced(data: bytes) -> PushVote:
    """Look at a vote's chain before the vote is received."""
    found, begin = announced_vote(data[: CHAIN_LIMIT + 64], len(data))
    return PushVote(found, data[begin:])


SIGNED_BODY = PLAIN.encode_body()
SIGNATURE = AUTHORITY.credentials.sign(CONSENSUS_LABEL, SIGNED_BODY)


def signature(data: bytes) -> AuthoritySignature:
    """Verify an authority's signature over a consensus."""
    found = AuthoritySignature.from_value(decode(data, 2048))
    found.verify(DOCUMENT, CONSENSUS_LABEL, SIGNED_BODY, AT)
    return found


EVIDENCE = encode([make_chain(b"one", 0).encode(), make_chain(b"other", 0, 1).encode()])


def request(data: bytes) -> Any:
    """Read a request of anyone."""
    return decode_request(data, 1 << 20)


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
            GetMint(START).encode(),
        ),
        again=lambda asked: asked.encode(),
    ),
    Decoder(
        "vote",
        counted_in(ROUND),
        VOTE,
        more=(vote_of(0, (EXTENSION, SHARE), (7, b"later")),),
        repair=RING.repair,
        limit=4096,
    ),
    Decoder(
        "vote of a later round",
        counted_in(LATER),
        vote_of(0, (EXTENSION, SHARE), this=LATER),
        more=(vote_of(0, (EXTENSION, Share().encode()), this=LATER),),
        repair=RING.repair,
        limit=4096,
    ),
    Decoder(
        "consensus",
        consensus,
        CONSENSUS,
        more=tuple(LATER_METHODS),
        again=consensus_again,
        repair=RING.repair,
        limit=8192,
    ),
    Decoder(
        "consensus on disk",
        reopened,
        CONSENSUS,
        more=tuple(LATER_METHODS),
        again=consensus_again,
        repair=RING.repair,
        limit=8192,
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
        "announced vote",
        announced,
        PushVote(make_chain(VOTE, 0), VOTE).encode(),
        again=lambda asked: asked.encode(),
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
        "authority's signature",
        signature,
        encode(SIGNATURE.value()),
        again=lambda found: encode(found.value()),
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
        "list of runtimes",
        decode_runtimes,
        encode_runtimes(RUNTIMES),
        more=(encode_runtimes(()),),
        again=encode_runtimes,
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
]
