"""Raids: hostile strangers who flood one node for a while, from a few addresses (spec/02 §7).

A new one is a coroutine in `RAIDS`, which goes on until it is cancelled. The fault `raid` draws one
and its victim. A raid excuses nobody: rounds go on under it, memory stays within its bounds, and
nothing is left of it afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from fogbank.directory.descriptor import Role
from fogbank.directory.exchange import SERVICE, GetConsensus, PutDescriptor
from fogbank.directory.exchange_shell import ask
from fogbank.relay.cells import Command, pack_cell
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.codec import encode
from fogbank.relay.errors import RelayError
from fogbank.relay.extend import Address
from fogbank.relay.handshake import EK_LENGTH
from fogbank.relay.limits import Limits
from fogbank.relay.link.handshake import LINK_VERSIONS
from fogbank.relay.link.pipe import Accept, Pipe
from fogbank.relay.messages_shell import send_message
from fogbank.relay.node_shell import Node, NodeConfig
from tests.directory.factory import Node as Spammer
from tests.relay.onion import RawLink
from tests.simulation.chance import Chance
from tests.simulation.wire import SimPipe, SimTransport
from tests.simulation.work import give_up

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.world import World

HOSTS = tuple(f"127.{240 + number}.0.1" for number in range(3))
"""Where strangers dial from."""
_EAGER = Limits(creates_per_second=10_000, creates_burst=10_000, build_seconds=5.0)
_VERSIONS = pack_cell(0, Command.VERSIONS, encode({1: list(LINK_VERSIONS)}))
_REFUSED = (RelayError, OSError, trio.BrokenResourceError, trio.TooSlowError)
_PORT = 9001


class _Deaf:
    """A way into the network whose pipes stop reading when told."""

    def __init__(self, inner: SimTransport) -> None:
        self._inner = inner
        self.deaf = False

    async def dial(self, host: str, port: int) -> Pipe:
        """Connect."""
        pipe = await self._inner.dial(host, port)
        assert isinstance(pipe, SimPipe)
        hear, wait = pipe.try_receive, pipe.wait_readable

        def try_receive(into: memoryview) -> int | None:
            return None if self.deaf else hear(into)

        async def wait_readable() -> None:
            if self.deaf:
                await trio.sleep_forever()
            await wait()

        pipe.__dict__.update(try_receive=try_receive, wait_readable=wait_readable)
        return pipe

    async def listen(
        self, host: str, port: int, accept: Accept, started: Callable[[int], None]
    ) -> None:
        """Answer nobody."""
        raise NotImplementedError


@dataclass(frozen=True)
class Raider:
    """A stranger: its victim, and its own chance."""

    world: World
    victim: Actor
    chance: Chance

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the victim listens."""
        return (Address(self.victim.host, _PORT),)

    def transport(self) -> SimTransport:
        """Return the way from one of the strangers' hosts."""
        return SimTransport(self.world.wire, self.chance.choice(HOSTS))

    async def pipe(self) -> RawLink:
        """Connect, without any handshake."""
        return RawLink(await self.transport().dial(self.victim.host, _PORT))

    async def link(self) -> RawLink:
        """Connect, and shake hands as a client does."""
        return await RawLink.dial(self.transport(), self.addresses[0])

    @asynccontextmanager
    async def client(self, transport: _Deaf | None = None) -> AsyncIterator[Node]:
        """Run an anonymous client that no limit of its own holds back."""
        config = NodeConfig(
            self.world.network.network_id,
            transport or self.transport(),
            limits=_EAGER,
            clock=self.world.now,
            random=self.chance.randbytes,
            solver=give_up,
        )
        node = Node(config)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                yield node
            finally:
                nursery.cancel_scope.cancel()

    async def wrong_creates(self) -> Callable[[int], bytes]:
        """Return what makes CREATEs that cost the victim a key exchange each, and then fail."""
        async with self.client() as node:
            link = await node.link(self.victim.identity, self.addresses)
            head = self.victim.identity + (link.onion_key or b"")

        def cell(number: int) -> bytes:
            message = head + self.chance.randbytes(32 + EK_LENGTH + 40)
            return pack_cell(1 << 31 | number + 1, Command.CREATE, message)

        return cell

    async def again(self, work: Callable[[], Awaitable[None]], count: int) -> None:
        """Do `work` `count` times at once, each over and over, whoever refuses it."""

        async def one() -> None:
            while True:
                try:
                    await work()
                except* _REFUSED:
                    pass
                await trio.sleep(self.chance.uniform(0.1, 0.4))

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)


