"""The attacks: each is a coroutine that goes on until it is cancelled (spec/02 §7).

All of an attacker's connections come from `HERE`, but for attacks on what is counted per address,
which come from a few. `did` counts what was done, and what came of it.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from itertools import count

import trio

from fogbank.directory.broadcast import Chain
from fogbank.directory.consensus import CONSENSUS_LIMIT, SignedConsensus
from fogbank.directory.exchange import PushVote, PutDescriptor, Reply, Status
from fogbank.directory.exchange_shell import ask
from fogbank.directory.schedule import round_at
from fogbank.directory.vote import VOTE_LIMIT
from fogbank.relay.cells import CELL, Command, pack_cell
from fogbank.relay.certificates import LINK_LIFETIME, ONION_LIFETIME, Use, issue
from fogbank.relay.certificates import Chain as KeyChain
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.codec import ARRAY, encode, make_head
from fogbank.relay.errors import ExtendRefused, RelayError
from fogbank.relay.extend import Address
from fogbank.relay.handshake import HopRequest, OriginHandshake
from fogbank.relay.keys import Ed25519Key
from fogbank.relay.limits import Limits
from fogbank.relay.link.handshake import LINK_VERSIONS, LinkCredentials
from fogbank.relay.link.pipe import Pipe
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import receive_message
from fogbank.relay.node_shell import Node, NodeConfig
from fogbank.relay.streams.messages import ResetReason
from tests.abuse.network import address, directory, hop, wall_clock
from tests.directory.factory import Node as DirectoryNode
from tests.directory.factory import relay
from tests.relay.onion import NETWORK, Keys, RawLink

HERE = "127.210.0.1"
OTHERS = tuple(f"127.{211 + number}.0.1" for number in range(3))
CREATES = Limits(creates_per_second=10_000, creates_burst=10_000)

did: Counter[str] = Counter()

VERSIONS = pack_cell(0, Command.VERSIONS, encode({1: list(LINK_VERSIONS)}))


async def several(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Do `work` `count` times at once, each over and over; failures count as refusals."""

    async def again(number: int) -> None:
        while True:
            try:
                await work(number)
            except* (RelayError, OSError, trio.BrokenResourceError):
                did["refused"] += 1
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(again, number)


def create(number: int) -> bytes:
    """Return a cell that rightly creates a circuit at the victim."""
    at = hop("victim")
    made = OriginHandshake(
        at.identity, at.onion_key, NETWORK, HopRequest(1, 1), os.urandom(32), os.urandom(64)
    )
    return pack_cell(1 << 31 | number + 1, Command.CREATE, made.message)


# On the link.


async def connection_flood() -> None:
    """Connect by TCP, and say nothing."""

    async def connect(number: int) -> None:
        at = address("victim")
        source = [HERE, *OTHERS][number % 4]
        stream = await trio.open_tcp_stream(at.host, at.port, local_address=source)
        did["connections"] += 1
        async with stream:
            await stream.receive_some()

    await several(400, connect)


async def half_open_handshakes() -> None:
    """Do the TLS handshake and half of the link's."""

    async def knock(number: int) -> None:
        at = address("victim")
        source = [HERE, *OTHERS][number % 4]
        link = RawLink(await TlsTransport(source).dial(at.host, at.port))
        did["half open"] += 1
        await link.send(VERSIONS)
        await link.closed()

    await several(300, knock)


async def slow_senders() -> None:
    """Send a byte now and then, before and after the handshake."""

    async def dribble(number: int) -> None:
        at = address("victim")
        source = [HERE, *OTHERS][number % 4]
        if number % 2:
            link = await RawLink.dial(TlsTransport(source), at)
            data = create(number)
        else:
            link = RawLink(await TlsTransport(source).dial(at.host, at.port))
            data = VERSIONS
        for byte in data:
            await link.send(bytes((byte,)))
            did["bytes"] += 1
            await trio.sleep(0.02)

    await several(120, dribble)


