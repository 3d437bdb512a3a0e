"""Getting a runtime from workers that hold it (spec/08 §8): resuming, and workers that lie."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.circuits_shell import CircuitBuilder
from fogbank.client.errors import NoPath, RuntimeUnavailable
from fogbank.client.guards_store_shell import GuardStore
from fogbank.client.transfer_shell import WORKERS_MAX, fetch_runtime
from fogbank.directory.runtimes import Runtime
from fogbank.relay.circuits.origin import Hop
from fogbank.relay.extend import Address
from fogbank.relay.messages_shell import receive_message, send_message
from fogbank.relay.transfer.messages import MESSAGE_SIZE, Reply, Status, decode_request
from tests.client import networks
from tests.client.networks import NETWORK_ID, NOW, SeededChooser

MODULE = bytes(range(256)) * 4000
RUNTIME = Runtime("python", hashlib.sha256(MODULE).digest(), len(MODULE))
Behaviour = Callable[[Any, int], Awaitable[None]]
"""What a worker does on a stream when it is asked for the module from an offset on."""


async def honest(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.FOLLOWS, len(MODULE) - offset).encode())
    await stream.send_all(MODULE[offset:])


async def half(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.FOLLOWS, len(MODULE) - offset).encode())
    await stream.send_all(MODULE[offset:][: (len(MODULE) - offset) // 2])


async def half_of_garbage(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.FOLLOWS, len(MODULE) - offset).encode())
    await stream.send_all(bytes((len(MODULE) - offset) // 2))


async def garbage(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.FOLLOWS, len(MODULE) - offset).encode())
    await stream.send_all(bytes(len(MODULE) - offset))


async def busy(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.BUSY).encode())


async def gone(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.NOT_HERE).encode())


async def another_size(stream: Any, offset: int) -> None:
    await send_message(stream, Reply(Status.FOLLOWS, 7).encode())


async def nonsense(stream: Any, offset: int) -> None:
    await stream.send_all(b"\0\0\0\1\xff")


async def nothing(stream: Any, offset: int) -> None:
    return


async def silent(stream: Any, offset: int) -> None:
    await trio.sleep_forever()


async def stalled(stream: Any, offset: int) -> None:
    await half(stream, offset)
    await trio.sleep_forever()


class Circuit:
    """Ends in a worker that behaves as it likes."""

    def __init__(self, nursery: trio.Nursery, behaviour: Behaviour, asked: list[int]) -> None:
        self._nursery = nursery
        self._behaviour = behaviour
        self._asked = asked
        self._scope = trio.CancelScope()

    async def open_stream(self, service: str) -> Any:
        assert service == "runtime"
        near, far = memory_stream_pair()
        self._nursery.start_soon(self._serve, far)
        return near

    async def _serve(self, stream: Any) -> None:
        with self._scope:
            data = await receive_message(stream, MESSAGE_SIZE)
            assert data is not None
            request = decode_request(data)
            assert request.digest == RUNTIME.digest
            self._asked.append(request.offset)
            await self._behaviour(stream, request.offset)
            await stream.aclose()

    def close(self) -> None:
        self._scope.cancel()


class Network:
    """Workers that hold the runtime, and behave in this order of being asked."""

    def __init__(
        self, folder: Path, nursery: trio.Nursery, behaviours: Sequence[Behaviour]
    ) -> None:
        self._nursery = nursery
        self._left = list(behaviours)
        self.asked: list[int] = []
        self.ends: list[bytes] = []
        self.said: list[str] = []
        held = (RUNTIME.digest,)
        workers = [networks.worker(n, runtimes=held) for n in range(len(behaviours))]
        others = [networks.worker(99), *map(networks.relay, range(6))]
        self.topology = networks.topology([*workers, *others])
        store = GuardStore(folder, NETWORK_ID, self.said.append)
        self.builder: CircuitBuilder[Circuit] = CircuitBuilder(
            self, store, SeededChooser(0), self.said.append, clock=lambda: NOW
        )

    async def link(self, identity: bytes, addresses: Sequence[Address]) -> None:
        assert identity
        assert addresses

    async def build(self, hops: Sequence[Hop]) -> Circuit:
        self.ends.append(hops[-1].identity)
        return Circuit(self._nursery, self._left.pop(0), self.asked)

    async def fetch(self) -> bytes:
        with self.builder.circuits() as circuits:
            return await fetch_runtime(circuits, self.topology, RUNTIME, self.said.append)


async def fetched(folder: Path, *behaviours: Behaviour) -> tuple[bytes | str, list[int]]:
    """Fetch from workers that behave so; the module or the error, and the offsets asked for."""
    async with trio.open_nursery() as nursery:
        network = Network(folder, nursery, behaviours)
        result: bytes | str
        try:
            result = await network.fetch()
        except RuntimeUnavailable as error:
            result = str(error)
        nursery.cancel_scope.cancel()
    assert len(set(network.ends)) == len(network.ends), "a worker was asked twice"
    assert networks.identity("worker 99") not in network.ends, "it does not hold the runtime"
    return result, network.asked


async def test_one_worker_gives_all(tmp_path: Path) -> None:
    assert await fetched(tmp_path, honest) == (MODULE, [0])


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (busy, "gives to others now"),
        (gone, "does not have the runtime any more"),
        (another_size, "7 bytes in place of"),
        (nonsense, "CBOR"),
        (nothing, "without an answer"),
        (silent, "did not answer within 30 s"),
        (garbage, "not the runtime that was asked for"),
    ],
)
async def test_a_worker_that_gives_nothing_is_told_and_another_gives_all(
    tmp_path: Path, behaviour: Behaviour, why: str, autojump_clock: MockClock
) -> None:
    assert await fetched(tmp_path / "two", behaviour, honest) == (MODULE, [0, 0])
    alone, _ = await fetched(tmp_path / "one", behaviour)
    assert isinstance(alone, str)
    assert why in alone


@pytest.mark.parametrize("behaviour", [half, stalled])
async def test_the_rest_is_asked_of_another(
    tmp_path: Path, behaviour: Behaviour, autojump_clock: MockClock
) -> None:
    middle = len(MODULE) // 2
    assert await fetched(tmp_path, behaviour, honest) == (MODULE, [0, middle])


async def test_who_spoils_a_part_cannot_spoil_the_whole(tmp_path: Path) -> None:
    middle = len(MODULE) // 2
    result = await fetched(tmp_path, half_of_garbage, honest, half_of_garbage, half, honest)
    assert result == (MODULE, [0, middle, 0, 0, 0])


async def test_so_many_workers_are_asked_and_no_more(tmp_path: Path) -> None:
    result, asked = await fetched(tmp_path, *[busy] * (WORKERS_MAX + 1))
    assert isinstance(result, str)
    assert len(asked) == WORKERS_MAX


async def test_where_no_worker_holds_it_nobody_is_asked(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(tmp_path, nursery, ())
        with pytest.raises(NoPath, match="holds the runtime"):
            await network.fetch()
    assert network.ends == []
