"""Votes: what one authority knows of the network before a round (spec/05 §3)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fogbank.directory.consensus import DIGEST_LENGTH, MAX_ENGINES, MAX_REVOKED, SUPPORTED_METHODS
from fogbank.directory.descriptor import DESCRIPTOR_LIMIT, Descriptor, DescriptorCache, Role
from fogbank.directory.entries import (
    MAX_ENGINE,
    MAX_PROTOCOLS,
    REQUIRED_PROTOCOLS,
    SUPPORTED_PROTOCOLS,
)
from fogbank.directory.mint.ballot import Grants
from fogbank.directory.network import NetworkDocument
from fogbank.directory.runtimes import EXTENSION as RUNTIMES_EXTENSION
from fogbank.directory.runtimes import KNOWN, Runtimes, decode_runtimes, encode_runtimes
from fogbank.directory.signatures import Credentials
from fogbank.relay.certificates import Use, open_certificate
from fogbank.relay.codec import (
    MAX_UINT,
    Record,
    Value,
    bytes_item,
    decode_record,
    encode,
    text_item,
    uint_item,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId, Signed

VOTE_LABEL = "fogbank-vote-v1"
VOTE_LIMIT = 64 << 20
MAX_NODES = 65_536
MAX_EXTENSIONS = 16
EXTENSION_LIMIT = 16 << 10
_MAX_METHODS = 16
_MAX_ITEMS = 6 * MAX_NODES + MAX_REVOKED + 1024
"""What a vote with as many of everything as there may be has, at most."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an authority's operator votes for, beyond the nodes (spec/05 §3).

    An empty tuple of engine classes accepts every class; `runtimes` are those that are accepted.
    `grants` count in a test network alone.
    """

    methods: tuple[int, ...] = SUPPORTED_METHODS
    required_protocols: tuple[int, ...] = REQUIRED_PROTOCOLS
    recommended_protocols: tuple[int, ...] = SUPPORTED_PROTOCOLS
    engines: tuple[str, ...] = ()
    revoked: tuple[NodeId, ...] = ()
    runtimes: Runtimes = KNOWN
    grants: Grants = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What an authority observed of a node that it found running.

    `uptime` in seconds; `since` as in its last consensus, 0 if the node was not listed there;
    `bandwidth` in bytes per second and `fuel_rate` in fuel per second, 0 if not measured.
    """

    uptime: int = 0
    since: int = 0
    bandwidth: int = 0
    fuel_rate: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote before it is signed. `nodes` are the running ones, as descriptor bytes.

    `own` is the authority's own descriptor, or empty; `previous` the digest of the newest
    consensus that it holds, or empty. `extensions` are what later methods add, by number, besides
    the runtimes of the policy.
    """

    valid_after: int
    policy: Policy
    previous: bytes
    own: bytes
    nodes: tuple[tuple[bytes, Observation], ...]
    extensions: tuple[tuple[int, bytes], ...] = ()

    def sign(self, network_id: bytes, credentials: Credentials) -> bytes:
        """Return the signed vote's bytes."""
        policy = self.policy
        fields: dict[int, Value] = {
            1: network_id,
            2: credentials.identity,
            3: credentials.certificate.value(),
            4: self.valid_after,
            5: policy.methods,
            6: policy.required_protocols,
            7: policy.recommended_protocols,
            8: policy.engines,
            9: policy.revoked,
            10: self.previous,
            11: self.own,
            12: [_node_value(data, seen) for data, seen in self.nodes],
        }
        runtimes = RUNTIMES_EXTENSION, encode_runtimes(policy.runtimes)
        fields[13] = [list(extension) for extension in (*self.extensions, runtimes)]
        return Signed.make(credentials.key, VOTE_LABEL, encode(fields)).encode()


def _node_value(data: bytes, seen: Observation) -> Value:
    return [data, seen.uptime, seen.since, seen.bandwidth, seen.fuel_rate]


@dataclass(frozen=True, slots=True)
class OpenVote:
    """A verified vote with its descriptors; only `open_vote` makes one."""

    authority: NodeId
    policy: Policy
    previous: bytes
    own: Descriptor | None
    nodes: Mapping[NodeId, tuple[Descriptor, Observation]]
    extensions: Mapping[int, bytes] = field(default_factory=dict)