async def cell_flood() -> None:
    """Send PADDING, and cells for circuits that are not there, as fast as it goes."""
    padding = pack_cell(0, Command.PADDING, b"") * 64
    unknown = pack_cell(7, Command.RELAY, b"") * 64

    async def flood(number: int) -> None:
        link = await RawLink.dial(TlsTransport(HERE), address("victim"))
        for _ in range(500):
            await link.send(unknown if number % 4 == 0 else padding)
            did["cells"] += 64
            await trio.lowlevel.checkpoint()
        link.pipe.close()

    await several(16, flood)


# Circuits.


async def circuit_flood() -> None:
    """Create circuits as fast as it goes, on many links; half of the handshakes are wrong."""
    wrong = bytearray(create(0))
    wrong[600] ^= 1

    async def flood(number: int) -> None:
        link = await RawLink.dial(TlsTransport(HERE), address("victim"))

        async def read() -> None:
            while (cell := await link.cell()) is not None:
                did["circuits" if cell[4] == Command.CREATED else "refused"] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for count in range(2000):
                good = count % 8 == 0
                cell = create(count) if good else int(1 << 31 | count + 1).to_bytes(4, "big")
                await link.send(cell if good else cell + bytes(wrong[4:]))
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    await several(16, flood)


async def create_flood_from_many_addresses() -> None:
    """Create circuits from sixty addresses, as many from each as it is allowed; work for none.

    Most handshakes are wrong: they cost the victim much, and the attacker nothing.
    """
    wrong, burst = create(0)[4:], 10
    answers = {Command.CREATED: "circuits", Command.WORK_ASKED: "asked"}

    async def flood(number: int) -> None:
        transport = TlsTransport(f"127.{130 + number}.0.1")
        link = await RawLink.dial(transport, address("victim"))

        async def read() -> None:
            while (cell := await link.cell()) is not None:
                did[answers.get(Command(cell[4]), "refused")] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for count in range(0, 1 << 20, burst):
                cells = bytearray(create(count) if count % 40 == 0 else b"")
                for other in range(count + 1, count + burst):
                    # Another X each time: no replay cache knows it.
                    cells += (1 << 31 | other + 1).to_bytes(4, "big") + wrong
                    cells[-CELL + 71 : -CELL + 103] = os.urandom(32)
                await link.send(bytes(cells))
                await trio.sleep(burst / 100)
            nursery.cancel_scope.cancel()

    await several(60, flood)


class DeafTransport:
    """A transport whose pipes stop reading when told."""

    def __init__(self) -> None:
        self._inner = TlsTransport(HERE)
        self.deaf = False

    async def dial(self, host: str, port: int) -> Pipe:
        pipe = await self._inner.dial(host, port)
        hear, wait = pipe.try_receive, pipe.wait_readable

        async def wait_readable() -> None:
            if self.deaf:
                await trio.sleep_forever()
            await wait()

        pipe.__dict__["try_receive"] = lambda into: None if self.deaf else hear(into)
        pipe.__dict__["wait_readable"] = wait_readable
        return pipe

    async def listen(self, *_what: object) -> None:
        raise NotImplementedError("an attacker answers nobody")


async def client(nursery: trio.Nursery, transport: DeafTransport | None = None) -> Node:
    """Start an anonymous client that dials from `HERE`."""
    through = transport or TlsTransport(HERE)
    node = Node(NodeConfig(NETWORK, through, limits=CREATES, clock=wall_clock))
    await nursery.start(node.run)
    return node


async def sniper() -> None:
    """Ask for more than any window on many circuits, and read nothing.

    At first these are downloads as others are, and share the relays as such: until windows or the
    victim's memory end it.
    """

    async def snipe(_number: int) -> None:
        async with trio.open_nursery() as nursery:
            transport = DeafTransport()
            node = await client(nursery, transport)
            circuits = [await node.build([hop("victim"), hop("end")]) for _ in range(4)]
            transport.deaf = True
            for circuit in circuits:
                for _ in range(2):
                    stream = await circuit.open_stream("source")
                    await stream.send_all((1 << 40).to_bytes(8, "big"))
                    did["streams"] += 1
            await trio.sleep_forever()

    await several(2, snipe)


