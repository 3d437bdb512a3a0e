"""What a worker holds is looked at while it runs, and told as soon as authorities take it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Description, DescriptorCache, Role, open_descriptor
from fogbank.directory.exchange import PutDescriptor, Reply, Request, Status
from fogbank.directory.exchange_shell import DirService
from fogbank.directory.nodes import NodeTable
from fogbank.directory.runtimes import Runtime
from fogbank.nodes.environment import Environment
from fogbank.nodes.held_runtimes import LOOK_SECONDS, HeldRuntimes
from fogbank.nodes.home import Home, Settings
from fogbank.nodes.runtime import Publisher
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from fogbank.relay.waking_shell import Waking
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeSpec
from tests.directory.factory import START, make_consensus, make_network

NETWORK = make_network(1)


class Shelf:
    """A store whose content, or failure, a test sets."""

    def __init__(self) -> None:
        self.content: tuple[RuntimeSpec, ...] = ()
        self.failure: OSError | None = None

    def held(self) -> tuple[RuntimeSpec, ...]:
        if self.failure is not None:
            raise self.failure
        return self.content

    def read(self, digest: bytes) -> bytes:
        if self.failure is not None:
            raise self.failure
        return b"the module of " + next(s.name for s in CATALOGUE if s.digest == digest).encode()

    def add(self, data: bytes) -> RuntimeSpec:
        raise NotImplementedError


async def test_what_is_added_and_removed_is_seen(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    held = HeldRuntimes(shelf, lambda: None)
    seen: list[tuple[bytes, ...]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.watch, lambda: seen.append(held.digests))
        for content in ((), CATALOGUE[:1], CATALOGUE[:1], CATALOGUE, ()):
            shelf.content = content
            await trio.sleep(2 * LOOK_SECONDS)
        nursery.cancel_scope.cancel()
    everything = tuple(spec.digest for spec in CATALOGUE)
    assert seen == [everything[:1], everything, ()]


async def test_a_store_that_cannot_be_read_holds_nothing_and_is_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    shelf.content = CATALOGUE
    held = HeldRuntimes(shelf, lambda: None)
    shelf.failure = PermissionError(13, "Permission denied")
    assert held.look()
    assert not held.look()
    assert held.digests == ()
    assert len(caplog.records) == 1
    shelf.failure = None
    assert held.look()
    assert len(held.digests) == len(CATALOGUE)


async def test_a_worker_without_a_store_holds_nothing() -> None:
    held = HeldRuntimes(None, lambda: None)
    await held.watch(lambda: None)
    assert held.digests == ()


def accepting(*specs: RuntimeSpec) -> Consensus:
    """Return a consensus that accepts some runtimes."""
    runtimes = tuple(sorted(Runtime(each.name, each.digest, each.size) for each in specs))
    return replace(make_consensus(NETWORK), method=3, runtimes=runtimes)


async def test_strangers_are_given_what_is_held_and_accepted_alone() -> None:
    one, other = CATALOGUE[:2]
    consensus: list[Consensus | None] = [None]
    shelf = Shelf()
    shelf.content = (one,)
    held = HeldRuntimes(shelf, lambda: consensus[0])
    assert (held.size(one.digest), held.missing()) == (None, ())
    consensus[0] = accepting(one, other)
    assert held.size(one.digest) == one.size
    assert held.size(other.digest) is None
    assert [each.digest for each in held.missing()] == [other.digest]
    consensus[0] = accepting(other)
    assert held.size(one.digest) is None
    assert await held.read(one.digest) == b"the module of " + one.name.encode()
    shelf.failure = OSError("gone")
    assert await held.read(one.digest) is None
    assert held.now() == ()


class Authority:
    """Takes descriptors as authorities do: not one right after another."""

    def __init__(self, clock: Callable[[], float]) -> None:
        document = NETWORK.document
        self._clock = clock
        self._table = NodeTable(document, DescriptorCache(document))
        self._service = DirService(document, self, clock)
        self.taken: list[tuple[float, tuple[bytes, ...]]] = []

    def answer(self, request: Request, peer: NodeId | None) -> Reply:
        assert isinstance(request, PutDescriptor)
        assert peer is None
        now = self._clock()
        self._table.accept(request.descriptor, now)
        opened = open_descriptor(request.descriptor, NETWORK.document, now)
        self.taken.append((trio.current_time(), opened.description.runtimes))
        return Reply(Status.DONE, int(now))

    @asynccontextmanager
    async def stream(self, nursery: trio.Nursery, identity: NodeId) -> AsyncIterator[Stream]:
        assert NETWORK.document.is_authority(identity)
        near, far = memory_stream_pair()
        nursery.start_soon(self._serve, far)
        yield near
        await near.aclose()

    async def _serve(self, stream: Stream) -> None:
        await self._service(stream, Anybody())


class Anybody:
    linked_peer = None


async def test_a_change_is_published_as_soon_as_authorities_take_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    home = Home(tmp_path)
    home.create(Settings(Role.WORKER, "worker"), None, None, START)
    machine = Environment(clock=lambda: START + 100 + trio.current_time())
    authority = Authority(machine.clock)
    plain = Description("worker", Role.WORKER, services=("job",))
    waking = Waking(machine.clock)
    publisher = Publisher(home, NETWORK.document, home.keys(START), plain, machine, waking)
    begun = trio.current_time()
    held = (CATALOGUE[0].digest,)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run, partial(authority.stream, nursery))
        await trio.sleep(0.2)
        publisher.describe_as(Description("worker", Role.WORKER, services=("job",), runtimes=held))
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    times = [when - begun for when, _ in authority.taken]
    assert [runtimes for _, runtimes in authority.taken] == [(), held]
    assert times[1] <= 2


async def test_a_worker_that_slept_publishes_as_soon_as_it_wakes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The steady clock stands still while a machine is suspended."""
    home, ahead = Home(tmp_path), 0.0
    home.create(Settings(Role.WORKER, "worker"), None, None, START)
    machine = Environment(clock=lambda: START + 100 + ahead + trio.current_time())
    authority, waking = Authority(machine.clock), Waking(machine.clock)
    plain = Description("worker", Role.WORKER, services=("job",))
    publisher = Publisher(home, NETWORK.document, home.keys(START), plain, machine, waking)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waking.run, lambda: None)
        nursery.start_soon(publisher.run, partial(authority.stream, nursery))
        await trio.sleep(1)
        ahead += 3600.0
        woken = trio.current_time()
        await trio.sleep(8)
        nursery.cancel_scope.cancel()
    times = [when for when, _ in authority.taken]
    assert len(times) == 2
    assert times[1] - woken <= 5
