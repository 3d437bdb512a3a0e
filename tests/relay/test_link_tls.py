"""Links over real TLS on loopback (spec/02 §1, §4)."""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from fogbank.relay.circuits.origin import Hop
from fogbank.relay.errors import LinkFailed
from fogbank.relay.extend import Address
from fogbank.relay.link.pipe import Pipe, PipeBroken
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.messages_shell import receive_exactly
from fogbank.relay.node_shell import Node, NodeConfig
from tests.relay.onion import NETWORK, NOW, Keys, KnownNodes, RawLink, echo, talk


async def listen(nursery: trio.Nursery, host: str, accepted: Callable[[Pipe], None]) -> Address:
    """Listen with TLS; hand each pipe over as soon as it is finished."""

    async def finish_one(finish: Callable[[], Awaitable[Pipe]]) -> None:
        try:
            accepted(await finish())
        except PipeBroken:
            return

    def accept(finish: Callable[[], Awaitable[Pipe]], _source: str) -> bool:
        nursery.start_soon(finish_one, finish)
        return True

    async def run(*, task_status: trio.TaskStatus[int]) -> None:
        await TlsTransport(host).listen(host, 0, accept, task_status.started)

    return Address(host, await nursery.start(run))


@asynccontextmanager
async def pipe_pair() -> AsyncIterator[tuple[Pipe, Pipe]]:
    """Connect two pipes by TLS."""
    send, receive = trio.open_memory_channel[Pipe](1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            address = await listen(nursery, "127.1.0.1", send.send_nowait)
            dialer = await TlsTransport("127.2.0.1").dial(address.host, address.port)
            responder = await receive.receive()
            yield dialer, responder
            dialer.close()
            responder.close()
            nursery.cancel_scope.cancel()


def node(number: int, keys: Keys | None, known: KnownNodes | None = None) -> Node:
    transport = TlsTransport(f"127.{number}.0.1")
    services = {"echo": echo} if keys is not None else {}
    return Node(NodeConfig(NETWORK, transport, keys, known, services, clock=lambda: NOW))


@asynccontextmanager
async def relays(count: int) -> AsyncIterator[tuple[trio.Nursery, list[Node], list[Hop]]]:
    """Start relays that know each other."""
    known = KnownNodes()
    nodes, hops = [], []
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(1, count + 1):
                keys = Keys(number)
                nodes.append(node(number, keys, known))
                at = await nursery.start(nodes[-1].run, [Address(f"127.{number}.0.1", 0)])
                known.addresses[keys.identity] = at
                hops.append(Hop(keys.identity, keys.onion_key, at))
            yield nursery, nodes, hops
            nursery.cancel_scope.cancel()


async def test_both_ends_have_the_same_binding_and_no_two_pipes_do() -> None:
    bindings = []
    for _ in range(2):
        async with pipe_pair() as (dialer, responder):
            assert dialer.binding == responder.binding
            assert dialer.peer_host == "127.1.0.1"
            assert responder.peer_host == "127.2.0.1"
            bindings.append(dialer.binding)
    assert bindings[0] != bindings[1]


async def test_bytes_cross_though_the_socket_is_full_at_times() -> None:
    data = random.Random(1).randbytes(8 << 20)
    got = hashlib.sha256()

    async def send(pipe: Pipe) -> None:
        view = memoryview(data)
        blocked = 0
        while view:
            # After None the same bytes are offered again, and maybe more.
            count = pipe.try_send(view[: (1 << 16) + blocked])
            if count is None:
                blocked += 1
                await pipe.wait_writable()
            else:
                view = view[count:]
        assert blocked

    async with pipe_pair() as (dialer, responder), trio.open_nursery() as nursery:
        nursery.start_soon(send, dialer)
        buffer = memoryview(bytearray(1 << 18))
        left = len(data)
        while left:
            count = responder.try_receive(buffer)
            if count is None:
                await responder.wait_readable()
            else:
                got.update(buffer[:count])
                left -= count
    assert got.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("room", [1000, 1 << 14, 1 << 20])
async def test_all_that_came_is_there_in_any_portions(room: int) -> None:
    """Whoever is told that nothing is there may wait: no byte stays behind, whatever the buffer."""
    data = random.Random(3).randbytes(3 << 18)
    async with pipe_pair() as (dialer, responder):
        got = bytearray()
        buffer = memoryview(bytearray(room))
        sent = 0
        while len(got) < len(data):
            if sent < len(data):
                sent += dialer.try_send(memoryview(data)[sent : sent + (1 << 17)]) or 0
            while (count := responder.try_receive(buffer)) is not None:
                assert 0 < count <= room
                got += buffer[:count]
            if len(got) < sent:
                await responder.wait_readable()
        assert got == data
        # A flood that is read in small pieces is not taken in ahead of its reader.
        while dialer.try_send(memoryview(bytes(1 << 17))) is not None:
            pass
        small = memoryview(bytearray(100))
        for _ in range(50):
            if responder.try_receive(small) is None:
                await responder.wait_readable()
        assert responder._incoming.pending <= 1 << 18  # type: ignore[attr-defined]


async def test_an_end_without_goodbye_is_an_end() -> None:
    async with pipe_pair() as (dialer, responder):
        dialer.try_send(memoryview(b"last words"))
        dialer.close()
        await responder.wait_readable()
        buffer = memoryview(bytearray(100))
        assert responder.try_receive(buffer) == len(b"last words")
        await responder.wait_readable()
        assert responder.try_receive(buffer) == 0

        async def send_on() -> None:
            for _ in range(100):
                responder.try_send(memoryview(bytes(1 << 16)))
                await trio.lowlevel.checkpoint()

        with pytest.raises(PipeBroken):
            await send_on()


async def test_a_peer_that_vanished_is_asked_for() -> None:
    """Else a link with idle circuits to a machine without power would stand for ever."""
    async with pipe_pair() as pair:
        for pipe in pair:
            sock = pipe._sock  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            unanswered = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
            assert idle + unanswered <= 90


async def test_closing_wakes_whoever_waits() -> None:
    async with pipe_pair() as (dialer, _):

        async def wait() -> None:
            with pytest.raises(PipeBroken):
                await dialer.wait_readable()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            dialer.close()
            dialer.close()
        with pytest.raises(PipeBroken):
            dialer.try_receive(memoryview(bytearray(10)))
        with pytest.raises(PipeBroken):
            dialer.try_send(memoryview(b"x"))


async def test_records_that_were_altered_break_the_pipe() -> None:
    async with pipe_pair() as (dialer, responder):
        raw = socket.socket(fileno=dialer._sock.detach())  # type: ignore[attr-defined]
        with raw:
            raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            await responder.wait_readable()
            with pytest.raises(PipeBroken):
                responder.try_receive(memoryview(bytearray(100)))


async def test_only_tls_1_3_without_tickets() -> None:
    async with relays(1) as (_, _, hops):
        at = (hops[0].addresses or ())[0]
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        def connect() -> ssl.SSLSocket:
            sock = socket.create_connection((at.host, at.port), timeout=5)
            try:
                return context.wrap_socket(sock)
            except OSError:
                sock.close()
                raise

        with await trio.to_thread.run_sync(connect) as sock:
            assert sock.version() == "TLSv1.3"
            assert sock.session is None or not sock.session.has_ticket
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match=r"(?i)protocol|version|alert"):
            await trio.to_thread.run_sync(connect)