def open_vote(
    data: bytes,
    authority: NodeId,
    network: NetworkDocument,
    valid_after: int,
    cache: DescriptorCache,
) -> OpenVote:
    """Return the vote of `authority` for the round of `valid_after`, or raise `ProtocolError`.

    Everything is judged as of `valid_after`, never by this machine's clock: so all who hold the
    same bytes judge them alike.
    """
    document = Signed.decode(data, VOTE_LIMIT)
    record = decode_record(document.body, VOTE_LIMIT, "vote", _MAX_ITEMS)
    if record.fixed(1, KEY_LENGTH) != network.network_id:
        raise ProtocolError("a vote is of another network")
    if record.fixed(2, KEY_LENGTH) != authority:
        raise ProtocolError("a vote is of another authority than its sender")
    certificate = Signed.from_value(list(record.array(3, 2, _raw)))
    signing = open_certificate(certificate, Use.SIGNING, valid_after, authority)
    document.verify(signing.subject, VOTE_LABEL)
    if record.uint(4) != valid_after:
        raise ProtocolError("a vote is of another round")
    policy, previous = _open_policy(record), record.blob(10, DIGEST_LENGTH)
    own = _open_own(record.blob(11, DESCRIPTOR_LIMIT), authority, cache, valid_after)
    nodes = record.array(12, MAX_NODES, _split_node)
    extensions = dict(record.array(13, MAX_EXTENSIONS, _extension)) if record.has(13) else {}
    record.done()
    policy = replace(policy, runtimes=_open_runtimes(extensions))
    opened = _open_nodes(nodes, cache, valid_after)
    return OpenVote(authority, policy, previous, own, opened, extensions)


def _raw(value: Any) -> Any:
    return value


def _extension(value: Any) -> tuple[int, bytes]:
    match value:
        case [number, bytes(data)] if (
            type(number) is int and 0 <= number <= MAX_UINT and len(data) <= EXTENSION_LIMIT
        ):
            return number, data
        case _:
            raise ProtocolError("a vote holds something else than [number, bytes] as an extension")


def _open_runtimes(extensions: Mapping[int, bytes]) -> Runtimes:
    """Return the runtimes that a vote names: none if it names none that can be read."""
    with suppress(ProtocolError):
        return decode_runtimes(extensions.get(RUNTIMES_EXTENSION, b""))
    return ()


def _open_policy(record: Record) -> Policy:
    return Policy(
        record.array(5, _MAX_METHODS, uint_item(1 << 16)),
        record.array(6, MAX_PROTOCOLS, uint_item(1 << 16)),
        record.array(7, MAX_PROTOCOLS, uint_item(1 << 16)),
        record.array(8, MAX_ENGINES, text_item(MAX_ENGINE)),
        record.array(9, MAX_REVOKED, bytes_item(KEY_LENGTH, KEY_LENGTH)),
    )


def _open_own(
    data: bytes, authority: NodeId, cache: DescriptorCache, now: int
) -> Descriptor | None:
    if not data:
        return None
    descriptor = cache.open(data, now)
    if descriptor.identity != authority:
        raise ProtocolError("a vote carries another node's descriptor as its authority's own")
    return descriptor


def _split_node(value: Any) -> tuple[bytes, Observation]:
    match value:
        case [bytes(data), *numbers] if len(numbers) == 4:
            if any(type(number) is not int or not 0 <= number <= MAX_UINT for number in numbers):
                raise ProtocolError("a vote holds an observation out of bounds")
            return data, Observation(*numbers)
        case _:
            raise ProtocolError("a vote's node is not [descriptor, four numbers]")


def _open_nodes(
    nodes: tuple[tuple[bytes, Observation], ...], cache: DescriptorCache, now: int
) -> dict[NodeId, tuple[Descriptor, Observation]]:
    opened: dict[NodeId, tuple[Descriptor, Observation]] = {}
    for data, seen in nodes:
        descriptor = cache.open(data, now)
        if descriptor.description.role is Role.AUTHORITY:
            raise ProtocolError("a vote lists an authority among the nodes")
        if descriptor.identity in opened:
            raise ProtocolError("a vote lists one node twice")
        opened[descriptor.identity] = descriptor, seen
    return opened
