"""The consensus: who is in the network, and the one gate by which bytes become it (spec/05 §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from fogbank.directory.entries import (
    MAX_ENGINE,
    MAX_PROTOCOLS,
    MAX_RUNTIMES,
    MINT_SERVICE,
    SUPPORTED_PROTOCOLS,
    Entry,
    Flag,
    entry_from_value,
    is_nickname,
)
from fogbank.directory.mint.state import MintState
from fogbank.directory.mint.state import state_from_value as mint_from_value
from fogbank.directory.network import NetworkDocument
from fogbank.directory.runtimes import Runtimes, runtimes_from_value, runtimes_value
from fogbank.directory.shared_random import RandomState, Seed, state_from_value
from fogbank.directory.signatures import (
    AuthoritySignature,
    signatures_from_value,
    verify_quorum,
)
from fogbank.relay.certificates import CLOCK_SKEW
from fogbank.relay.codec import (
    ARRAY,
    BYTES,
    MAP,
    MAX_UINT,
    UINT,
    Record,
    Value,
    bytes_item,
    decode,
    decode_record,
    encode,
    read_head,
    text_item,
    uint_item,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

__all__ = [
    "CONSENSUS_LABEL",
    "CONSENSUS_LIMIT",
    "SUPPORTED_METHODS",
    "SUPPORTED_PROTOCOLS",
    "VALIDITY",
    "Consensus",
    "Entry",
    "Flag",
    "SignedConsensus",
    "entry_from_value",
    "is_nickname",
    "open_consensus",
]

CONSENSUS_LABEL = "fogbank-consensus-v1"
CONSENSUS_LIMIT = 64 << 20
SIGNATURES_LIMIT = 64 << 10
"""Bytes of the signatures of as many authorities as there may be."""
MAX_ENTRIES = 100_000
VALIDITY = 86_400
"""Seconds for which a consensus may be used (spec/05 §5.2)."""
DIGEST_LENGTH = 32
SUPPORTED_METHODS = (1, 2, 3, 4)
RANDOM_METHOD = 2
"""From this method on a consensus holds the shared randomness (spec/05 §6.3)."""
RUNTIMES_METHOD = 3
"""From this method on a consensus says which runtimes are accepted (spec/05 §3.3)."""
MINT_METHOD = 4
"""From this method on a consensus holds the state of the mint (spec/09 §4.3)."""

_PARTS = 2

MAX_ENGINES = 64
MAX_REVOKED = 10_000


@dataclass(frozen=True, slots=True)
class Consensus:
    """What q authorities agreed on for one interval; times in seconds (spec/05 §5.1).

    `entries` are in the order of their identities; `random` is there from method 2 on, `runtimes`
    from method 3 on, `mint` from method 4 on. `digest` is the SHA-256 of the body that it was read
    from, and does not count in comparisons.
    """

    method: int
    network_id: bytes
    valid_after: int
    fresh_until: int
    valid_until: int
    required_protocols: tuple[int, ...]
    recommended_protocols: tuple[int, ...]
    engines: tuple[str, ...]
    revoked: tuple[NodeId, ...]
    contact_seed: bytes
    previous: bytes
    voters: tuple[NodeId, ...]
    entries: tuple[Entry, ...]
    random: RandomState | None = None
    runtimes: Runtimes | None = None
    mint: MintState | None = None
    digest: bytes = field(default=b"", compare=False)
    _index: Mapping[NodeId, Entry] = field(init=False, repr=False, compare=False)
    _by_role: tuple[tuple[Entry, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {entry.identity: entry for entry in self.entries})
        roles: tuple[list[Entry], ...] = ([], [], [], [])
        for entry in self.entries:
            roles[_role(entry)].append(entry)
        object.__setattr__(self, "_by_role", tuple(tuple(role) for role in roles))

    def by_identity(self, identity: NodeId) -> Entry | None:
        """Return the entry of a node, or None if it is not listed."""
        return self._index.get(identity)

    def relays(self) -> tuple[Entry, ...]:
        """Return the relays: neither workers nor authorities, in office or departed."""
        return self._by_role[0]

    def workers(self) -> tuple[Entry, ...]:
        """Return the workers."""
        return self._by_role[1]

    def authorities(self) -> tuple[Entry, ...]:
        """Return the authorities that took part."""
        return self._by_role[2]

    def departed(self) -> tuple[Entry, ...]:
        """Return what is listed as authorities that left office and serve a mint (spec/09 §2.1)."""
        return self._by_role[3]

    def seed_of(self, worker: NodeId) -> Seed:
        """Return the seed that a worker's contacts follow from (spec/05 §6.2)."""
        drawn = self.random.seed_of(self.network_id, worker) if self.random else None
        return drawn or Seed(0, MAX_UINT, self.contact_seed)

    def encode_body(self) -> bytes:
        """Return the bytes that authorities sign."""
        fields: dict[int, Value] = {
            1: self.method,
            2: self.network_id,
            3: self.valid_after,
            4: self.fresh_until,
            5: self.valid_until,
            6: self.required_protocols,
            7: self.recommended_protocols,
            8: self.engines,
            9: self.revoked,
            10: self.contact_seed,
            11: self.previous,
            12: self.voters,
            13: [entry.value() for entry in self.entries],
        }
        if self.random is not None:
            fields[14] = self.random.value()
        if self.runtimes is not None:
            fields[15] = runtimes_value(self.runtimes)
        if self.mint is not None:
            fields[16] = self.mint.value()
        return encode(fields)


