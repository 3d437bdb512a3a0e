"""The nodes that an authority knows, and which of them it finds running (spec/05 §4.5, §8)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from fogbank.directory.addresses import machine_of
from fogbank.directory.computation import BANDWIDTH_FLOOR, FUEL_FLOOR, capped
from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Descriptor, DescriptorCache, Role
from fogbank.directory.effects import Effect, ForgetNode, KeepNode, NodeRecord, Probe
from fogbank.directory.network import NetworkDocument
from fogbank.directory.rules import EVERYONE, Rules
from fogbank.directory.schedule import interval_at, worker_freshness
from fogbank.directory.vote import MAX_NODES, Observation
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.link.port import TokenBucket

MAX_PROBES = 256
"""Probes in flight at once."""
MAX_UNPROVED = 192
"""Of these, probes of relays that were not running when last looked at."""
MAX_PER_ADDRESS = 4
"""Running relays at one IP address (IPv6: one /64) that are voted for."""
NEW_PER_SECOND = 16.0
NEW_BURST = 4096.0
"""New identities that may publish: rate and burst, known ones and agreed votes not counted."""
_FIRST_RETRY = 1 / 8
"""A failed probe is repeated after this share of an interval, then after twice that, and so on."""
LEAST_GAP = 1 / 60
"""Share of an interval that must lie between two new descriptors of one node."""


class _Turn(Enum):
    """Whose probes go first."""

    RUNNING = 1
    NEW = 2
    FAILED = 3


@dataclass(slots=True)
class _Node:
    descriptor: Descriptor
    first_seen: int
    running_since: int
    accepted: float
    failures: int = 0
    due: float = 0.0
    reached: Address | None = None
    """Where the last probe that succeeded found it, in this run of the program."""

    @property
    def machine(self) -> bytes:
        """A relay's machine: where it was reached; what it only claims takes nobody's place."""
        return machine_of(self.reached or self.descriptor.description.addresses[0])

    @property
    def turn(self) -> _Turn:
        """When it is probed, among others that are due."""
        if self.running_since:
            return _Turn.RUNNING
        return _Turn.FAILED if self.failures else _Turn.NEW

    @property
    def role(self) -> Role:
        return self.descriptor.description.role

    def record(self) -> NodeRecord:
        return NodeRecord(
            self.descriptor.identity, self.descriptor.data, self.first_seen, self.running_since
        )


class NodeTable:
    """Descriptors of relays and workers, at most one a node, with what was observed. Sans-IO."""

    def __init__(
        self, network: NetworkDocument, cache: DescriptorCache, limit: int = MAX_NODES
    ) -> None:
        self._network = network
        self._cache = cache
        self._limit = limit
        self._nodes: dict[NodeId, _Node] = {}
        self._newcomers: TokenBucket | None = None
        self._due: dict[_Turn, list[tuple[float, NodeId]]] = {turn: [] for turn in _Turn}
        self._probing: dict[NodeId, _Turn] = {}
        self._measured: dict[NodeId, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def running(self) -> int:
        """How many of the nodes were found running when last looked at."""
        return sum(node.running_since > 0 for node in self._nodes.values())

    def restore(self, records: Iterable[NodeRecord], now: float) -> None:
        """Take back what was kept before a restart; what no longer holds is passed over."""
        for record in records:
            try:
                descriptor = self._cache.open(record.descriptor, now)
            except ProtocolError:
                continue
            node = _Node(descriptor, record.first_seen, record.running_since, now)
            self._nodes[descriptor.identity] = node
            self._schedule(node, now)

    def accept(self, data: bytes, now: float, *, agreed: bool = False) -> list[Effect]:
        """Take a node's new descriptor; raise `ProtocolError` with the reason to refuse it.

        `agreed` if it stood in an agreed vote, and was not published here.
        """
        effects: list[Effect] = []
        descriptor = self._cache.open(data, now)
        if descriptor.description.role is Role.AUTHORITY:
            raise ProtocolError("an authority's descriptor travels in its own vote only")
        node = self._nodes.get(descriptor.identity)
        if node is None:
            effects += self._make_room(now, agreed=agreed)
            node = _Node(descriptor, int(now), 0, now)
            self._nodes[descriptor.identity] = node
        elif not self._renew(node, descriptor, now):
            return []
        if node.role is Role.WORKER:
            node.running_since = node.running_since or int(now)
        else:
            self._schedule(node, now)
        return [*effects, KeepNode(node.record())]

    def _make_room(self, now: float, *, agreed: bool) -> list[Effect]:
        """Find room for one more node, or raise; nobody found running must make way.

        Whoever makes identities by the thousand so displaces only others that never ran.
        """
        if not agreed:
            if self._newcomers is None:
                self._newcomers = TokenBucket(NEW_PER_SECOND, NEW_BURST, now)
            if not self._newcomers.take(now):
                raise ProtocolError("too many new nodes publish just now: publish again later")
        if len(self._nodes) < self._limit:
            return []
        # Agreed votes bring thousands at once: a search for each would hold up the round.
        idle = (node for node in self._nodes.values() if not self._counts(node, now))
        oldest = None if agreed else min(idle, key=lambda node: node.accepted, default=None)
        if oldest is None:
            raise ProtocolError("this authority knows as many nodes as it can hold")
        identity = oldest.descriptor.identity
        del self._nodes[identity]
        self._measured.pop(identity, None)
        return [ForgetNode(identity)]

    def _counts(self, node: _Node, now: float) -> bool:
        """Tell whether a node runs, or is being looked at."""
        if node.role is Role.WORKER:
            return self._fresh(node, now)
        return node.running_since > 0 or node.descriptor.identity in self._probing

    def _renew(self, node: _Node, descriptor: Descriptor, now: float) -> bool:
        """Put a newer descriptor in place; tell whether anything changed."""
        if descriptor.digest == node.descriptor.digest:
            return False
        if descriptor.published <= node.descriptor.published:
            raise ProtocolError("a newer descriptor of this node is known")
        if now < node.accepted + LEAST_GAP * self._network.timing.interval:
            raise ProtocolError("this node publishes too often: wait a while")
        fresh = self._fresh(node, now)
        moved = (
            descriptor.description.addresses != node.descriptor.description.addresses
            or descriptor.description.role is not node.role
        )
        node.descriptor, node.accepted, node.failures = descriptor, now, 0
        if moved or (node.role is Role.WORKER and not fresh):
            node.running_since, node.reached = 0, None
        return True

    def _fresh(self, node: _Node, now: float) -> bool:
        return now < node.descriptor.published + worker_freshness(self._network)

    def _schedule(self, node: _Node, due: float) -> None:
        if node.role is Role.RELAY:
            node.due = due
            heapq.heappush(self._due[node.turn], (due, node.descriptor.identity))

    def _may_probe(self, turn: _Turn) -> bool:
        turns = self._probing.values()
        unproved = sum(each is not _Turn.RUNNING for each in turns)
        return len(turns) < MAX_PROBES and (turn is _Turn.RUNNING or unproved < MAX_UNPROVED)

    def next_probe(self) -> float | None:
        """Return when `probes` will have something, or None if nothing is waiting."""
        waiting = (due[0][0] for turn, due in self._due.items() if due and self._may_probe(turn))
        return min(waiting, default=None)

    def probes(self, now: float) -> list[Effect]:
        """Return the probes that are due, as many as may be in flight.

        Running relays go first, then those that were never probed: a flood of relays that are not
        there holds up only its own second probes.
        """
        effects: list[Effect] = []
        for turn, due_here in self._due.items():
            while due_here and due_here[0][0] <= now and self._may_probe(turn):
                due, identity = heapq.heappop(due_here)
                node = self._nodes.get(identity)
                if node is None or identity in self._probing or node.due != due:
                    continue
                self._probing[identity] = turn
                description = node.descriptor.description
                effects.append(Probe(identity, node.descriptor.digest, description.addresses))
        return effects

    def probed(self, probe: Probe, reached: Address | None, now: float) -> list[Effect]:
        """Take where a probe succeeded, or None; every `Probe` effect must come back here once."""
        self._probing.pop(probe.identity, None)
        node = self._nodes.get(probe.identity)
        if node is None:
            return []
        if node.descriptor.description.addresses != probe.addresses:
            self._schedule(node, now)
            return []
        interval = interval_at(self._network, now)
        before = node.running_since
        node.reached = reached
        if reached is not None:
            node.failures = 0
            node.running_since = before or int(now)
            self._schedule(node, now + interval)
        else:
            node.running_since = 0
            # Past some failures the delay is one interval anyway.
            share = _FIRST_RETRY * 2.0 ** min(node.failures, 8)
            node.failures += 1
            self._schedule(node, now + interval * min(1.0, share))
        return [KeepNode(node.record())] if node.running_since != before else []

    def measured(self, identity: NodeId, bandwidth: int, fuel_rate: int) -> None:
        """Take a measurement: bytes per second, fuel per second; it counts from the next vote."""
        if identity in self._nodes:
            self._measured[identity] = bandwidth, fuel_rate

    def listings(
        self,
        valid_after: int,
        now: float,
        last: Consensus | None,
        rules: Rules = EVERYONE,
        needed: Collection[NodeId] = (),
    ) -> tuple[tuple[bytes, Observation], ...]:
        """Return what to vote for: the nodes found running, and what was observed of them.

        Nodes that `rules` do not admit are not among them, nor relays past the limit of an address;
        but `needed` ones, which serve series of the mint, are unless they are rejected.
        """
        found = {
            identity: node
            for identity, node in sorted(self._nodes.items())
            if (rules.spares if identity in needed else rules.admits)(node.descriptor)
            and self._runs(node, valid_after, now)
        }
        for identity in self._crowded(found, last):
            if identity not in needed:
                del found[identity]
        return tuple(
            (node.descriptor.data, self._observation(identity, node, now, last))
            for identity, node in found.items()
        )

    def _runs(self, node: _Node, valid_after: int, now: float) -> bool:
        """Tell whether a node was found running, and will have a valid descriptor then.

        One that is to come into office by then will not.
        """
        if not node.running_since or (node.role is Role.WORKER and not self._fresh(node, now)):
            return False
        try:
            node.descriptor.check_time(valid_after)
            self._cache.check_role(node.descriptor, valid_after)
        except ProtocolError:
            return False
        return True

    def _crowded(self, found: dict[NodeId, _Node], last: Consensus | None) -> list[NodeId]:
        """Return the relays that are too many at their addresses (spec/05 §8).

        Whom all know from the last consensus comes first, so that authorities choose alike.
        """

        def rank(identity: NodeId) -> tuple[bool, int, bool, int, NodeId]:
            entry = last.by_identity(identity) if last else None
            measured = self._measured.get(identity, (0, 0))[0] > 0
            since = entry.since if entry else 0
            return entry is None, since, not measured, found[identity].running_since, identity

        seen: Counter[bytes] = Counter()
        crowded = []
        relays = (identity for identity, node in found.items() if node.role is Role.RELAY)
        for identity in sorted(relays, key=rank):
            machine = found[identity].machine
            seen[machine] += 1
            if seen[machine] > MAX_PER_ADDRESS:
                crowded.append(identity)
        return crowded

    def rejected(self, rules: Rules) -> set[NodeId]:
        """Return the identities that `rules` reject: those named, and of known nodes the others."""
        known = {i for i, node in self._nodes.items() if node.descriptor in rules.rejected}
        return known | rules.rejected.identities

    def _observation(
        self, identity: NodeId, node: _Node, now: float, last: Consensus | None
    ) -> Observation:
        entry = last.by_identity(identity) if last else None
        bandwidth, fuel_rate = self._measured.get(identity, (0, 0))
        return Observation(
            uptime=max(0, int(now) - node.running_since),
            since=entry.since if entry else 0,
            bandwidth=capped(bandwidth, entry.bandwidth if entry else 0, BANDWIDTH_FLOOR),
            fuel_rate=capped(fuel_rate, entry.fuel_rate if entry else 0, FUEL_FLOOR),
        )

    def expire(self, now: float) -> list[Effect]:
        """Forget the nodes whose descriptors are too old or no longer hold."""
        gone = []
        for identity, node in self._nodes.items():
            try:
                node.descriptor.check_time(now)
            except ProtocolError:
                gone.append(identity)
        for identity in gone:
            del self._nodes[identity]
            self._measured.pop(identity, None)
        self._cache.forget(now)
        return [ForgetNode(identity) for identity in gone]
