"""Peers that do not play by the rules: they lose their link, and nobody else notices (spec/02 §7).

Every attack runs over memory, with a clock that jumps, and over TLS on loopback. Meanwhile an
honest client talks over a circuit that ends at the same relay.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.cells import CELL, Command, DestroyReason, pack_cell, pack_destroy
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.codec import encode
from fogbank.relay.errors import RelayError
from fogbank.relay.extend import Address
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.limits import CIRCUIT_WINDOW, Limits
from fogbank.relay.link.handshake import LINK_VERSIONS
from fogbank.relay.link.memory_shell import MemoryNetwork, MemoryTransport
from fogbank.relay.link.pipe import Transport
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.relay.streams.shell import CircuitStream
from tests.relay.onion import NETWORK, NOW, Keys, RawLink, echo, talk

THEIRS = 0x80000001
"""A circuit id that a dialer may use."""
LIMITS = Limits(
    links_per_address=8,
    node_links_per_address=4,
    half_open=12,
    handshake_seconds=0.3,
    circuits_per_link=100,
    unread_answers=64 * CELL,
)


@dataclass
class Scene:
    """A relay, an honest client's stream to it, and a way for others to reach it."""

    relay: Node
    keys: Keys
    address: Address
    transport: Callable[[str], Transport]
    stream: CircuitStream
    client: Node

    async def attacker(self, host: str = "127.66.0.1", keys: Keys | None = None) -> RawLink:
        """Open a link and do its handshake as one should."""
        return await RawLink.dial(self.transport(host), self.address, keys)

    async def stranger(self, host: str = "127.66.0.1") -> RawLink:
        """Connect, and do nothing yet."""
        return RawLink(await self.transport(host).dial(self.address.host, self.address.port))

    def create(self, number: int = 0) -> bytes:
        """Return a cell that rightly creates a circuit."""
        made = OriginHandshake(
            self.keys.identity,
            self.keys.onion_key,
            NETWORK,
            HopRequest(1, 1),
            os.urandom(32),
            os.urandom(64),
        )
        return pack_cell(THEIRS + number, Command.CREATE, made.message)

    async def until(self, ready: Callable[[], bool]) -> None:
        while not ready():  # noqa: ASYNC110 - what changes is the relay's own state
            await trio.sleep(0.01)


@asynccontextmanager
async def scene(transport: Callable[[str], Transport]) -> AsyncIterator[Scene]:
    """Start a relay and an honest client; check in the end that all is as it was."""
    keys = Keys(1)
    services = {"echo": echo}
    relay = Node(
        NodeConfig(NETWORK, transport("127.1.0.1"), keys, None, services, LIMITS, clock=lambda: NOW)
    )
    client = Node(NodeConfig(NETWORK, transport("127.2.0.1"), clock=lambda: NOW))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            # Memory has no port 0; sockets need it.
            port = 9001 if isinstance(transport("127.1.0.1"), MemoryTransport) else 0
            (address,) = await nursery.start(relay.run, [Address("127.1.0.1", port)])
            await nursery.start(client.run)
            circuit = await client.build([Hop(keys.identity, keys.onion_key, (address,))])
            stream = await circuit.open_stream("echo")
            await talk(stream)
            here = Scene(relay, keys, address, transport, stream, client)
            async with trio.open_nursery() as meanwhile:
                meanwhile.start_soon(keep_talking, stream)
                yield here
                await here.until(lambda: relay.links._half_open == 0)
                meanwhile.cancel_scope.cancel()
            fresh = await circuit.open_stream("echo")
            await talk(fresh)
            assert relay._switch._budget.waiting == 0
            nursery.cancel_scope.cancel()
    assert (relay.links._by_queue, relay.links._strangers, relay.links._nodes) == ({}, {}, {})


async def keep_talking(stream: CircuitStream) -> None:
    while True:
        # A cancelled reader would leave half an answer behind.
        with trio.CancelScope(shield=True):
            await talk(stream, os.urandom(3000))
        await trio.sleep(0.02)


def only_the_honest(here: Scene) -> bool:
    return len(here.relay.links) == 1


VERSIONS = pack_cell(0, Command.VERSIONS, encode({1: list(LINK_VERSIONS)}))

BEFORE = {
    "nothing": b"",
    "garbage": b"GET / HTTP/1.1\r\n\r\n" * 1000,
    "half a cell": VERSIONS[:100],
    "half a handshake": VERSIONS,
    "no common version": pack_cell(0, Command.VERSIONS, encode({1: [99]})),
    "versions that are no CBOR": pack_cell(0, Command.VERSIONS, b"\xff" * 100),
    "versions twice": VERSIONS * 2,
    "a circuit before its time": pack_cell(THEIRS, Command.CREATE, b""),
    "a proof of nothing": VERSIONS + pack_cell(0, Command.AUTH, bytes(64)),
    "certificates of nobody": VERSIONS + pack_cell(0, Command.CERTS, b"\x80"),
    "a length over the cell": b"\0\0\0\0\1\xff\xff".ljust(CELL, b"\0"),
}


