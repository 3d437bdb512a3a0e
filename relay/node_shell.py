"""A process's place in the onion network: its links, its circuits, its services.

Relays, workers, authorities and clients are all a `Node`; they differ in what they are given. A
client has no keys and no services; a worker does not listen; an authority offers more services.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fogbank.relay.certificates import ChainKeys
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import LinkFailed, ProtocolError, RelayError
from fogbank.relay.extend import Address, Extend, ExtendPolicy, RefusedCode
from fogbank.relay.keys import NodeId, X25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.handshake import LinkCredentials, LinkHandshake
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.link.pipe import Pipe, Transport
from fogbank.relay.link.shell import TURN, Link, shake
from fogbank.relay.streams.messages import ResetReason
from fogbank.relay.streams.mux import StreamState
from fogbank.relay.streams.shell import CircuitStream

log = logging.getLogger(__name__)

_JANITOR_SECONDS = 15.0
_SERVED_STREAMS = 4096


class NodeKeys(Protocol):
    """A node's own keys; a key store on disk is one."""

    identity: NodeId

    def onion_keys(self) -> Sequence[X25519Key]:
        """Return the accepted onion keys, newest first."""

    def credentials(self, now: float) -> LinkCredentials:
        """Return what this node proves itself with on a link."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a service may know of who asks: who dialed the link if the circuit is one hop long."""

    linked_peer: NodeId | None


Service = Callable[[CircuitStream, Origin], Awaitable[None]]
"""What a stream ends in: serves it until it is done."""


@dataclass(slots=True)
class NodeConfig:
    """What makes a node. `keys` None: a client, anonymous, answering nothing.

    `policy` None: this node extends no circuit. `clock` is the wall clock, in seconds.
    """

    network: bytes
    transport: Transport
    keys: NodeKeys | None = None
    policy: ExtendPolicy | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom
    on_clock_warning: Callable[[str], None] = log.warning


