"""A process's place in the onion network: its links, its circuits, its services.

Relays, workers, authorities and clients are all a `Node`; they differ in what they are given. A
client has no keys and no services; a worker does not listen; an authority offers more services.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from fogbank.relay.cells import MAX_HOPS
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.circuits.origin import Hop, OriginCircuit
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.circuits.work_shell import Solver, solve_in_thread
from fogbank.relay.errors import LinkFailed, ProtocolError, RelayError
from fogbank.relay.extend import Address, Extend, ExtendPolicy, RefusedCode
from fogbank.relay.keys import NodeId, X25519Key
from fogbank.relay.limits import LATE_SECONDS, SOON_SECONDS, Limits
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.link.pipe import Transport
from fogbank.relay.link.shell import Link
from fogbank.relay.links_shell import Links, log_fault
from fogbank.relay.streams.messages import ResetReason
from fogbank.relay.streams.mux import StreamState
from fogbank.relay.streams.shell import CircuitStream
from fogbank.relay.waking_shell import Waking

log = logging.getLogger(__name__)

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
    """What a service may know of who asks: who dialed the link if the circuit is one hop long.

    That it is one hop long is the origin's word, so behind a node that extends circuits anyone may
    stand: the identity counts for nodes that extend none, as authorities (spec/04 §3).
    """

    linked_peer: NodeId | None


Service = Callable[[CircuitStream, Origin], Awaitable[None]]
"""What a stream ends in: serves it until it is done."""


@dataclass(slots=True)
class NodeConfig:
    """What makes a node. `keys` None: a client, anonymous, answering nothing.

    `policy` None: this node extends no circuit. `clock` is the wall clock, in seconds. `solver`
    does the work that overloaded relays ask for. `place` tells this machine's own address.
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
    solver: Solver = solve_in_thread
    place: Callable[[], str] = str