async def strange_beginning(here: Scene, data: bytes) -> None:
    link = await here.stranger()
    await link.send(data)
    await link.closed()
    link.pipe.close()
    await here.until(lambda: only_the_honest(here))


AFTER = {
    "an unknown command": pack_cell(0, 200, b""),
    "an unknown command on a circuit": pack_cell(THEIRS, 200, b""),
    "VERSIONS": VERSIONS,
    "CERTS": pack_cell(0, Command.CERTS, b""),
    "AUTH": pack_cell(0, Command.AUTH, bytes(64)),
    "NETINFO": pack_cell(0, Command.NETINFO, encode({1: 0, 2: ""})),
    "padding on a circuit": pack_cell(THEIRS, Command.PADDING, b""),
    "CREATE on no circuit": pack_cell(0, Command.CREATE, b""),
    "CREATE with an id of the wrong half": pack_cell(1, Command.CREATE, b""),
    "CREATE with the wrong half's zero": pack_cell(1 << 31, Command.CREATE, b""),
    "CREATE longer than its cell": b"\x80\0\0\1\5".ljust(CELL, b"\xff"),
    "CREATED on no circuit": pack_cell(0, Command.CREATED, b""),
    "DESTROY on no circuit": pack_destroy(0, 1),
    "RELAY on no circuit": pack_cell(0, Command.RELAY, b""),
    "too many cells for no circuit": pack_cell(5, Command.RELAY, b"") * (CIRCUIT_WINDOW + 1),
}


async def breach(here: Scene, data: bytes) -> None:
    link = await here.attacker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.send, data)
        await link.closed()
    link.pipe.close()
    await here.until(lambda: only_the_honest(here))


async def an_id_used_twice(here: Scene) -> None:
    await breach(here, here.create() + here.create())


async def cells_for_unknown_circuits(here: Scene) -> None:
    link = await here.attacker()
    cells = [
        pack_cell(7, Command.RELAY, b"x") * 100,
        pack_cell(7, Command.CREATED, b"x"),
        pack_destroy(7, 1),
        pack_cell(0, Command.PADDING, b"x") * 5000,
    ]
    await link.send(b"".join(cells) + here.create())
    answers = [await link.cell(), await link.cell()]
    # Of so many PADDING cells one is answered.
    commands = [answer[4] for answer in answers if answer is not None]
    assert commands == [Command.PADDING, Command.CREATED]
    link.pipe.close()


async def a_relay_cell_that_does_not_open(here: Scene) -> None:
    link = await here.attacker()
    await link.send(here.create() + pack_cell(THEIRS, Command.RELAY, b"x"))
    answers = [await link.cell(), await link.cell()]
    assert [answer[4] for answer in answers if answer] == [Command.CREATED, Command.DESTROY]
    # The id is free again, the link lives.
    await link.send(here.create())
    answer = await link.cell()
    assert answer is not None
    assert answer[4] == Command.CREATED
    link.pipe.close()


