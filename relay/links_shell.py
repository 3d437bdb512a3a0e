"""A node's links: dialed, answered, kept, counted and closed (spec/02)."""

from __future__ import annotations

import logging
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from fogbank.relay.certificates import ChainKeys
from fogbank.relay.circuits.switch import Switch
from fogbank.relay.errors import LinkFailed, RelayError
from fogbank.relay.extend import Address
from fogbank.relay.keys import NodeId
from fogbank.relay.limits import Limits
from fogbank.relay.link.crowd import Crowd
from fogbank.relay.link.handshake import LinkCredentials, LinkHandshake
from fogbank.relay.link.outqueue import OutQueue
from fogbank.relay.link.pipe import Pipe, Transport
from fogbank.relay.link.shell import TURN, Link, shake
from fogbank.relay.link.sources_shell import Source, Sources, address_group
from fogbank.relay.link.watch_shell import LinkWatch

log = logging.getLogger(__name__)

_OTHER_FILES = 128


class Credentials(Protocol):
    """What a node proves itself with."""

    def credentials(self, now: float) -> LinkCredentials:
        """Return this node's credentials at the time `now`."""


class Links:
    """All links of a node. `keys` None: it dials as an anonymous client and answers nobody."""

    def __init__(
        self,
        switch: Switch,
        transport: Transport,
        keys: Credentials | None,
        limits: Limits,
        clock: Callable[[], float],
        on_clock_warning: Callable[[str], None],
    ) -> None:
        self._switch = switch
        self._transport = transport
        self._keys = keys
        self._limits = limits
        self._clock = clock
        self._on_clock_warning = on_clock_warning
        self._buffer = memoryview(bytearray(TURN))
        self._by_peer: dict[NodeId, list[Link]] = {}
        self._by_queue: dict[OutQueue, Link] = {}
        self._dialing: dict[NodeId, trio.Event] = {}
        self._watch = LinkWatch(self._by_queue.values, limits.link_idle_seconds)
        self._strangers: Counter[str] = Counter()
        self._nodes: Counter[str] = Counter()
        self._sources = Sources(limits, switch.now)
        self._half_open = 0
        self._knocking: Crowd[trio.CancelScope] = Crowd()
        self._anonymous: Crowd[Link] = Crowd()
        self._most = _most_links(limits)
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        nursery: trio.Nursery,
        listen: Sequence[Address],
        started: Callable[[tuple[Address, ...]], None],
    ) -> None:
        """Keep links, whose tasks go into `nursery`, until cancelled.

        Calls `started` with the addresses, real ports in them, once all are listened at; raises
        `LinkFailed` if one cannot be.
        """
        self._nursery = nursery
        try:
            started(tuple([await nursery.start(self._listen, address) for address in listen]))
            await self._watch.run(self._sources.forget)
        finally:
            self._nursery = None

    @property
    def peers(self) -> frozenset[NodeId]:
        """The identities to which a link stands now."""
        return frozenset(self._by_peer)

    def __len__(self) -> int:
        return len(self._by_queue)

    def hold(self, identities: frozenset[NodeId]) -> None:
        """Keep links to these nodes open, by padding, though no circuit uses them."""
        self._watch.held = frozenset(identities)

    def doubt(self) -> None:
        """Ask every peer whether it is still there; close the links of those that are not."""
        if self._nursery is not None:
            self._nursery.start_soon(self._watch.ask, list(self._by_queue.values()))

    def standing(self, identity: NodeId) -> Link | None:
        """Return the newest link to `identity` that stands, if there is one.

        If nothing was heard there for a while the peer is asked meanwhile, and the link closed
        unless it answers: what begins on a dead link so fails soon.
        """
        links = self._by_peer.get(identity, ())
        link = next((link for link in reversed(links) if not link.closing), None)
        if link is not None and self._nursery is not None and self._watch.is_stale(link):
            self._nursery.start_soon(self._watch.ask, [link])
        return link

    def send(self, queues: Sequence[OutQueue]) -> None:
        """Send what waits on these links as far as it goes now."""
        for queue in queues:
            link = self._by_queue.get(queue)
            if link is not None:
                link.flush()

    # Dialing.

    async def link(self, identity: NodeId, addresses: Sequence[Address]) -> Link:
        """Return a link to `identity`: one that stands, or a new one to the first that answers.

        Raises `LinkFailed`.
        """
        while True:
            link = self.standing(identity)
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
            if not self._make_room(""):
                pipe.close()
                raise LinkFailed("this node has as many links as it may have")
            link, nursery = self._open(pipe, proved, None)
            nursery.start_soon(self._run_link, link)
            return link
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
            except LinkFailed as error:
                failure = error
            except RelayError as error:
                failure = LinkFailed(f"{address}: {error}")
        raise failure

    async def _dial(self, identity: NodeId, address: Address) -> tuple[Pipe, ChainKeys | None]:
        pipe = await self._transport.dial(address.host, address.port)
        try:
            own = self._keys.credentials(self._clock()) if self._keys is not None else None
            handshake = LinkHandshake.dialer(pipe.binding, identity, own, pipe.peer_host)
            await shake(pipe, handshake, self._clock)
        except BaseException:
            pipe.close()
            raise
        warning = handshake.clock_warning()
        if warning is not None:
            self._on_clock_warning(warning)
        return pipe, handshake.peer

    # Answering.

    async def _listen(self, address: Address, *, task_status: trio.TaskStatus[Address]) -> None:
        def started(port: int) -> None:
            task_status.started(Address(address.host, port))

        await self._transport.listen(address.host, address.port, self._accept, started)

    def _accept(self, finish: Callable[[], Awaitable[Pipe]], host: str) -> bool:
        group = address_group(host)
        crowded = self._strangers[group] >= self._limits.links_per_address
        if self._nursery is None or self._keys is None or crowded:
            return False
        if not self._sources.get(group, proved=False).handshakes.take(self._switch.now()):
            return False
        if len(self._knocking) >= self._limits.half_open:
            self._turn_away(group)
        self._half_open += 1
        self._strangers[group] += 1
        scope = trio.CancelScope()
        self._knocking.enter(scope, group)
        answer = partial(self._answer, finish, host, self._keys, scope)
        self._nursery.start_soon(contain, "answering a link", answer)
        return True

    def _turn_away(self, group: str) -> None:
        """End the oldest handshake of the address that has most under way."""
        oldest = self._knocking.oldest(group)
        if oldest is not None:
            self._knocking.leave(oldest)
            oldest.cancel()

    def _make_room(self, group: str) -> bool:
        """Tell whether there is room for another link; close the one least missed if need be."""
        if len(self._by_queue) < self._most:
            return True
        spare = self._anonymous.spare(group, lambda link: not link.port.sides)
        if spare is None:
            return False
        self._anonymous.leave(spare)
        spare.close()
        return True

    async def _answer(
        self,
        finish: Callable[[], Awaitable[Pipe]],
        host: str,
        keys: Credentials,
        scope: trio.CancelScope,
    ) -> None:
        group = address_group(host)
        count = self._strangers
        try:
            try:
                with scope, trio.fail_after(self._limits.handshake_seconds):
                    pipe, proved = await self._welcome(finish, host, keys)
            finally:
                self._half_open -= 1
                self._knocking.leave(scope)
            if scope.cancelled_caught:
                return
            if proved is not None:
                _discount(count, group)
                count = self._nodes
                count[group] += 1
                if count[group] > self._limits.node_links_per_address:
                    pipe.close()
                    return
            if not self._make_room(group):
                pipe.close()
                return
            source = self._sources.get(group, proved=proved is not None)
            source.links += 1
            try:
                link, _ = self._open(pipe, proved, source)
                if proved is None:
                    self._anonymous.enter(link, group)
                await self._run_link(link)
            finally:
                source.links -= 1
                source.left = self._switch.now()
        except (RelayError, trio.TooSlowError):
            # A peer that cannot shake hands: its own trouble, and too frequent to log.
            pass
        finally:
            _discount(count, group)

    async def _welcome(
        self, finish: Callable[[], Awaitable[Pipe]], host: str, keys: Credentials
    ) -> tuple[Pipe, ChainKeys | None]:
        pipe = await finish()
        try:
            own = keys.credentials(self._clock())
            handshake = LinkHandshake.responder(pipe.binding, own, host)
            await shake(pipe, handshake, self._clock)
        except BaseException:
            pipe.close()
            raise
        return pipe, handshake.peer

    # Open links.

    def _open(
        self, pipe: Pipe, proved: ChainKeys | None, source: Source | None
    ) -> tuple[Link, trio.Nursery]:
        if self._nursery is None:
            pipe.close()
            raise LinkFailed("this node is shutting down")
        port = self._switch.open_port(
            proved.identity if proved else None,
            dialed=source is None,
            creates=source.creates if source is not None else None,
        )
        port.last_used = self._switch.now()
        onion_key = proved.onion if proved is not None else None
        queue_limit = self._limits.link_queue
        link = Link(pipe, self._switch, port, self._buffer, onion_key, queue_limit, source=source)
        self._by_queue[port.queue] = link
        if port.peer is not None:
            self._by_peer.setdefault(port.peer, []).append(link)
        return link, self._nursery

    async def _run_link(self, link: Link) -> None:
        try:
            await contain("a link", link.run)
        finally:
            self._by_queue.pop(link.port.queue, None)
            self._anonymous.leave(link)
            if link.peer is not None:
                # An older link to the same peer takes its place: a probe's end is not the peer's.
                self._by_peer[link.peer].remove(link)
                if not self._by_peer[link.peer]:
                    del self._by_peer[link.peer]


def _most_links(limits: Limits) -> int:
    """Return how many links there may be: each takes a file descriptor, and others need some."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.links if files < 0 else max(1, min(limits.links, files - _OTHER_FILES))


def _discount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


async def contain(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`; a fault of our own in it is logged by its kind, and ends nothing but `work`."""
    try:
        await work()
    except* Exception as faults:  # noqa: BLE001 - one peer's business must not end the node
        log_fault(what, faults)


def log_fault(what: str, error: BaseException) -> None:
    """Log the kinds of a fault: its text and traceback might name a peer or a circuit."""
    log.error("%s failed: %s", what, ", ".join(sorted(_kinds(error))))


def _kinds(error: BaseException) -> set[str]:
    if isinstance(error, BaseExceptionGroup):
        return set().union(*map(_kinds, error.exceptions))
    return {type(error).__name__}