async def extend_loops() -> None:
    """Build circuits that go round twice, and send through them; extend back, and to oneself."""

    async def loop(number: int) -> None:
        async with trio.open_nursery() as nursery:
            node = await client(nursery)
            for hops in (["victim", "victim"], ["victim", "end", "victim"]):
                try:
                    await node.build([hop(name) for name in hops])
                except ExtendRefused:
                    did["loops refused"] += 1
            circuits: list[Circuit] = []
            for _ in range(4):
                names = ["victim", "end", "third"] * 2
                circuits.append(await node.build([hop(name) for name in names]))
                did["circuits"] += 1
            for _ in range(40):
                for circuit in circuits:
                    for _ in range(8):
                        circuit.send_padding()
                    did["cells"] += 8
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    await several(4, loop)


async def extend_to_private_addresses() -> None:
    """Extend to what no consensus lists: the machine's own ports, the cloud's, others' networks."""
    async with trio.open_nursery() as outer:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def caught(stream: trio.SocketStream) -> None:
            did["dialed"] += 1
            await stream.aclose()

        outer.start_soon(trio.serve_listeners, caught, listeners)
        targets = [
            Address("127.0.0.1", port),
            Address("10.0.0.1", 22),
            Address("169.254.169.254", 80),
            Address("192.168.1.1", 443),
            Address("::1", port),
        ]
        end = hop("end")
        stranger = Hop(Keys(99).identity, Keys(99).onion_key, end.addresses)

        async def extend(number: int) -> None:
            async with trio.open_nursery() as nursery:
                node = await client(nursery)
                for count in range(100):
                    target = targets[count % len(targets)]
                    there = replace(end, addresses=(target,)) if count % 6 else stranger
                    circuit = await node.build([hop("victim")])
                    try:
                        await circuit.extend(there, 10)
                    except ExtendRefused:
                        did["extends refused"] += 1
                    circuit.close()
                nursery.cancel_scope.cancel()

        await several(4, extend)


# The directory.


async def descriptor_spam() -> None:
    """Publish descriptors of ever new identities, garbage among them."""

    async def publish(number: int) -> None:
        async with trio.open_nursery() as nursery:
            node = await client(nursery)
            circuit = await node.build_direct(hop("victim").identity, hop("victim").addresses or ())
            stream = await circuit.open_stream("dir")
            for count in range(60):
                name = f"s{time.time_ns() % 10**15}"
                spammer = replace(relay(1), name=name, number=200 + number)
                good = spammer.descriptor(wall_clock())
                data = good if count % 2 else os.urandom(8000)
                reply = await ask(stream, PutDescriptor(data))
                did["descriptors"] += 1
                did[reply.status.name.lower()] += 1
            nursery.cancel_scope.cancel()

    await several(8, publish)


class AuthorityKeys:
    """An authority's keys, in the hands of a liar."""

    def __init__(self, node: DirectoryNode) -> None:
        link = Ed25519Key(os.urandom(32))
        now = wall_clock()
        self.identity = node.identity
        self._onion = node.onion_key
        chain = KeyChain(
            node.credentials.certificate,
            issue(node.signing_key, Use.LINK, link.public, now, LINK_LIFETIME),
            issue(node.signing_key, Use.ONION, node.onion_key.public, now, ONION_LIFETIME),
        )
        self._credentials = LinkCredentials(node.identity, chain, link)

    def onion_keys(self) -> list[object]:
        return []

    def credentials(self, now: float) -> LinkCredentials:  # noqa: ARG002 - they never expire
        return self._credentials