async def connections(raider: Raider) -> None:
    """Connect from all addresses, and say nothing, or half of a handshake."""

    async def knock() -> None:
        link = await raider.pipe()
        if raider.chance.once_in(0.5):
            await link.send(_VERSIONS)
        await link.closed()

    await raider.again(knock, 240)


async def creates(raider: Raider) -> None:
    """Create circuits, more than any allowance, and mostly wrong ones; often read no answer."""
    wrong = await raider.wrong_creates()

    async def flood() -> None:
        link = await raider.link()
        async with trio.open_nursery() as nursery:
            if raider.chance.once_in(0.5):
                nursery.start_soon(link.closed)
            for number in range(0, 400, 20):
                await link.send(b"".join(map(wrong, range(number, number + 20))))
                await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        link.pipe.close()

    async def use() -> None:
        async with raider.client() as node:
            for _ in range(20):
                # Never closed: they stay for as long as the link does.
                await node.build_direct(raider.victim.identity, raider.addresses)
            await trio.sleep(2.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(raider.again, flood, 3)
        nursery.start_soon(raider.again, use, 1)


async def cells(raider: Raider) -> None:
    """Send PADDING, and cells of circuits that are not there."""

    async def flood() -> None:
        link = await raider.link()
        known = raider.chance.once_in(0.5)
        cell = pack_cell(*((0, Command.PADDING) if known else (7, Command.RELAY)), b"")
        for _ in range(20):
            await link.send(cell * 16)
            await trio.sleep(0.1)
        link.pipe.close()

    await raider.again(flood, 4)


async def sniper(raider: Raider) -> None:
    """Ask for a consensus on many streams, again and again, and never read."""

    async def snipe() -> None:
        transport = _Deaf(raider.transport())
        async with raider.client(transport) as node:
            circuits = [
                await node.build_direct(raider.victim.identity, raider.addresses) for _ in range(3)
            ]
            transport.deaf = True
            streams = [await each.open_stream(SERVICE) for each in circuits for _ in range(8)]
            for _ in range(20):
                for stream in streams:
                    with trio.move_on_after(0.01):
                        await send_message(stream, GetConsensus().encode())
                await trio.sleep(0.3)

    await raider.again(snipe, 2)


async def loops(raider: Raider) -> None:
    """Extend circuits round and round, back, and to the victim itself, and send through them."""

    async def loop() -> None:
        entries = raider.world.listed(raider.victim)
        if len(entries) < 3:
            return
        victim, *others = (Hop(e.identity, e.onion_key, e.addresses) for e in entries)
        one, other = raider.chance.sample(others, 2)
        hops: Sequence[Hop] = raider.chance.choice(
            ([victim, one, other] * 2, [one, other, victim] * 2, [victim, one, victim], [one, one])
        )
        async with raider.client() as node:
            circuit = await node.build(hops)
            for _ in range(20):
                for _ in range(8):
                    circuit.send_padding()
                await trio.sleep(0.1)

    await raider.again(loop, 3)


async def documents(raider: Raider) -> None:
    """Publish relays that nobody ever ran, and garbage, on many streams."""
    count = 0

    async def publish() -> None:
        nonlocal count
        chance = raider.chance
        async with raider.client() as node:
            circuit = await node.build_direct(raider.victim.identity, raider.addresses)
            stream = await circuit.open_stream(SERVICE)
            for _ in range(10):
                count += 1
                if chance.once_in(0.6):
                    now = raider.world.now()
                    spammer = Spammer(f"spam{count}", Role.RELAY, 230 + count % 20, int(now))
                    await ask(stream, PutDescriptor(spammer.descriptor(now)))
                elif chance.once_in(0.5):
                    await ask(stream, PutDescriptor(chance.randbytes(chance.below(4000))))
                else:
                    # So long as announced is no request, and the rest never comes.
                    await stream.send_all(chance.randbytes(chance.below(200)))
                    await stream.receive_some()

    await raider.again(publish, 4)


RAIDS: dict[str, Callable[[Raider], Awaitable[None]]] = {
    "connections": connections,
    "creates": creates,
    "cells": cells,
    "sniper": sniper,
    "loops": loops,
    "documents": documents,
}


async def raid(raider: Raider, name: str) -> None:
    """Do one raid until cancelled; who cannot even begin it tries again."""
    while True:
        try:
            await RAIDS[name](raider)
        except* _REFUSED:
            pass
        await trio.sleep(1.0)
