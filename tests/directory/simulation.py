"""A virtual network of authorities' cores: seeded delays, faults, and a journal that survives.

Time is a number; messages are events in a heap. What the shell promises is kept here too: a
journal effect counts before any later effect of its list, and what was not journaled is lost
when an authority is killed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from fogbank.directory.agreement import Journal
from fogbank.directory.authority import Authority, Restored
from fogbank.directory.broadcast import Answer, Body, Chain
from fogbank.directory.consensus import Consensus
from fogbank.directory.effects import (
    Adopted,
    Effect,
    FetchConsensus,
    FetchMint,
    ForgetNode,
    JournalConsensus,
    JournalSignature,
    JournalVote,
    KeepDealings,
    KeepEvidence,
    KeepMint,
    KeepNode,
    Log,
    NodeRecord,
    Probe,
    SendSignature,
    SendVote,
)
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.schedule import nth_round
from fogbank.relay.keys import NodeId
from tests.directory.factory import SyntheticNetwork, seed


@dataclass
class Disk:
    """What one authority has journaled."""

    journals: dict[int, Journal] = field(default_factory=dict)
    consensuses: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[NodeId, NodeRecord] = field(default_factory=dict)
    evidence: dict[tuple[int, NodeId], bytes] = field(default_factory=dict)
    mint: bytes = b""
    dealings: tuple[tuple[int, bytes], ...] = ()

    def restored(self) -> Restored:
        newest = self.consensuses[max(self.consensuses)] if self.consensuses else b""
        nodes = tuple(self.nodes.values())
        return Restored(dict(self.journals), nodes, newest, self.mint, self.dealings)


@dataclass
class Member:
    """One authority of the simulation: its core while it is up, and its disk."""

    index: int
    core: Authority | None = None
    disk: Disk = field(default_factory=Disk)
    offset: float = 0.0
    lives: int = 0
    """Raised by a test that takes an authority's mint key from it."""
    adopted: dict[int, Consensus] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    filter: Callable[[Effect], list[tuple[float, Effect]]] | None = None