async def test_nodes_know_each_other_and_clients_stay_anonymous() -> None:
    async with relays(2) as (nursery, (one, two), hops):
        link = await one.link(hops[1].identity, hops[1].addresses or ())
        assert link.peer == hops[1].identity
        assert link.onion_key == hops[1].onion_key
        assert link.peer_host == "127.2.0.1"
        client = node(9, None)
        await nursery.start(client.run)
        await client.link(hops[1].identity, hops[1].addresses or ())
        peers = [each.peer for each in two.links._by_queue.values()]
        assert sorted(map(str, peers)) == sorted(map(str, [hops[0].identity, None]))
        assert two.peers == {hops[0].identity}


async def test_another_identity_than_the_expected_one_is_refused() -> None:
    async with relays(2) as (nursery, _, hops):
        client = node(9, None)
        await nursery.start(client.run)
        with pytest.raises(LinkFailed, match="was expected"):
            await client.link(hops[0].identity, hops[1].addresses or ())
        # Where one address is wrong the next one is tried.
        both = [*(hops[1].addresses or ()), *(hops[0].addresses or ())]
        assert (await client.link(hops[0].identity, both)).peer == hops[0].identity


async def pump(source: Pipe, sink: Pipe) -> None:
    buffer = memoryview(bytearray(1 << 16))
    link = RawLink(sink)
    try:
        while (count := source.try_receive(buffer)) != 0:
            if count is None:
                await source.wait_readable()
            else:
                await link.send(bytes(buffer[:count]))
    except PipeBroken:
        pass
    finally:
        sink.close()


@pytest.mark.parametrize("keys", [None, Keys(8)], ids=["client", "node"])
async def test_a_man_in_the_middle_is_found_out(keys: Keys | None) -> None:
    async with relays(1) as (nursery, (relay,), hops):
        target = (hops[0].addresses or ())[0]
        relayed: list[Pipe] = []

        async def relay_plaintext(inner: Pipe) -> None:
            outer = await TlsTransport("127.5.0.1").dial(target.host, target.port)
            relayed.append(outer)
            try:
                async with trio.open_nursery() as both:
                    both.start_soon(pump, inner, outer)
                    both.start_soon(pump, outer, inner)
            finally:
                inner.close()
                outer.close()

        middle = await listen(
            nursery, "127.5.0.1", lambda pipe: nursery.start_soon(relay_plaintext, pipe)
        )
        dialer = node(9, keys)
        await nursery.start(dialer.run)
        # A node's own proof comes first, and the relay hangs up.
        found = "signature" if keys is None else "closed the link during its handshake"
        with pytest.raises(LinkFailed, match=found):
            await dialer.link(hops[0].identity, [middle])
        assert relayed
        assert relay.peers == set()
        assert dialer.peers == set()


async def test_what_cannot_be_reached_or_listened_at_is_said_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.1.0.1", 0))
        port = taken.getsockname()[1]
        client = node(9, None)
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            with pytest.raises(LinkFailed, match=r"cannot connect to 127\.1\.0\.1"):
                await client.link(Keys(1).identity, [Address("127.1.0.1", port)])
            nursery.cancel_scope.cancel()
        taken.listen()
        with pytest.raises(LinkFailed, match="is the address this machine's"):
            await node(1, Keys(1)).run([Address("127.1.0.1", port)])
        with pytest.raises(LinkFailed, match="is the address this machine's"):
            await node(1, Keys(1)).run([Address("192.0.2.1", 9001)])


async def test_a_large_transfer_over_three_relays() -> None:
    data = random.Random(2).randbytes(6 << 20)
    async with relays(3) as (nursery, nodes, hops):
        client = node(9, None)
        await nursery.start(client.run)
        circuit = await client.build(hops)
        stream = await circuit.open_stream("echo")

        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            got = await receive_exactly(stream, len(data))
        assert got == data
        assert await stream.receive_some() == b""
        await talk(await circuit.open_stream("echo"))
        assert [len(each.links) for each in nodes] == [2, 2, 1]
