"""Too many handshakes, links, circuits or bytes: who gives way (spec/02 §6)."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fogbank.relay.cells import CELL, Command, DestroyReason, pack_cell
from fogbank.relay.errors import LinkFailed
from fogbank.relay.limits import Limits
from fogbank.relay.link.crowd import Crowd
from fogbank.relay.link.memory_shell import CAPACITY, MemoryTransport
from fogbank.relay.link.outqueue import SLAB, Budget, Lane, OutQueue, Slabs
from fogbank.relay.link.pipe import PipeBroken
from tests.relay.onion import OnionNetwork, RawLink, onion_network, talk
from tests.relay.test_outqueue import Owner, cell
from tests.relay.test_work import create


def crowd(members: str) -> Crowd[str]:
    """Return a crowd of members like "a1 a2 b1", whose address is their letter."""
    made: Crowd[str] = Crowd()
    for member in members.split():
        made.enter(member, member[0])
    return made


@pytest.mark.parametrize(
    ("members", "newcomer", "leaves"),
    [
        ("a1 b1 b2 c1", "d", "b1"),
        ("a1 b1 b2 c1 c2", "d", "b1"),
        ("a1 b1 b2 c1 c2", "c", "c1"),
        ("a1 b1 c1", "d", "a1"),
        ("a1 b1 c1", "c", "c1"),
        ("", "a", None),
    ],
)
def test_the_oldest_of_the_address_with_most_leaves(
    members: str, newcomer: str, leaves: str | None
) -> None:
    assert crowd(members).oldest(newcomer) == leaves


@pytest.mark.parametrize(
    ("members", "unused", "newcomer", "leaves"),
    [
        ("a1 b1 b2 b3", "b2 b3", "c", "b2"),
        ("a1 b1 b2 b3", "a1", "c", "a1"),
        ("a1 b1 b2 b3", "", "c", "b3"),
        ("a1 b1 b2 b3", "", "b", None),
        ("a1 a2 b1 b2 b3", "", "a", None),
        ("a1 b1 c1", "", "d", None),
        ("", "", "d", None),
    ],
)
def test_an_unused_link_is_spared_first_then_the_newest_where_most_are(
    members: str, unused: str, newcomer: str, leaves: str | None
) -> None:
    assert crowd(members).spare(newcomer, lambda member: member in unused.split()) == leaves


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_a_crowd_counts_right(steps: list[tuple[str, bool]]) -> None:
    made: Crowd[int] = Crowd()
    inside: dict[int, str] = {}
    for number, (group, leave) in enumerate(steps):
        if leave and inside:
            gone = made.oldest(group)
            assert gone in inside
            sizes = [list(inside.values()).count(each) for each in inside.values()]
            assert list(inside.values()).count(inside[gone]) == max(sizes)
            made.leave(gone)
            made.leave(gone)
            del inside[gone]
        else:
            made.enter(number, group)
            inside[number] = group
        assert len(made) == len(inside)


# Running relays.


def host(address: int, number: int = 0) -> str:
    return f"127.{100 + address}.0.{number + 1}"


async def stranger(network: OnionNetwork, source: str) -> RawLink:
    """Connect to the first relay, and say nothing."""
    addresses = network.hops[0].addresses
    assert addresses
    transport = MemoryTransport(network.memory, source)
    return RawLink(await transport.dial(addresses[0].host, addresses[0].port))


async def guest(network: OnionNetwork, source: str) -> RawLink:
    """Open a link to the first relay."""
    addresses = network.hops[0].addresses
    assert addresses
    return await RawLink.dial(MemoryTransport(network.memory, source), addresses[0])


def is_open(link: RawLink) -> bool:
    """Take all that came; tell whether more may come."""
    count: int | None = 1
    try:
        while count:
            count = link.pipe.try_receive(memoryview(bytearray(CELL)))
    except PipeBroken:
        return False
    return count is None


async def test_the_oldest_half_open_handshakes_make_way(autojump_clock: MockClock) -> None:
    async with onion_network(1, limits=Limits(half_open=12)) as network:
        silent = [await stranger(network, host(1)) for _ in range(9)]
        others = [await stranger(network, host(2 + number)) for number in range(3)]
        await network.settle()
        # Honest newcomers come through, at the cost of the address that has most.
        for number in range(6):
            link = await guest(network, host(20 + number))
            assert is_open(link)
        await network.settle()
        assert [is_open(link) for link in others] == [True] * 3
        # Those whose place was free again cost nobody anything.
        assert [is_open(link) for link in silent] == [False] + [True] * 8
        more = [await stranger(network, host(30 + number)) for number in range(6)]
        await network.settle()
        assert [is_open(link) for link in silent] == [False] * 6 + [True] * 3
        assert all(is_open(link) for link in others + more)
        assert network.nodes[0].links._half_open == 12
        await trio.sleep(11)
        assert network.nodes[0].links._half_open == 0


async def test_who_knocks_most_loses_its_own(autojump_clock: MockClock) -> None:
    async with onion_network(1, limits=Limits(half_open=4)) as network:
        (one,) = [await stranger(network, host(1))]
        knocks = [await stranger(network, host(2)) for _ in range(20)]
        await network.settle()
        assert is_open(one)
        assert [is_open(link) for link in knocks] == [False] * 17 + [True] * 3


async def test_when_links_are_all_taken_the_least_missed_makes_way(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(1, limits=Limits(links=6)) as network:
        (hop,) = network.hops
        circuit = await network.client.build([hop])
        stream = await circuit.open_stream("echo")
        guests = [await guest(network, host(1)) for _ in range(5)]
        for number, link in enumerate(guests[1:]):
            await link.send(create(hop, number + 1))
        await network.settle()
        assert len(network.nodes[0].links) == 6
        first = await guest(network, host(2))
        await first.send(create(hop, 1))
        await network.settle()
        assert [is_open(link) for link in guests] == [False] + [True] * 4
        # None is unused now: the address with most loses its newest.
        await (await guest(network, host(3))).send(create(hop, 1))
        await network.settle()
        assert [is_open(link) for link in guests] == [False] + [True] * 3 + [False]
        # And who has most itself gets none.
        late = await guest(network, host(1))
        await network.settle()
        assert not is_open(late)
        assert len(network.nodes[0].links) == 6
        await talk(stream)


async def test_a_node_full_of_its_own_links_dials_no_more(autojump_clock: MockClock) -> None:
    async with onion_network(3, limits=Limits(links=2)) as network:
        for hop in network.hops[:2]:
            await network.client.build([hop])
        with pytest.raises(LinkFailed, match="as many links as it may have"):
            await network.client.build(network.hops[2:])
        assert len(network.client.links) == 2


async def test_when_circuits_are_all_taken_the_link_with_most_pays(
    autojump_clock: MockClock,
) -> None:
    async with onion_network(1, limits=Limits(circuits=10)) as network:
        (hop,) = network.hops
        circuit = await network.client.build([hop])
        greedy = await guest(network, host(1))
        for number in range(12):
            await greedy.send(create(hop, number + 1))
        await network.settle()
        answers = [await greedy.cell() for _ in range(12)]
        commands = [answer[4] for answer in answers if answer]
        assert commands == [Command.CREATED] * 9 + [Command.DESTROY] * 3
        assert network.nodes[0]._switch._circuits == 10
        modest = await guest(network, host(2))
        for number in range(3):
            await modest.send(create(hop, number + 1))
            answer = await modest.cell()
            assert answer
            assert answer[4] == Command.CREATED
            # The newest one goes.
            end = await greedy.cell()
            assert end
            assert end[:6] == pack_destroyed(9 - number)
        assert network.nodes[0]._switch._circuits == 10
        await talk(await circuit.open_stream("echo"))
        for link in (greedy, modest):
            link.pipe.close()
        circuit.close()
        await network.settle()
        assert network.nodes[0]._switch._circuits == 0


def pack_destroyed(number: int) -> bytes:
    return pack_cell(1 << 31 | number, Command.DESTROY, b"")[:5] + bytes((DestroyReason.RESOURCES,))


async def test_when_links_hold_too_much_the_largest_is_closed(autojump_clock: MockClock) -> None:
    limits = Limits(link_memory=8 * SLAB, unread_answers=1 << 40, creates_burst=4000)
    async with onion_network(1, limits=limits) as network:
        (hop,) = network.hops
        stream = await (await network.client.build([hop])).open_stream("echo")
        small, large = [await guest(network, host(1)), await guest(network, host(2))]
        bad = pack_cell(1 << 31 | 1, Command.CREATE, b"x")
        for link, bytes_more in ((small, SLAB), (large, 12 * SLAB)):
            for _ in range((CAPACITY + bytes_more) // CELL // 64):
                await link.send(bad * 64)
                await network.settle()
        # Neither reads: what the pipe does not take waits here.
        assert is_open(small)
        await large.closed()
        await network.settle()
        assert len(network.nodes[0].links) == 2
        assert network.nodes[0]._switch._slabs.count <= 8
        await talk(stream)


# Buffers.


class Bench:
    """Some links' queues, which share slabs."""

    def __init__(self, links: int, slabs: int) -> None:
        self.slabs = Slabs(slabs * SLAB)
        self.dirty: list[OutQueue] = []
        budget = Budget(1 << 30, 1 << 30)
        self.queues = [OutQueue(budget, self.slabs, self.dirty) for _ in range(links)]

    def fill(self, number: int, cells: int) -> None:
        for count in range(cells):
            self.queues[number].put(cell(number, count))

    def drain(self, number: int) -> None:
        while data := self.queues[number].peek():
            self.queues[number].consumed(len(data))


def test_idle_links_need_no_buffer() -> None:
    bench = Bench(100, 4)
    assert bench.slabs.count == 0
    for number in range(100):
        bench.fill(number, 3)
        bench.drain(number)
        assert bench.slabs.count <= 4
    assert not any(queue.doomed for queue in bench.queues)


def test_the_fullest_link_is_doomed_and_gives_all_back() -> None:
    bench = Bench(3, 6)
    bench.fill(0, 10)
    bench.fill(1, 3 * 64)
    bench.fill(2, 2 * 64)
    assert [queue.doomed for queue in bench.queues] == [False] * 3
    bench.fill(2, 1)
    assert [queue.doomed for queue in bench.queues] == [False, True, False]
    assert bench.queues[1] in bench.dirty
    bench.queues[1].close()
    assert bench.slabs.count == 4
    # What is written to a link that is gone counts nowhere.
    bench.fill(1, 200)
    bench.queues[1].commit(Lane(Owner()))
    assert bench.slabs.count == 4
    for number in (0, 2):
        bench.drain(number)
        bench.queues[number].close()
    assert bench.slabs.count == 0