def _role(entry: Entry) -> int:
    if entry.flags & Flag.AUTHORITY:
        return 2
    if entry.flags & Flag.WORKER:
        return 1
    return 3 if MINT_SERVICE in entry.services else 0


@dataclass(frozen=True, slots=True)
class SignedConsensus:
    """A consensus as it travels: exact body bytes and the signatures over them."""

    body: bytes
    signatures: tuple[AuthoritySignature, ...]

    def encode(self) -> bytes:
        """Return the document's bytes."""
        return encode([self.body, [signature.value() for signature in self.signatures]])

    @classmethod
    def decode(cls, data: bytes | memoryview, limit: int = CONSENSUS_LIMIT) -> SignedConsensus:
        """Take a document apart; nothing is verified yet."""
        if len(data) > limit:
            raise ProtocolError(f"a document of {len(data)} bytes is over its limit of {limit}")
        view = memoryview(data)
        parts, at = read_head(view, 0, ARRAY)
        length, at = read_head(view, at, BYTES)
        if parts != _PARTS or length > len(view) - at:
            raise ProtocolError("a consensus is not [body, signatures]")
        # The body is copied once, and nothing in it is looked at before its signatures are.
        signatures = decode(view[at + length :], SIGNATURES_LIMIT)
        return cls(bytes(view[at : at + length]), signatures_from_value(signatures))

    def digest(self) -> bytes:
        """Return the SHA-256 of the body, which names the consensus."""
        return hashlib.sha256(self.body).digest()


def open_consensus(
    data: bytes | memoryview,
    network: NetworkDocument,
    now: float,
    *,
    limit: int = CONSENSUS_LIMIT,
    skew: float = CLOCK_SKEW,
    not_before: int = 0,
) -> Consensus:
    """Turn bytes into a trusted consensus, or raise `ProtocolError` (spec/05 §5.2).

    The gate's order: size and shape; signatures of q distinct pinned authorities over the exact
    body; the network; the times, where `skew` seconds are allowed and a `valid_after` before
    `not_before` is refused as a step back; every field; last, whether this program is still
    new enough for the network.
    """
    document = SignedConsensus.decode(data, limit)
    signers = _verify(document, network, now)
    record = decode_record(document.body, limit, "consensus")
    head = _open_head(record, network, now, skew, not_before)
    governing = network.governing(head.valid_after)
    if governing is not signers:
        verify_quorum(document.signatures, governing, CONSENSUS_LABEL, document.body, now)
    consensus = _open_fields(record, network.network_id, head, document.digest())
    missing = set(consensus.required_protocols) - set(SUPPORTED_PROTOCOLS)
    if missing:
        raise ProtocolError("this version of Fogbank is too old for the network: update it")
    return consensus