class Node:
    """A node at work; `run` it in a nursery of its own before anything else."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._limits = config.limits
        self._switch = Switch(
            self, config.limits, config.network, trio.current_time, config.random, config.keys
        )
        self._buffer = memoryview(bytearray(TURN))
        self._links: dict[NodeId, Link] = {}
        self._by_queue: dict[OutQueue, Link] = {}
        self._dialing: dict[NodeId, trio.Event] = {}
        self._held: set[NodeId] = set()
        self._anonymous: Counter[str] = Counter()
        self._half_open = 0
        self._served = 0
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        listen: Sequence[Address] = (),
        *,
        task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until cancelled; report as started, with the real ports, once all listeners listen."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._janitor)
            bound = [await nursery.start(self._listen, address) for address in listen]
            task_status.started(tuple(bound))
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # Links.

    @property
    def peers(self) -> frozenset[NodeId]:
        """The identities to which a link stands now."""
        return frozenset(self._links)

    def hold(self, identities: frozenset[NodeId]) -> None:
        """Keep links to these nodes open though no circuit uses them (a worker's contacts)."""
        self._held = set(identities)

    async def link(self, identity: NodeId, addresses: Sequence[Address]) -> Link:
        """Return a link to `identity`: one that stands, or a new one to the first address that answers.

        Raises `LinkFailed`.
        """
        while True:
            link = self._links.get(identity)
            if link is not None:
                return link
            pending = self._dialing.get(identity)
            if pending is None:
                break
            await pending.wait()
        if not addresses:
            raise LinkFailed("no link to that node stands, and it has no address")
        self._dialing[identity] = done = trio.Event()
        try:
            pipe, proved = await self._dial_any(identity, addresses)
            return self._open(pipe, proved, dialed=True)
        finally:
            del self._dialing[identity]
            done.set()

    async def probe(self, identity: NodeId, addresses: Sequence[Address]) -> None:
        """Dial a node afresh, whatever links stand, and hang up; raise `LinkFailed` if it fails."""
        pipe, _ = await self._dial_any(identity, addresses)
        pipe.close()

    async def _dial_any(
        self, identity: NodeId, addresses: Sequence[Address]
    ) -> tuple[Pipe, ChainKeys | None]:
        failure = LinkFailed("the node has no address")
        for address in addresses:
            try:
                with trio.fail_after(self._limits.dial_seconds):
                    return await self._dial(identity, address)
            except trio.TooSlowError:
                failure = LinkFailed(f"{address} did not answer in {self._limits.dial_seconds:g} s")
            except ProtocolError as error:
                failure = LinkFailed(f"{address}: {error}")
            except LinkFailed as error:
                failure = error
        raise failure

    async def _dial(self, identity: NodeId, address: Address) -> tuple[Pipe, ChainKeys | None]:
        config = self._config
        pipe = await config.transport.dial(address.host, address.port)
        try:
            own = config.keys.credentials(config.clock()) if config.keys is not None else None
            handshake = LinkHandshake.dialer(pipe.binding, identity, own, pipe.peer_host)
            await shake(pipe, handshake, config.clock)
        except BaseException:
            pipe.close()
            raise
        warning = handshake.clock_warning()
        if warning is not None:
            config.on_clock_warning(warning)
        return pipe, handshake.peer

    def _open(self, pipe: Pipe, proved: ChainKeys | None, *, dialed: bool) -> Link:
        if self._nursery is None:
            pipe.close()
            raise LinkFailed("this node is shutting down")
        peer = proved.identity if proved is not None else None
        port = self._switch.open_port(peer, dialed=dialed)
        port.last_used = self._switch.now()
        onion_key = proved.onion if proved is not None else None
        link = Link(pipe, self._switch, port, self._buffer, onion_key)
        self._by_queue[port.queue] = link
        if peer is not None:
            self._links[peer] = link
        self._nursery.start_soon(self._run_link, link)
        return link

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._by_queue.pop(link.port.queue, None)
            if link.peer is not None and self._links.get(link.peer) is link:
                del self._links[link.peer]

    async def _listen(self, address: Address, *, task_status: trio.TaskStatus[Address]) -> None:
        def started(port: int) -> None:
            task_status.started(Address(address.host, port))

        await self._config.transport.listen(address.host, address.port, self._accept, started)

    def _accept(self, finish: Callable[[], Awaitable[Pipe]], host: str) -> None:
        crowded = self._anonymous[host] >= self._limits.links_per_address
        if self._nursery is None or crowded or self._half_open >= self._limits.half_open:
            return
        self._half_open += 1
        self._nursery.start_soon(self._answer, finish, host)

    async def _answer(self, finish: Callable[[], Awaitable[Pipe]], host: str) -> None:
        keys = self._config.keys
        pipe: Pipe | None = None
        link: Link | None = None
        try:
            with trio.fail_after(self._limits.handshake_seconds):
                pipe = await finish()
                if keys is None:
                    raise LinkFailed("this node answers no links")
                handshake = LinkHandshake.responder(pipe.binding, keys.credentials(self._config.clock()), host)
                await shake(pipe, handshake, self._config.clock)
            if handshake.peer is None and self._anonymous[host] >= self._limits.links_per_address:
                raise LinkFailed("too many links from one address")
            link = self._open(pipe, handshake.peer, dialed=False)
        except (RelayError, trio.TooSlowError):
            # A peer that cannot shake hands: its own trouble, and too frequent to log.
            pass
        finally:
            self._half_open -= 1
            if link is None and pipe is not None:
                pipe.close()
        if link is not None and link.peer is None:
            await self._count_anonymous(link, host)

    async def _count_anonymous(self, link: Link, host: str) -> None:
        self._anonymous[host] += 1
        try:
            await link.closed.wait()
        finally:
            self._anonymous[host] -= 1
            if not self._anonymous[host]:
                del self._anonymous[host]

    async def _janitor(self) -> None:
        while True:
            await trio.sleep(_JANITOR_SECONDS)
            limit = trio.current_time() - self._limits.link_idle_seconds
            for link in list(self._by_queue.values()):
                idle = not link.port.sides and link.port.last_used < limit
                if idle and link.peer not in self._held:
                    link.close()

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Send what waits on these links as far as it goes now (for the switch)."""
        for queue in queues:
            link = self._by_queue.get(queue)
            if link is not None:
                link.flush()

    # Circuits that begin here.

    async def build_direct(self, identity: NodeId, addresses: tuple[Address, ...]) -> Circuit:
        """Build a circuit of one hop; the link's certificates give its onion key.

        The hop may learn this machine's address: for authorities and a node's own business only.
        """
        link = await self.link(identity, addresses)
        if link.onion_key is None:
            raise LinkFailed("the link shows no onion key")
        return await self.build([Hop(identity, link.onion_key, addresses)])

    async def build(self, hops: Sequence[Hop]) -> Circuit:
        """Build a circuit through `hops`; the first one's addresses, or a standing link, reach it.

        Raises `LinkFailed` if the first hop cannot be reached, else `ExtendRefused` or
        `CircuitDestroyed`; `Circuit.length` of an error is not kept: build anew.
        """
        first = hops[0]
        link = await self.link(first.identity, first.addresses or ())
        now = trio.current_time()
        core = OriginCircuit(link.port, self._config.network, self._config.random, now, len(hops))
        circuit = Circuit(core, self._switch)
        try:
            await circuit.extend_all(hops, self._limits.build_seconds)
        except BaseException:
            circuit.close()
            raise
        return circuit

    # What circuits that pass or end here ask for.

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Begin to extend a circuit, or say why not (for the switch)."""
        policy = self._config.policy
        if policy is None or self._nursery is None:
            return RefusedCode.LIMIT
        self._nursery.start_soon(self._extend, hop, request, policy)
        return None

    async def _extend(self, hop: HopCircuit, request: Extend, policy: ExtendPolicy) -> None:
        try:
            link = await self._next_link(request, policy)
        except LinkFailed:
            link = RefusedCode.UNREACHABLE
        if isinstance(link, RefusedCode):
            hop.extend_refused(link)
            self._switch.flush()
            return
        hop.extend_on(link.port, request.handshake)
        self._switch.flush()
        await trio.sleep(self._limits.extend_seconds)
        hop.extend_timed_out()
        self._switch.flush()

    async def _next_link(self, request: Extend, policy: ExtendPolicy) -> Link | RefusedCode:
        refused = policy.check(request.identity, request.addresses)
        if refused in {RefusedCode.NOT_IN_CONSENSUS, RefusedCode.BAD_ADDRESS}:
            await policy.refresh()
            refused = policy.check(request.identity, request.addresses)
        if refused is not None:
            return refused
        if request.addresses is None:
            return self._links.get(request.identity) or RefusedCode.NO_STANDING_LINK
        return await self.link(request.identity, request.addresses)

    def serve(self, hop: HopCircuit, stream: StreamState, service: str) -> ResetReason | None:
        """Begin to serve a stream, or say why not (for the switch)."""
        handler = self._config.services.get(service)
        if handler is None:
            return ResetReason.NO_SERVICE
        if self._nursery is None or self._served >= _SERVED_STREAMS or hop.mux is None:
            return ResetReason.RESOURCES
        origin = Origin(hop.linked_peer if hop.index == 1 else None)
        self._served += 1
        circuit_stream = CircuitStream(hop.mux, stream, self._switch)
        self._nursery.start_soon(self._serve, handler, circuit_stream, origin)
        return None

    async def _serve(self, handler: Service, stream: CircuitStream, origin: Origin) -> None:
        try:
            await handler(stream, origin)
            await stream.aclose()
        except ProtocolError:
            stream.reset(ResetReason.PROTOCOL)
        except (RelayError, trio.TooSlowError):
            stream.reset(ResetReason.FAILED)
        except Exception as error:  # noqa: BLE001 - a fault in one service must not end the node
            log.error("a service failed: %s", type(error).__name__)
            stream.reset(ResetReason.FAILED)
        finally:
            self._served -= 1