async def vote_spam() -> None:
    """Push votes as two authorities that lie, and as nobody: garbage, or as large as may be.

    The large ones are ever new, well signed, and more at a time than are taken; the first two
    count, and are kept.
    """
    network = directory()
    huge = bytes(VOTE_LIMIT - 8)
    hashed = hashlib.sha256(huge)

    async def push(number: int) -> None:
        async with trio.open_nursery() as nursery:
            large = number in {1, 3, 5}
            liar = network.authorities[1 if large else 2]
            keys = AuthorityKeys(liar) if number % 2 else None
            config = NodeConfig(
                NETWORK,
                TlsTransport(HERE),
                keys,  # type: ignore[arg-type]
                limits=CREATES,
                clock=wall_clock,
            )
            node = Node(config)
            await nursery.start(node.run)
            circuit = await node.build_direct(hop("victim").identity, hop("victim").addresses or ())
            stream = await circuit.open_stream("dir")
            for _ in range(20):
                did["huge votes begun" if large else "votes begun"] += 1
                end = os.urandom(8)
                body, digest = os.urandom(4000), hashlib.sha256(end)
                if large:
                    body, digest = huge + end, hashed.copy()
                    digest.update(end)
                this = round_at(network.document, wall_clock())
                chain = Chain(this.valid_after, liar.identity, digest.digest())
                chain = chain.signed(network.document.network_id, liar.credentials)
                reply = await ask(stream, PushVote(chain, body))
                did["huge votes" if large else "votes"] += 1
                did[reply.status.name.lower()] += 1
            nursery.cancel_scope.cancel()

    await several(8, push)


async def huge_documents() -> None:
    """Announce documents of 4 GiB, or send as much as a request may be and then more."""

    async def send(number: int) -> None:
        async with trio.open_nursery() as nursery:
            node = await client(nursery)
            circuit = await node.build_direct(hop("victim").identity, hop("victim").addresses or ())
            for count in range(30):
                stream = await circuit.open_stream("dir")
                length = 0xFFFFFFFF if count % 2 else 16 << 10
                try:
                    await stream.send_all(length.to_bytes(4, "big"))
                    await stream.send_all(os.urandom(1 << 18))
                    await stream.receive_some()
                except RelayError:
                    did["refused"] += 1
                did["documents"] += 1
                stream.reset(ResetReason.FAILED)
            nursery.cancel_scope.cancel()

    await several(4, send)


@cache
def bombs() -> tuple[bytes, ...]:
    """Return what inflates to 256 MiB, and what is just at the limit.

    Of the latter one is a consensus whose signatures do not verify, one holds millions of arrays,
    which would take 75 times as much memory if they were decoded.
    """
    packer = zlib.compressobj(1)
    zeros = bytes(1 << 20)
    bomb = b"".join([*(packer.compress(zeros) for _ in range(256)), packer.flush()])
    arrays = make_head(ARRAY, CONSENSUS_LIMIT - 5) + b"\x80" * (CONSENSUS_LIMIT - 5)
    signatures = [each.sign("none", b"") for each in directory().credentials]
    forged = SignedConsensus(arrays[: CONSENSUS_LIMIT - 4096], tuple(signatures)).encode()
    return bomb, *(zlib.compress(each, 1) for each in (zeros * 64, arrays, forged))


async def compression_bombs() -> None:
    """Serve consensuses that inflate to 256 MiB, and some that are just at the limit."""
    turn = count()

    async def serve(_number: int) -> None:
        async with trio.open_nursery() as nursery:
            node = await client(nursery)
            circuit = await node.build([hop("victim")])
            stream = await circuit.open_stream("fetch")
            await receive_message(stream, 4096)
            chosen = bombs()[next(turn) % len(bombs())]
            reply = Reply(Status.DONE, int(wall_clock()), chosen)
            data = reply.encode()
            await stream.send_all(len(data).to_bytes(4, "big") + data)
            answer = await stream.receive_some()
            did["bombs"] += 1
            did[bytes(answer).split(b":")[0].decode()] += 1
            nursery.cancel_scope.cancel()

    await several(3, serve)


PREPARED: dict[str, Callable[[], object]] = {"compression_bombs": bombs}
"""What an attacker makes before it begins."""
ATTACKS: dict[str, Callable[[], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        connection_flood,
        half_open_handshakes,
        slow_senders,
        cell_flood,
        circuit_flood,
        create_flood_from_many_addresses,
        sniper,
        extend_loops,
        extend_to_private_addresses,
        descriptor_spam,
        vote_spam,
        huge_documents,
        compression_bombs,
    )
}