class Node:
    """A node at work; `run` it in a nursery of its own before anything else."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._limits = config.limits
        self._switch = Switch(
            self, config.limits, config.network, trio.current_time, config.random, config.keys
        )
        self.links = Links(
            self._switch,
            config.transport,
            config.keys,
            config.limits,
            config.clock,
            config.on_clock_warning,
        )
        self.waking = Waking(config.clock, config.place)
        """Hears when this machine slept, or changed its address."""
        self._creations = trio.lowlevel.ParkingLot()
        self._switch.on_waiting = self._wake_creations
        self._late = {each: trio.lowlevel.ParkingLot() for each in (SOON_SECONDS, LATE_SECONDS)}
        self._switch.on_late = self._wake_late
        self._served = 0
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        listen: Sequence[Address] = (),
        *,
        task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until cancelled; report as started, with the real ports, once all listeners listen.

        Raises `LinkFailed` if an address cannot be listened at.
        """
        failure: LinkFailed | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._answer_creations)
            for seconds, lot in self._late.items():
                nursery.start_soon(self._send_late, seconds, lot)
            nursery.start_soon(self.waking.run, self.links.doubt)
            try:
                await self.links.run(nursery, listen, task_status.started)
            except LinkFailed as error:
                # Raised below: the nursery would wrap it in a group.
                failure = error
                nursery.cancel_scope.cancel()
            finally:
                self._nursery = None
        if failure is not None:
            raise failure

    # Links.

    @property
    def peers(self) -> frozenset[NodeId]:
        """The identities to which a link stands now."""
        return self.links.peers

    def hold(self, identities: frozenset[NodeId]) -> None:
        """Keep links to these nodes open though no circuit uses them (a worker's contacts)."""
        self.links.hold(identities)

    async def link(self, identity: NodeId, addresses: Sequence[Address]) -> Link:
        """Return a link to `identity`, a new one if none stands; raise `LinkFailed`."""
        return await self.links.link(identity, addresses)

    async def probe(self, identity: NodeId, addresses: Sequence[Address]) -> None:
        """Dial a node afresh, whatever links stand, and hang up; raise `LinkFailed` if it fails."""
        await self.links.probe(identity, addresses)

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Send what waits on these links as far as it goes now (for the switch)."""
        self.links.send(queues)

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
        """Build a circuit through `hops`, 1 to 6 of them.

        The first one is reached by its addresses or a link that stands. Raises `LinkFailed` if it
        cannot be, else `ExtendRefused` or `CircuitDestroyed`; what was built is then gone.
        """
        if not 1 <= len(hops) <= MAX_HOPS:
            raise ValueError(f"a circuit has 1 to {MAX_HOPS} hops")
        first = hops[0]
        link = await self.link(first.identity, first.addresses or ())
        now = trio.current_time()
        core = OriginCircuit(link.port, self._config.network, self._config.random, now, len(hops))
        circuit = Circuit(core, self._switch, self._config.solver, self._limits.work_seconds)
        try:
            await circuit.extend_all(hops, self._limits.build_seconds)
        except BaseException:
            circuit.close()
            raise
        return circuit

    # What circuits that pass or end here ask for.

    @property
    def effort_asked(self) -> int:
        """The effort that this node asks for a circuit now; 0 if it keeps up (spec/03 §2.5)."""
        return self._switch.effort_asked

    def _wake_late(self, seconds: float) -> None:
        self._late[seconds].unpark_all()

    async def _send_late(self, seconds: float, lot: trio.lowlevel.ParkingLot) -> None:
        """Send in time what waits for nothing but other cells of its link."""
        while True:
            await lot.park()
            await trio.sleep(seconds)
            self._switch.flush_late(seconds)

    def _wake_creations(self) -> None:
        self._creations.unpark_all()

    async def _answer_creations(self) -> None:
        """Answer the CREATEs that wait, a few at a time."""
        while True:
            delay = self._switch.answer_waiting()
            self._switch.flush()
            if delay is None:
                await self._creations.park()
            else:
                await trio.sleep(delay)

    def extend(self, hop: HopCircuit, request: Extend) -> RefusedCode | None:
        """Begin to extend a circuit, or say why not (for the switch)."""
        policy = self._config.policy
        if policy is None or self._nursery is None:
            return RefusedCode.LIMIT
        self._nursery.start_soon(self._extend, hop, request, policy)
        return None

    async def _extend(self, hop: HopCircuit, request: Extend, policy: ExtendPolicy) -> None:
        settled = trio.Event()
        with trio.move_on_after(self._limits.extend_seconds):
            link = await self._next_link(request, policy)
            if isinstance(link, RefusedCode):
                hop.extend_refused(link)
            else:
                hop.extend_on(link.port, request.handshake, settled.set, request.nonce)
                self._switch.flush()
                await settled.wait()
            self._switch.flush()
            return
        hop.extend_timed_out()
        self._switch.flush()

    async def _next_link(self, request: Extend, policy: ExtendPolicy) -> Link | RefusedCode:
        try:
            refused = policy.check(request.identity, request.addresses)
            if refused in {RefusedCode.NOT_IN_CONSENSUS, RefusedCode.BAD_ADDRESS}:
                await policy.refresh()
                refused = policy.check(request.identity, request.addresses)
            if refused is not None:
                return refused
            if request.addresses is None:
                return self.links.standing(request.identity) or RefusedCode.NO_STANDING_LINK
            return await self.links.link(request.identity, request.addresses)
        except RelayError:
            return RefusedCode.UNREACHABLE
        except Exception as error:  # noqa: BLE001 - a fault here must not end the node
            log_fault("extending a circuit", error)
            return RefusedCode.RESOURCES

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
        # A handler's nurseries raise groups, and at the node's end some hold a Cancelled, too.
        try:
            await handler(stream, origin)
            await stream.aclose()
        except* ProtocolError:
            stream.reset(ResetReason.PROTOCOL)
        except* (RelayError, trio.TooSlowError):
            stream.reset(ResetReason.FAILED)
        except* Exception as faults:  # noqa: BLE001 - one service must not end the node
            log_fault("a service", faults)
            stream.reset(ResetReason.FAILED)
        finally:
            self._served -= 1
