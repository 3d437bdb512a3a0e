"""What every kind of node does while it runs: logs, signals, keys, the directory's streams."""

from __future__ import annotations

import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from math import inf
from typing import TypeAlias

import trio

from fogbank.client.circuits_shell import CircuitBuilder, directly, over_circuits
from fogbank.client.directory_cache_shell import DirectoryCache, DirectoryOpener
from fogbank.client.errors import ClientError, NoPath
from fogbank.directory.descriptor import Description, make_descriptor
from fogbank.directory.exchange import RefusedError
from fogbank.directory.exchange_shell import publish
from fogbank.directory.network import AuthorityPin, NetworkDocument
from fogbank.directory.nodes import LEAST_GAP
from fogbank.directory.schedule import interval_at
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home
from fogbank.nodes.status import Publication, Reply
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import KeyStoreError, RelayError
from fogbank.relay.keys import NodeId, Signed
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.links_shell import contain
from fogbank.relay.messages_shell import Stream
from fogbank.relay.node_shell import Node
from fogbank.relay.waking_shell import Waking

log = logging.getLogger(__name__)

FAILURES = (RelayError, ClientError, OSError, trio.TooSlowError, trio.BrokenResourceError)
"""What talking to another node may end in."""
OpenStream: TypeAlias = Callable[[NodeId], AbstractAsyncContextManager[Stream]]
"""Opens a `dir` stream to an authority."""

_KEY_SECONDS = 3600.0
_RETRY_SHARE = 10.0
_RETRY_BOUNDS = (0.3, 60.0)
_TIMEOUT = 30.0
_OPEN_FILES = 1 << 16


def start_logging() -> None:
    """Log to standard error, a line an event; nothing below names a circuit, client or job."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def allow_open_files() -> None:
    """Let this process open as many files as its user may, up to 65 536: each link is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run_until_told(
    main: Callable[[], Awaitable[None]],
    *,
    eof: bool,
    leave: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run `main` until it ends, SIGTERM or SIGINT, or with `eof` the end of standard input.

    After the signal it goes on until `leave` returns, or until a second one.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_out, main, nursery.cancel_scope)
            if eof:
                nursery.start_soon(_cancel_at_eof, nursery.cancel_scope)
            async for _ in signals:
                log.info("asked to end")
                break
            if leave is not None:
                nursery.start_soon(_cancel_after, leave, nursery.cancel_scope)
                async for _ in signals:
                    log.info("asked again: ending at once")
                    break
            nursery.cancel_scope.cancel()


