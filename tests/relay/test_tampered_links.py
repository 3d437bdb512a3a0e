"""Someone between two nodes who alters, drops, repeats or swaps cells (spec/03 §6).

The links here are bare memory, as if TLS were broken: what is tested is that the circuits' layers
do not depend on it. Only the circuit whose cells were touched dies.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from fogbank.relay.cells import BODY, CELL, LAYER, Command, unpack_header
from fogbank.relay.errors import CircuitDestroyed
from fogbank.relay.link.memory_shell import MemoryPipe
from tests.relay.onion import onion_network, talk, until_error

HOPS = 3
USED = CELL - (HOPS - 1) * LAYER
"""Bytes of a cell that every hop of the circuit authenticates, header included."""

Fault = Callable[[list[bytes]], list[bytes]]


def altered(at: int) -> Fault:
    def alter(cells: list[bytes]) -> list[bytes]:
        first = bytearray(cells[0])
        first[at] ^= 1
        return [bytes(first), *cells[1:]]

    return alter


FAULTS: dict[str, Fault] = {
    "first byte altered": altered(CELL - BODY),
    "middle altered": altered(CELL // 2),
    "tag altered": altered(USED - 1),
    "dropped": lambda cells: cells[1:],
    "repeated": lambda cells: [cells[0], *cells],
    "swapped": lambda cells: [cells[1], cells[0], *cells[2:]],
    "replaced": lambda cells: [cells[1], *cells[1:]],
}


class Meddler:
    """Stands before a pipe's end; once `fault` is set, holds two RELAY cells and applies it."""

    def __init__(self, pipe: MemoryPipe) -> None:
        self.fault: Fault | None = None
        self.meddled = False
        self._pipe = pipe
        self._bytes = bytearray()
        self._held: list[bytes] = []
        pipe.deliver = self._deliver  # type: ignore[method-assign]

    def _deliver(self, data: memoryview) -> int:
        self._bytes += data
        whole = len(self._bytes) - len(self._bytes) % CELL
        for at in range(0, whole, CELL):
            self._cell(bytes(self._bytes[at : at + CELL]))
        del self._bytes[:whole]
        return len(data)

    def _cell(self, cell: bytes) -> None:
        if self.fault is None or unpack_header(cell)[1] != Command.RELAY:
            self._pass(cell)
            return
        self._held.append(cell)
        if len(self._held) == 2:
            for each in self.fault(self._held):
                self._pass(each)
            self.fault = None
            self.meddled = True

    def _pass(self, cell: bytes) -> None:
        self._pipe._inbox += cell
        self._pipe.changed()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("link", range(HOPS))
async def test_a_touched_circuit_dies_alone(
    autojump_clock: MockClock, link: int, backward: bool, fault: str
) -> None:
    async with onion_network(HOPS) as network:
        victim = await network.client.build(network.hops)
        bystander = await network.client.build(network.hops)
        stream = await victim.open_stream("echo")
        other = await bystander.open_stream("echo")
        await talk(stream)
        await talk(other)
        dialer, responder = network.memory.pipes[link]
        meddler = Meddler(dialer if backward else responder)
        meddler.fault = FAULTS[fault]

        async def send() -> None:
            with suppress(CircuitDestroyed):
                for _ in range(4):
                    await stream.send_all(b"next")
                    await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with pytest.raises(CircuitDestroyed, match="did not arrive as it was sent"):
                await until_error(stream)
        assert meddler.meddled
        await talk(other)
        assert bystander.alive
        await network.settle()
        bystander.close()
        await network.settle()
        network.assert_nothing_left()