async def a_thousand_creates(here: Scene) -> None:
    link = await here.attacker()
    good = [here.create(number) for number in range(120)]
    bad = [pack_cell(THEIRS + number, Command.CREATE, b"x") for number in range(120, 1000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.send, b"".join(good + bad))
        reasons = []
        for _ in range(1000):
            answer = await link.cell()
            assert answer is not None
            reasons.append(answer[5] if answer[4] == Command.DESTROY else 0)
    assert reasons.count(0) == LIMITS.circuits_per_link
    assert set(reasons) == {0, DestroyReason.RESOURCES}
    assert sum(len(each.port.sides) for each in here.relay.links._by_queue.values()) == 101
    link.pipe.close()
    await here.until(lambda: only_the_honest(here))


async def creates_whose_answers_nobody_reads(here: Scene) -> None:
    link = await here.attacker()
    cell = pack_cell(THEIRS, Command.CREATE, b"x")
    for _ in range(300):
        await link.send(cell * 64)
        queued = [each.port.queue.queued for each in here.relay.links._by_queue.values()]
        assert max(queued) <= LIMITS.unread_answers + 128 * CELL
        if only_the_honest(here):
            break
    assert only_the_honest(here)
    link.pipe.close()


async def too_many_links(here: Scene) -> None:
    links = [await here.attacker() for _ in range(LIMITS.links_per_address)]
    with pytest.raises(RelayError):
        await here.attacker()
    # Another address, and after a link has ended the same one again, are answered.
    (await here.attacker("127.67.0.1")).pipe.close()
    links.pop().pipe.close()
    await here.until(lambda: len(here.relay.links) == LIMITS.links_per_address)
    links.append(await here.attacker())
    for link in links:
        link.pipe.close()
    await here.until(lambda: only_the_honest(here))


async def too_many_identities(here: Scene) -> None:
    limit = LIMITS.node_links_per_address
    links = [await here.attacker(keys=Keys(100 + number)) for number in range(limit)]
    # The handshake itself goes well; then the relay hangs up.
    late = await here.attacker(keys=Keys(200))
    await late.closed()
    assert len(here.relay.links) == limit + 1
    for link in [*links, late]:
        link.pipe.close()
    await here.until(lambda: only_the_honest(here))


async def a_flood_of_half_open_links(here: Scene) -> None:
    links: list[RawLink] = []

    async def knock(number: int) -> None:
        try:
            links.append(await here.stranger(f"127.{68 + number % 8}.0.1"))
        except RelayError:
            return

    with trio.move_on_after(0.2):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(knock, number)
            await here.until(lambda: here.relay.links._half_open == LIMITS.half_open)
            await trio.sleep_forever()
    # One that was just turned away counts until its task has ended.
    await here.until(lambda: here.relay.links._half_open <= LIMITS.half_open)
    for link in links:
        await link.closed()
        link.pipe.close()
    await here.until(lambda: here.relay.links._half_open == 0)
    assert not any(host.startswith("127.6") for host in here.relay.links._strangers)
    (await here.attacker()).pipe.close()


async def a_peer_that_vanishes(here: Scene) -> None:
    for _ in range(5):
        link = await here.attacker()
        await link.send(here.create() + here.create(1)[:1000])
        link.pipe.close()
    await here.until(lambda: only_the_honest(here))


SCENARIOS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        an_id_used_twice,
        cells_for_unknown_circuits,
        a_relay_cell_that_does_not_open,
        a_thousand_creates,
        creates_whose_answers_nobody_reads,
        too_many_links,
        too_many_identities,
        a_flood_of_half_open_links,
        a_peer_that_vanishes,
    )
}


@pytest.fixture(autouse=True)
def _silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no attack makes the relay complain: a log must not be a peer's to fill."""
    yield
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == []


@asynccontextmanager
async def memory_scene() -> AsyncIterator[Scene]:
    network = MemoryNetwork()
    async with scene(lambda host: MemoryTransport(network, host)) as here:
        yield here


@asynccontextmanager
async def tls_scene() -> AsyncIterator[Scene]:
    async with scene(TlsTransport) as here:
        yield here


@pytest.mark.parametrize("name", BEFORE)
async def test_a_strange_beginning_over_memory(autojump_clock: MockClock, name: str) -> None:
    async with memory_scene() as here:
        await strange_beginning(here, BEFORE[name])


@pytest.mark.parametrize("name", AFTER)
async def test_a_breach_over_memory(autojump_clock: MockClock, name: str) -> None:
    async with memory_scene() as here:
        await breach(here, AFTER[name])


@pytest.mark.parametrize("name", SCENARIOS)
async def test_an_attack_over_memory(autojump_clock: MockClock, name: str) -> None:
    async with memory_scene() as here:
        await SCENARIOS[name](here)


async def test_strange_beginnings_over_tls() -> None:
    async with tls_scene() as here, trio.open_nursery() as nursery:
        for number, data in enumerate(BEFORE.values()):
            nursery.start_soon(strange_tls_beginning, here, f"127.{70 + number}.0.1", data)


async def strange_tls_beginning(here: Scene, host: str, data: bytes) -> None:
    try:
        link = await here.stranger(host)
    except RelayError:
        return
    await link.send(data)
    await link.closed()
    link.pipe.close()


async def test_breaches_over_tls() -> None:
    async with tls_scene() as here:
        for data in AFTER.values():
            await breach(here, data)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_an_attack_over_tls(name: str) -> None:
    async with tls_scene() as here:
        await SCENARIOS[name](here)


@pytest.mark.parametrize(
    "data", [b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n" * 200, bytes(range(256)) * 20]
)
async def test_no_tls_at_all(data: bytes) -> None:
    async with tls_scene() as here:
        stream = await trio.open_tcp_stream(here.address.host, here.address.port)
        async with stream:
            try:
                await stream.send_all(data)
                # The relay says what it has to say, an alert at most, and hangs up.
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        await here.until(lambda: here.relay.links._half_open == 0)


async def test_a_connection_that_is_reset() -> None:
    async with tls_scene() as here:
        link = await here.attacker()
        await link.send(here.create())
        sock = link.pipe._sock  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.pipe.close()
        await here.until(lambda: only_the_honest(here))
