"""An authority at work: its core, its disk, its clock, and its talk with the others (spec/05 §4).

The core decides; this shell waits. It carries out effects in order, so that a journal entry is on
the disk before what it covers is sent. It listens to nobody itself: `service` is registered with
a node, and `connect` and `probe` are handed in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fogbank.directory.authority import Authority
from fogbank.directory.broadcast import Answer
from fogbank.directory.consensus import Consensus
from fogbank.directory.effects import (
    Adopted,
    Effect,
    FetchConsensus,
    ForgetNode,
    JournalConsensus,
    JournalSignature,
    JournalVote,
    KeepEvidence,
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
    PushSignature,
    PushVote,
    PutDescriptor,
    RefusedError,
    Reply,
    Request,
    Status,
    pack_evidence,
)
from fogbank.directory.exchange_shell import (
    DirService,
    Held,
    answer_consensus,
    ask,
    fetch_consensus,
)
from fogbank.directory.network import NetworkDocument
from fogbank.directory.signatures import Credentials
from fogbank.directory.store_shell import Store, StoreError
from fogbank.directory.vote import Policy
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""A relay that has not answered by then does not run."""
CONNECT_SECONDS = (2.0, 10.0)
"""Time allowed for a stream to another authority: one phase, but within these bounds."""
KEEP_SECONDS = 20.0
"""A stream to another authority is kept so long after the last message."""
MAX_QUEUE = 256
"""Messages that wait for one authority; the oldest goes when there are more."""
WRITE_SECONDS = 1.0
"""Nodes' records wait so long, to be written together."""
EAGER_VOTE = 16 << 10
"""A vote of so many bytes is sent unasked."""
_LEAST_SEND = 0.1
_CLOCK_GRAIN = 2.0
"""Replies tell whole seconds, and are some time on their way."""
_WAIT_BOUNDS = (0.001, 60.0)
"""The clock is looked at this often at least, as somebody may set it."""
_FAILURES = (
    RelayError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
"""What talking to another node may end in."""


def _why(error: BaseException) -> str:
    return str(error) or "it did not answer in time"


class Connect(Protocol):
    """Opens a stream to another authority's `dir` service, over a link that proves both ends.

    Failures come as `RelayError`, `OSError` or trio's resource errors, never in a group.
    """

    def __call__(self, identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        """Return a context manager; entering it may raise `RelayError` or `OSError`."""


class Prober(Protocol):
    """Finds out whether a node answers."""

    async def __call__(self, addresses: tuple[Address, ...], identity: NodeId) -> bool:
        """Tell whether one of the addresses answers and proves that identity."""


@dataclass(slots=True)
class _Peer:
    """What waits to be sent to one other authority."""

    identity: NodeId
    queue: deque[SendVote | SendSignature] = field(default_factory=deque)
    news: trio.Event = field(default_factory=trio.Event)
    clock_told: bool = False

    def put(self, effect: SendVote | SendSignature) -> None:
        if len(self.queue) >= MAX_QUEUE:
            self.queue.popleft()
        self.queue.append(effect)
        self.news.set()


class AuthorityShell:
    """Runs one authority. `service` is its `dir` service, to be registered with a node.

    `on_adopted` hears of every new consensus, its signed bytes and opened.
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
        policy: Policy | None = None,
    ) -> None:
        self._network = network
        self._store = store
        self._connect = connect
        self._probe = probe
        self._clock = clock
        self._held: Held | None = None
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._unwritten: dict[NodeId, NodeRecord | None] = {}
        self._to_write = trio.Event()
        self._phase = network.timing.phase_ms / 1000
        self._peers = {
            pin.identity: _Peer(pin.identity)
            for pin in network.authorities
            if pin.identity != credentials.identity
        }
        self.on_adopted: Callable[[bytes, Consensus], None] | None = None
        self.core = Authority(network, credentials, store.restore(), clock(), policy)
        self.service = DirService(network, self, clock)

    @property
    def summary(self) -> str:
        """One line on the last round: who took part, who was missing."""
        return self.core.summary

    def publish_own(self, descriptor: bytes) -> None:
        """Take this authority's own descriptor; raise `ProtocolError` if it does not hold."""
        self.core.publish_own(descriptor, self._clock())

    def renew(self, credentials: Credentials) -> None:
        """Sign with a new signing key from the next round on."""
        self.core.credentials = credentials

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for peer in self._peers.values():
                    nursery.start_soon(self._talk, peer)
                nursery.start_soon(self._write)
                task_status.started()
                await self._tick()
        finally:
            self._nursery = None
            self._flush()

    async def _tick(self) -> None:
        """Call the core whenever it wants to be called."""
        while True:
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
            case GetEvidence():
                return Reply(Status.DONE, int(now), pack_evidence(self._store.evidence()))
            case PushVote(chain, body) if peer is not None:
                answer, effects = self.core.receive_vote(peer, chain, body, now)
                self._carry_out(effects)
                status = Status.NEED_BODY if answer is Answer.NEED_BODY else Status.DONE
                return Reply(status, int(now))
            case PushSignature(message) if peer is not None:
                self._carry_out(self.core.receive_signature(peer, message, now))
                return Reply(Status.DONE, int(now))
            case _:
                raise ProtocolError("only authorities may send this, over a link of their own")

    # What is asked of others.

    async def _talk(self, peer: _Peer) -> None:
        """Send what is queued for one authority, over one stream as long as it holds."""
        failing = False
        while True:
            await peer.news.wait()
            try:
                async with self._stream(peer.identity) as stream:
                    await self._drain(peer, stream)
                failing = False
            except _FAILURES as error:
                if not failing:
                    log.warning(
                        "authority %s cannot be told: %s", self._name(peer.identity), _why(error)
                    )
                failing = True
                await trio.sleep(min(max(self._phase / 8, 0.05), 5.0))
            self._drop_late(peer)

    @asynccontextmanager
    async def _stream(self, identity: NodeId) -> AsyncIterator[Stream]:
        """Open a stream to another authority, or give up in time."""
        least, most = CONNECT_SECONDS
        async with AsyncExitStack() as stack:
            with trio.fail_after(min(max(self._phase, least), most)):
                stream = await stack.enter_async_context(self._connect(identity))
            yield stream

    def _name(self, identity: NodeId) -> str:
        pin = self._network.pin(identity)
        return pin.nickname if pin else "unknown"

    def _drop_late(self, peer: _Peer) -> None:
        now = self._clock()
        peer.queue = deque(effect for effect in peer.queue if effect.deadline > now)
        if not peer.queue:
            peer.news = trio.Event()

    async def _drain(self, peer: _Peer, stream: Stream) -> None:
        """Send until nothing has come for a while."""
        while True:
            self._drop_late(peer)
            if peer.queue:
                effect = peer.queue[0]
                self._compare_clocks(peer, await self._send(stream, effect))
                if peer.queue and peer.queue[0] is effect:
                    peer.queue.popleft()
                continue
            with trio.move_on_after(KEEP_SECONDS):
                await peer.news.wait()
            if not peer.queue:
                return

    async def _send(self, stream: Stream, effect: SendVote | SendSignature) -> Reply:
        with trio.fail_after(max(effect.deadline - self._clock(), _LEAST_SEND)):
            if isinstance(effect, SendSignature):
                reply = await ask(stream, PushSignature(effect.message))
            else:
                chain, body = effect.relayed.chain, effect.relayed.body
                eager = len(body) <= EAGER_VOTE or len(chain.signatures) == 1
                reply = await ask(stream, PushVote(chain, body if eager else None))
                if reply.status is Status.NEED_BODY:
                    reply = await ask(stream, PushVote(chain, body))
        if reply.status is not Status.DONE:
            raise RefusedError(reply.reason or "it refused without a reason")
        return reply

    def _compare_clocks(self, peer: _Peer, reply: Reply) -> None:
        """Say so, once, if another authority's clock is too far from this one's for rounds."""
        off = self._clock() - (reply.time + 0.5)  # it was cut to whole seconds
        far = abs(off) > max(self._phase / 4, _CLOCK_GRAIN)
        if far and not peer.clock_told:
            name, way = self._name(peer.identity), "ahead of" if off > 0 else "behind"
            log.warning(
                "this clock is %.0f s %s authority %s's: rounds need a quarter of a phase; "
                "see which of the two is wrong", abs(off), way, name,
            )  # fmt: skip
        peer.clock_told = far

    async def _run_probe(self, probe: Probe) -> None:
        answered = False
        with trio.move_on_after(PROBE_SECONDS):
            try:
                answered = await self._probe(probe.addresses, probe.identity)
            except _FAILURES as error:
                log.debug("a probe failed: %s", error)
        self._carry_out(self.core.probed(probe, answered, self._clock()))

    async def _fetch(self, source: NodeId) -> None:
        try:
            async with self._stream(source) as stream:
                known = self.core.consensus
                fetched = await fetch_consensus(stream, self._network, self._clock, known)
        except _FAILURES as error:
            log.info("no consensus from authority %s: %s", self._name(source), _why(error))
            return
        if fetched is not None:
            self._carry_out(self.core.receive_consensus(fetched[0], self._clock()))