class Simulation:
    """Authorities that exchange messages with seeded delays of up to `delay` phases."""

    def __init__(
        self,
        network: SyntheticNetwork,
        rng: random.Random,
        delay: float = 0.2,
        skew: float = 0.1,
        *,
        mint: bool = False,
    ) -> None:
        self.mint = mint
        """Whether authorities have mint keys."""
        self.network = network
        self.rng = rng
        self.phase = network.document.timing.phase_ms / 1000
        self.delay = delay * self.phase
        self.now = float(network.document.timing.start)
        self.members = [Member(i) for i in range(len(network.authorities))]
        self.by_identity = {a.identity: i for i, a in enumerate(network.authorities)}
        self.reachable: Callable[[Probe], bool] = lambda _probe: True
        self.signed: dict[tuple[int, int], set[bytes]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for member in self.members:
            member.offset = rng.uniform(-skew, skew) * self.phase

    # Running.

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def boot(self, index: int) -> None:
        member = self.members[index]
        authority = self.network.authorities[index]
        local = self.now + member.offset
        core = Authority(
            self.network.document,
            authority.credentials,
            member.disk.restored(),
            local,
            mint=self.secret(index),
        )
        core.publish_own(authority.descriptor(local), local)
        member.core = core
        self._tick(index, core)

    def secret(self, index: int) -> MintSecret | None:
        """Return an authority's mint key, if they have any here."""
        return MintSecret(seed("mint", index, self.members[index].lives)) if self.mint else None

    def kill(self, index: int) -> None:
        self.members[index].core = None

    def _tick(self, index: int, core: Authority) -> None:
        member = self.members[index]
        if member.core is not core:
            return
        local = self.now + member.offset
        self.carry_out(index, core.handle_timer(local))
        due = max(core.next_timer() - member.offset, self.now + 1e-4)
        self.at(due, lambda: self._tick(index, core))

    def run_until(self, when: float) -> None:
        while self._events and self._events[0][0] <= when:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = when

    def run_rounds(self, count: int) -> None:
        last = nth_round(self.network.document, count - 1)
        self.run_until(nth_round(self.network.document, count).opens - 0.01)
        assert self.now > last.valid_after

    # Effects.

    def carry_out(self, index: int, effects: list[Effect]) -> None:
        member = self.members[index]
        for effect in effects:
            if member.filter is None:
                self._carry_out_one(index, effect)
                continue
            for wait, changed in member.filter(effect):
                if wait:
                    self.at(self.now + wait, partial(self._carry_out_one, index, changed))
                else:
                    self._carry_out_one(index, changed)

    def _carry_out_one(self, index: int, effect: Effect) -> None:
        self._keep(self.members[index].disk, effect)
        self._act(index, self.members[index], effect)

    @staticmethod
    def _keep(disk: Disk, effect: Effect) -> None:
        match effect:
            case JournalVote(valid_after, vote):
                known = disk.journals.get(valid_after, Journal())
                assert known.vote in {b"", vote}
                disk.journals[valid_after] = replace(known, vote=vote)
            case JournalSignature(valid_after, body):
                known = disk.journals.get(valid_after, Journal())
                assert known.consensus in {b"", body}
                disk.journals[valid_after] = replace(known, consensus=body)
            case JournalConsensus(valid_after, document):
                disk.consensuses[valid_after] = document
            case KeepMint(_, document):
                disk.mint = document
            case KeepDealings(dealings):
                disk.dealings = dealings
            case KeepEvidence(valid_after, authority, evidence):
                disk.evidence[valid_after, authority] = evidence
            case KeepNode(record):
                disk.nodes[record.identity] = record
            case ForgetNode(identity):
                disk.nodes.pop(identity, None)

    def _act(self, index: int, member: Member, effect: Effect) -> None:
        match effect:
            case SendVote(relayed):
                self._later(lambda: self.push(index, relayed.to, relayed.chain, relayed.body))
            case SendSignature(to, message):
                self.signed.setdefault((index, message.valid_after), set()).add(message.digest)
                self._later(lambda: self._push_signature(index, to, effect))
            case Probe():
                core = member.core
                self._later(lambda: self._answer_probe(index, core, effect))
            case FetchConsensus(source):
                self._later(lambda: self._fetch(index, source))
            case FetchMint(source, valid_after):
                self._later(lambda: self._fetch_mint(index, source, valid_after))
            case Adopted(_, consensus):
                member.adopted[consensus.valid_after] = consensus
            case Log(line):
                member.logs.append(line)

    def _later(self, action: Callable[[], None]) -> None:
        self.at(self.now + self.rng.uniform(0.01, 1) * self.delay, action)

    def push(self, index: int, to: NodeId, chain: Chain, body: Body) -> None:
        """Deliver a chain, and the body when it is asked for; retry while the peer is down."""
        target = self.members[self.by_identity[to]]
        sender = self.network.authorities[index].identity
        local = self.now + target.offset
        if target.core is None:
            if self.now < chain.valid_after:
                self.at(self.now + self.phase / 4, lambda: self.push(index, to, chain, body))
            return
        answer, effects = target.core.receive_vote(sender, chain, None, local)
        if answer is Answer.NEED_BODY:
            _, more = target.core.receive_vote(sender, chain, body, local)
            effects = effects + more
        self.carry_out(target.index, effects)

    def _push_signature(self, index: int, to: NodeId, effect: SendSignature) -> None:
        target = self.members[self.by_identity[to]]
        if target.core is None:
            if self.now < effect.deadline:
                self.at(self.now + self.phase / 4, lambda: self._push_signature(index, to, effect))
            return
        peer = self.network.authorities[index].identity
        local = self.now + target.offset
        self.carry_out(target.index, target.core.receive_signature(peer, effect.message, local))

    def _answer_probe(self, index: int, core: Authority | None, probe: Probe) -> None:
        member = self.members[index]
        if core is not None and member.core is core:
            local = self.now + member.offset
            reached = probe.addresses[0] if self.reachable(probe) else None
            self.carry_out(index, core.probed(probe, reached, local))

    def _fetch(self, index: int, source: NodeId) -> None:
        member, other = self.members[index], self.members[self.by_identity[source]]
        if member.core is None or other.core is None or not other.disk.consensuses:
            return
        document = other.disk.consensuses[max(other.disk.consensuses)]
        local = self.now + member.offset
        self.carry_out(index, member.core.receive_consensus(document, local))

    def _fetch_mint(self, index: int, source: NodeId, valid_after: int) -> None:
        member, other = self.members[index], self.members[self.by_identity[source]]
        document = other.disk.consensuses.get(valid_after, b"")
        if member.core is not None and other.core is not None and document == other.disk.mint:
            local = self.now + member.offset
            self.carry_out(index, member.core.receive_mint(document, local))

    # What must hold.

    def consensuses(self, valid_after: int) -> set[bytes]:
        """Return the digests of the consensuses that anyone holds for that time."""
        return {
            member.adopted[valid_after].digest
            for member in self.members
            if valid_after in member.adopted
        }

    def publish(self, index: int, descriptor: bytes) -> None:
        member = self.members[index]
        assert member.core is not None
        local = self.now + member.offset
        self.carry_out(index, member.core.receive_descriptor(descriptor, local))