def _verify(document: SignedConsensus, network: NetworkDocument, now: float) -> NetworkDocument:
    """Return a version of the network document q of whose authorities signed: this, or the last."""
    try:
        verify_quorum(document.signatures, network, CONSENSUS_LABEL, document.body, now)
    except ProtocolError:
        if network.previous is None:
            raise
        return _verify(document, network.previous, now)
    return network


def method_of(body: bytes) -> int:
    """Return the method of a body, without looking at the rest of it; 0 of what is none."""
    try:
        _, at = read_head(body, 0, MAP)
        return read_head(body, at + 1, UINT)[0]
    except ProtocolError:
        return 0


def reopen_consensus(data: bytes, network: NetworkDocument) -> Consensus:
    """Open a consensus as of its own time; raise `ProtocolError` if it never was one.

    It may have expired: it is to be learned from, not to be used.
    """
    record = decode_record(SignedConsensus.decode(data).body, CONSENSUS_LIMIT, "consensus")
    return open_consensus(data, network, record.uint(3))


@dataclass(frozen=True, slots=True)
class _Head:
    method: int
    valid_after: int
    fresh_until: int
    valid_until: int


def _open_head(
    record: Record, network: NetworkDocument, now: float, skew: float, not_before: int
) -> _Head:
    """Check the network and the times, of which the rest depends."""
    method = record.uint(1, 1 << 16)
    if record.fixed(2, KEY_LENGTH) != network.network_id:
        raise ProtocolError("a consensus is of another network: check network.toml")
    valid_after, fresh_until, valid_until = record.uint(3), record.uint(4), record.uint(5)
    if not valid_after < fresh_until <= valid_until == valid_after + VALIDITY:
        raise ProtocolError("a consensus has times that contradict each other")
    if now < valid_after - skew:
        raise ProtocolError(
            f"a consensus begins {_minutes(valid_after - now)} from now: this machine's clock "
            "seems to be slow by at least that much; set it right"
        )
    if now >= valid_until:
        raise ProtocolError(
            f"a consensus expired {_minutes(now - valid_until)} ago: fetch a newer one; if there "
            "is none, this machine's clock seems to be fast, or the authorities are down"
        )
    if valid_after < not_before:
        raise ProtocolError("a consensus is older than one that was already accepted")
    if method not in SUPPORTED_METHODS:
        raise ProtocolError("a consensus was made by an unknown method: update Fogbank")
    return _Head(method, valid_after, fresh_until, valid_until)


def _minutes(seconds: float) -> str:
    count = max(1, round(seconds / 60))
    return "1 minute" if count == 1 else f"{count} minutes"


def _open_random(record: Record) -> RandomState:
    return state_from_value(list(record.array(14, 4, lambda part: part)))


def _open_runtimes(record: Record) -> Runtimes:
    return runtimes_from_value(list(record.array(15, MAX_RUNTIMES, lambda part: part)))


def _open_fields(record: Record, network_id: bytes, head: _Head, digest: bytes) -> Consensus:
    identity = bytes_item(KEY_LENGTH, KEY_LENGTH)
    consensus = Consensus(
        method=head.method,
        network_id=network_id,
        valid_after=head.valid_after,
        fresh_until=head.fresh_until,
        valid_until=head.valid_until,
        required_protocols=record.array(6, MAX_PROTOCOLS, uint_item(1 << 16)),
        recommended_protocols=record.array(7, MAX_PROTOCOLS, uint_item(1 << 16)),
        engines=record.array(8, MAX_ENGINES, text_item(MAX_ENGINE)),
        revoked=record.array(9, MAX_REVOKED, identity),
        contact_seed=record.fixed(10, DIGEST_LENGTH),
        previous=record.blob(11, DIGEST_LENGTH),
        voters=record.array(12, 64, identity),
        entries=record.array(13, MAX_ENTRIES, entry_from_value),
        random=_open_random(record) if head.method >= RANDOM_METHOD else None,
        runtimes=_open_runtimes(record) if head.method >= RUNTIMES_METHOD else None,
        mint=mint_from_value(record.value(16)) if head.method >= MINT_METHOD else None,
        digest=digest,
    )
    record.done()
    order = [entry.identity for entry in consensus.entries]
    if any(a >= b for a, b in pairwise(order)):
        raise ProtocolError("a consensus lists entries out of order, or twice")
    return consensus
