"""An authority at work: its core, its disk, its clock, and its talk with the others (spec/05 §4).

The core decides; this shell waits. It carries out effects in order, so that a journal entry is on
the disk before what it covers is sent. It listens to nobody itself: `service` is registered with
a node, and `connect` and `probe` are handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from fogbank.directory.authority import Authority
from fogbank.directory.broadcast import Answer
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
from fogbank.directory.exchange import (
    GetConsensus,
    GetEvidence,
    GetMint,
    GetNetwork,
    PushSignature,
    PushVote,
    PutDescriptor,
    Reply,
    Request,
    Status,
    pack,
    pack_evidence,
)
from fogbank.directory.exchange_shell import (
    DirService,
    Held,
    answer_consensus,
    answer_links,
    fetch_consensus,
    fetch_links,
    fetch_mint,
)
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.network import NetworkDocument, SignedNetwork
from fogbank.directory.peer_shell import FAILURES, Connect, Peer, why
from fogbank.directory.rules import Rules
from fogbank.directory.schedule import interval_at
from fogbank.directory.signatures import Credentials
from fogbank.directory.store_shell import Store, StoreError
from fogbank.directory.vote import Policy
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""A relay that has not answered by then does not run."""
WRITE_SECONDS = 1.0
"""Nodes' records wait so long, to be written together."""
_WAIT_BOUNDS = (0.001, 60.0)
"""The clock is looked at this often at least, as somebody may set it."""


class Prober(Protocol):
    """Finds out whether a node answers."""

    async def __call__(self, addresses: tuple[Address, ...], identity: NodeId) -> Address | None:
        """Return the first of the addresses that answers and proves that identity, or None."""