async def _run_out(main: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await main()
    scope.cancel()


async def _cancel_after(last: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await contain("leaving", last)
    scope.cancel()


async def _cancel_at_eof(scope: trio.CancelScope) -> None:
    # A blocking read in a thread could not be cancelled at the end.
    await trio.lowlevel.wait_readable(sys.stdin.fileno())
    scope.cancel()


def nearly_always_far(
    node: Node, builder: CircuitBuilder[Circuit], cache: DirectoryCache
) -> DirectoryOpener:
    """Return what opens `dir` streams over full circuits, or over one hop where none can be.

    That is the case before the first consensus, and while a young network lists too few relays.
    """
    near, far = directly(node), over_circuits(builder, cache)

    @asynccontextmanager
    async def opener(pin: AuthorityPin) -> AsyncIterator[Stream]:
        async with AsyncExitStack() as stack:
            way = far if cache.topology is not None else near
            try:
                stream = await stack.enter_async_context(way(pin))
            except NoPath:
                stream = await stack.enter_async_context(near(pin))
            yield stream

    return opener


def authority_streams(
    network: Callable[[], NetworkDocument], opener: DirectoryOpener
) -> OpenStream:
    """Return what opens a `dir` stream to the authority of an identity, by way of `opener`."""

    def open_stream(identity: NodeId) -> AbstractAsyncContextManager[Stream]:
        pin = network().find(identity)
        if pin is None:
            raise RelayError("that is no authority of this network")
        return opener(pin)

    return open_stream


class Publisher:
    """Publishes a node's descriptor, again and again, to every authority that has not got it."""

    def __init__(
        self,
        home: Home,
        network: NetworkDocument,
        store: KeyStore,
        description: Description,
        environment: Environment,
        waking: Waking,
    ) -> None:
        self._clock = environment.clock
        self._waking = waking
        self._network = network
        self._store = store
        self._description = description
        self._last = -inf
        self._families: tuple[Signed, ...] = home.families()
        self._renewed = trio.Event()
        self._taken = trio.Event()
        self._published: dict[NodeId, Publication] = {}

    @property
    def network(self) -> NetworkDocument:
        """The network document whose authorities it publishes to; to new ones at once."""
        return self._network

    @network.setter
    def network(self, network: NetworkDocument) -> None:
        self._network = network
        self._renewed.set()

    @property
    def published(self) -> tuple[Publication, ...]:
        """What became of the last try with each authority."""
        return tuple(self._published[each] for each in sorted(self._published))

    def describe_as(self, description: Description) -> None:
        """Publish at once, or as soon as authorities take it: the node has changed."""
        self._description = description
        self._renewed.set()
        self._taken = trio.Event()

    async def wait_taken(self) -> None:
        """Wait until an authority has what the node is now described as."""
        await self._taken.wait()

    def renewed_keys(self) -> None:
        """Publish at once: keys have changed."""
        self._renewed.set()

    def period(self) -> float:
        """Return the seconds after which to publish anew: an interval."""
        return interval_at(self._network, self._clock())

    def describe(self) -> bytes:
        """Return the descriptor as of now."""
        chain = self._store.chain
        return make_descriptor(
            self._store.signing_key,
            chain.signing,
            chain.onion,
            self._description,
            self._clock(),
            self._families,
        )

    async def run(self, to: OpenStream) -> None:
        """Publish for as long as the node runs; `to` opens a stream to an authority."""
        while True:
            # Authorities take no two descriptors in a row; twice their gap is for delays.
            gap = 2 * LEAST_GAP * self._network.timing.interval
            await self._waking.sleep(min(max(self._last + gap - self._clock(), 0.0), gap))
            self._last = self._clock()
            self._renewed = trio.Event()
            taken, descriptor = self._taken, self.describe()
            waiting = {pin.identity for pin in self._network.engaged(self._clock())}
            # One that left office may come back: it needs no stream to tell itself.
            waiting.discard(self._store.identity)
            length = self.period()
            least, most = _RETRY_BOUNDS
            with trio.CancelScope() as round_:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_of_round, length, round_)
                    while waiting and not self._renewed.is_set():
                        waiting -= await self._publish_to(waiting, descriptor, to, taken)
                        if waiting:
                            await self._pause(min(max(length / _RETRY_SHARE, least), most))
                    await self._renewed.wait()
                    round_.cancel()

    async def _end_of_round(self, seconds: float, scope: trio.CancelScope) -> None:
        """End what goes on in `scope` when it is time to publish anew, by the wall clock too."""
        await self._waking.sleep(seconds)
        scope.cancel()

    async def _pause(self, seconds: float) -> None:
        """Wait before authorities that could not be reached are asked again."""
        with trio.move_on_after(seconds):
            await self._waking.wait()

    async def _publish_to(
        self, authorities: set[NodeId], descriptor: bytes, to: OpenStream, taken: trio.Event
    ) -> set[NodeId]:
        """Return those who took the descriptor; the first one that does sets `taken`."""
        done: set[NodeId] = set()

        async def publish_to(identity: NodeId) -> None:
            try:
                with trio.fail_after(_TIMEOUT):
                    async with to(identity) as stream:
                        await publish(stream, descriptor, self._clock)
                done.add(identity)
                taken.set()
                self._note(identity, Reply.TAKEN)
            except RefusedError as error:
                log.warning("%s", error)
                done.add(identity)
                self._note(identity, Reply.REFUSED, error)
            except FAILURES as error:
                log.info("an authority cannot be reached now: %s", error)
                self._note(identity, Reply.UNREACHABLE, error)

        async with trio.open_nursery() as nursery:
            for identity in sorted(authorities):
                nursery.start_soon(publish_to, identity)
        return done

    def _note(self, identity: NodeId, reply: Reply, error: Exception | None = None) -> None:
        pin = self._network.find(identity)
        name = pin.nickname if pin else "unknown"
        reason = "" if error is None else str(error) or "it did not answer in time"
        self._published[identity] = Publication.of(name, reply, self._clock(), reason)


async def renew_keys(
    store: KeyStore, clock: Callable[[], float], renewed: Callable[[], None], waking: Waking
) -> None:
    """Renew keys that are due, as long as the node runs; call `renewed` after each time."""
    while True:
        with trio.move_on_after(_KEY_SECONDS):
            # Keys may have run out while the machine slept.
            await waking.wait()
        try:
            if store.rotate(clock()):
                renewed()
        except KeyStoreError as error:
            log.warning("%s", error)