class AuthorityShell:
    """Runs one authority. `service` is its `dir` service, to be registered with a node.

    `policy` is asked for the operator's policy before every step, and has to be quick.
    `on_adopted` hears of every new consensus, its signed bytes and opened, `on_version` of each
    later network document that another authority gave, as it was signed and as it was verified.
    """

    def __init__(
        self,
        network: NetworkDocument,
        credentials: Credentials,
        store: Store,
        *,
        connect: Connect,
        probe: Prober,
        clock: Callable[[], float],
        policy: Callable[[], tuple[Policy, Rules]] | None = None,
        mint: MintSecret | None = None,
    ) -> None:
        self._credentials = credentials
        self._connect = connect
        self._store = store
        self._turn = 0
        self._probe = probe
        self._clock = clock
        self._held: Held | None = None
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._unwritten: dict[NodeId, NodeRecord | None] = {}
        self._to_write = trio.Event()
        self._peers: dict[NodeId, Peer] = {}
        self._greet(network)
        self.versions: Callable[[], Sequence[SignedNetwork]] = tuple
        """Gives the versions of the network document to be served, in order, without gaps."""
        self.on_adopted: Callable[[bytes, Consensus], None] | None = None
        self.on_version: Callable[[SignedNetwork, NetworkDocument], None] | None = None
        self._policy = policy
        self.core = Authority(network, credentials, store.restore(), clock(), mint=mint)
        self.service = DirService(network, self, clock, store.folder)

    @property
    def network(self) -> NetworkDocument:
        """The newest version of the network document that it goes by."""
        return self.core.network

    @network.setter
    def network(self, network: NetworkDocument) -> None:
        self.core.go_over(network, self._clock())
        self.service.network = network
        self._greet(network)
        self._wake.set()

    def _greet(self, network: NetworkDocument) -> None:
        """Make whoever is an authority of any version, and new here, one that can be told."""
        phase = network.timing.phase_ms / 1000
        for pin in network.everyone:
            if pin.identity == self._credentials.identity or pin.identity in self._peers:
                continue
            peer = Peer(pin.identity, pin.nickname, phase, self._connect, self._clock, self._heard)
            self._peers[pin.identity] = peer
            if self._nursery is not None:
                self._nursery.start_soon(peer.run)

    @property
    def summary(self) -> str:
        """One line on the last round: who took part, who was missing and why."""
        return self.core.summary

    @property
    def unreachable(self) -> dict[str, str]:
        """Why other authorities cannot be reached now, by nickname."""
        return {self._peers[each].nickname: text for each, text in self.core.unreachable.items()}

    def _heard(self, identity: NodeId, trouble: str) -> None:
        if trouble:
            self.core.unreachable[identity] = trouble
        else:
            self.core.unreachable.pop(identity, None)

    def publish_own(self, descriptor: bytes) -> None:
        """Take this authority's own descriptor; raise `ProtocolError` if it does not hold."""
        self.core.publish_own(descriptor, self._clock())

    def take_dealings(self, series: int, dealings: Iterable[tuple[NodeId, bytes]]) -> None:
        """Take dealings of a series that `core.mint` was missing, from another of its members."""
        self._carry_out(self.core.mint.take_over(series, dealings))

    def renew(self, credentials: Credentials) -> None:
        """Sign with a new signing key from the next round on."""
        self.core.credentials = credentials

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for peer in self._peers.values():
                    nursery.start_soon(peer.run)
                nursery.start_soon(self._write)
                nursery.start_soon(self._follow)
                task_status.started()
                await self._tick()
        finally:
            self._nursery = None
            self._flush()

    async def _tick(self) -> None:
        """Call the core whenever it wants to be called."""
        while True:
            if self._policy is not None:
                self.core.policy, self.core.rules = self._policy()
            self._carry_out(self.core.handle_timer(self._clock()))
            self._wake = trio.Event()
            least, most = _WAIT_BOUNDS
            wait = self.core.next_timer() - self._clock()
            with trio.move_on_after(min(max(wait, least), most)):
                await self._wake.wait()

    # Effects.

    def _carry_out(self, effects: list[Effect]) -> None:
        """Carry out effects in order; after a failed journal entry nothing more is sent."""
        journaled = True
        for effect in effects:
            if isinstance(effect, SendVote | SendSignature):
                to = effect.relayed.to if isinstance(effect, SendVote) else effect.to
                if journaled:
                    self._peers[to].put(effect)
                continue
            try:
                self._keep(effect)
            except StoreError as error:
                journaled = False
                log.error("%s", error)  # noqa: TRY400 - a sentence for the operator
            self._act(effect)
        self._wake.set()

    def _keep(self, effect: Effect) -> None:
        """Put on the disk what belongs there, and wait for it: nothing may overtake it."""
        match effect:
            case JournalVote(valid_after, vote):
                self._store.journal_vote(valid_after, vote)
            case JournalSignature(valid_after, body):
                self._store.journal_signature(valid_after, body)
            case JournalConsensus(valid_after, document):
                self._store.keep_consensus(valid_after, document)
            case KeepMint(valid_after, document):
                self._store.keep_mint(valid_after, document)
            case KeepDealings(dealings):
                self._store.keep_dealings(dealings)
            case KeepEvidence(valid_after, authority, evidence):
                self._store.keep_evidence(valid_after, authority, evidence)
            case KeepNode(record):
                self._unwritten[record.identity] = record
                self._to_write.set()
            case ForgetNode(identity):
                self._unwritten[identity] = None
                self._to_write.set()

    def _act(self, effect: Effect) -> None:
        match effect:
            case Probe() if self._nursery is not None:
                self._nursery.start_soon(self._run_probe, effect)
            case FetchConsensus(source) if self._nursery is not None:
                self._nursery.start_soon(self._fetch, source)
            case FetchMint(source, valid_after) if self._nursery is not None:
                self._nursery.start_soon(self._fetch_mint, source, valid_after)
            case Adopted(document, consensus):
                self._held = Held.of(document, consensus)
                if self.on_adopted is not None:
                    self.on_adopted(document, consensus)
            case Log(line, trouble):
                log.log(logging.WARNING if trouble else logging.INFO, "%s", line)

    async def _write(self) -> None:
        """Write nodes' records a while after they changed."""
        while True:
            await self._to_write.wait()
            await trio.sleep(WRITE_SECONDS)
            self._flush()

    def _flush(self) -> None:
        self._to_write = trio.Event()
        unwritten, self._unwritten = self._unwritten, {}
        kept = [record for record in unwritten.values() if record is not None]
        try:
            self._store.keep_nodes(kept, [i for i, record in unwritten.items() if record is None])
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the operator

    # What others ask.

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        """Answer one request; raise `ProtocolError` with the reason to refuse it."""
        now = self._clock()
        if self._nursery is None:
            raise ProtocolError("this authority is just starting: ask again soon")
        match request:
            case GetConsensus():
                return answer_consensus(request, self._held, now)
            case PutDescriptor(descriptor):
                self._carry_out(self.core.receive_descriptor(descriptor, now))
                return Reply(Status.DONE, int(now))
            case GetNetwork():
                return answer_links(request, self.versions(), now)
            case GetEvidence():
                return Reply(Status.DONE, int(now), pack_evidence(self._store.evidence()))
            case _ if peer is not None:
                return self._answer_authority(request, peer, now)
            case _:
                raise ProtocolError("only authorities may send this, over a link of their own")

    def _answer_authority(self, request: Request, peer: NodeId, now: float) -> Reply:
        match request:
            case PushVote(chain, body):
                answer, effects = self.core.receive_vote(peer, chain, body, now)
                self._carry_out(effects)
                status = Status.NEED_BODY if answer is Answer.NEED_BODY else Status.DONE
                return Reply(status, int(now))
            case PushSignature(message):
                self._carry_out(self.core.receive_signature(peer, message, now))
                return Reply(Status.DONE, int(now))
            case GetMint(valid_after):
                document = self._store.mint(valid_after)
                if not document:
                    raise ProtocolError("that state of the mint is not here: ask another authority")
                return Reply(Status.DONE, int(now), pack(document))
            case _:
                raise ProtocolError("an authority does not answer this")

    # What is asked of others.

    async def _run_probe(self, probe: Probe) -> None:
        reached = None
        with trio.move_on_after(PROBE_SECONDS):
            try:
                reached = await self._probe(probe.addresses, probe.identity)
            except FAILURES as error:
                log.debug("a probe failed: %s", error)
        self._carry_out(self.core.probed(probe, reached, self._clock()))

    async def catch_up(self) -> None:
        """Ask the others for a newer consensus, until b+1 of them have told what they hold."""
        told: set[NodeId] = set()
        while True:
            network = self.network.governing(int(self._clock()))
            others = {pin.identity for pin in network.authorities} & self._peers.keys()
            for each in sorted(others - told):
                if await self._fetch(each):
                    told.add(each)
            if len(told & others) >= min(network.faulty + 1, len(others)):
                return
            await trio.sleep(network.timing.phase_ms / 1000)

    async def _fetch(self, source: NodeId) -> bool:
        """Take another's consensus if it is newer; tell whether it has told what it holds."""
        peer = self._peers[source]
        try:
            async with peer.stream() as stream:
                known = self.core.consensus
                fetched = await fetch_consensus(stream, self.network, self._clock, known)
        except FAILURES as error:
            log.info("no consensus from authority %s: %s", peer.nickname, why(error))
            return False
        if fetched is not None:
            self._carry_out(self.core.receive_consensus(fetched[0], self._clock()))
        return True

    async def _fetch_mint(self, source: NodeId, valid_after: int) -> None:
        peer = self._peers[source]
        try:
            async with peer.stream() as stream:
                document = await fetch_mint(stream, valid_after, self._clock)
        except FAILURES as error:
            log.info("no state of the mint from authority %s: %s", peer.nickname, why(error))
            return
        self._carry_out(self.core.receive_mint(document, self._clock()))

    async def _follow(self) -> None:
        """Ask the others in turn, one an interval, for later versions of the network document."""
        while True:
            await trio.sleep(interval_at(self.network, self._clock()))
            others = [
                self._peers[pin.identity]
                for pin in self.network.engaged(self._clock())
                if pin.identity in self._peers
            ]
            if others and self.on_version is not None:
                self._turn += 1
                await self._ask_for_links(others[self._turn % len(others)], self.on_version)

    async def _ask_for_links(
        self, peer: Peer, take: Callable[[SignedNetwork, NetworkDocument], None]
    ) -> None:
        try:
            async with peer.stream() as stream:
                await fetch_links(stream, self.network, self._clock, take)
        except ProtocolError as error:
            log.warning(
                "authority %s, asked for the next network document: %s", peer.nickname, error
            )
        except FAILURES as error:
            log.debug("authority %s gave no network document: %s", peer.nickname, why(error))
