"""What waits on a link: order, turns, bounds (spec/02 §6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fogbank.relay.cells import CELL
from fogbank.relay.link.outqueue import HIGH, LOW, Budget, Lane, OutQueue, Slabs

CONTROL = 0


@dataclass
class Owner:
    """A circuit that remembers how it ended."""

    failed: list[int] = field(default_factory=list)

    def fail(self, reason: int) -> None:
        self.failed.append(reason)


def cell(who: int, number: int) -> bytes:
    return struct.pack(">II", who, number).ljust(CELL, bytes((who,)))


def numbers(sent: bytes, who: int) -> list[int]:
    found = []
    for at in range(0, len(sent) - CELL + 1, CELL):
        name, number = struct.unpack_from(">II", sent, at)
        assert sent[at : at + CELL] == cell(name, number)
        if name == who:
            found.append(number)
    return found


class Bench:
    """A queue, and lanes 1, 2, … that commit numbered cells."""

    def __init__(
        self,
        lanes: int,
        limit: int = 1 << 30,
        lane_limit: int = 1 << 30,
        budget: Budget | None = None,
        slabs: Slabs | None = None,
    ) -> None:
        self.budget = budget or Budget(limit, lane_limit)
        self.dirty: list[OutQueue] = []
        self.queue = OutQueue(self.budget, slabs or Slabs(1 << 30), self.dirty)
        self.owners = [Owner() for _ in range(lanes + 1)]
        self.lanes = [Lane(owner) for owner in self.owners]
        self.made = [0] * (lanes + 1)
        self.sent = bytearray()

    def commit(self, who: int, count: int = 1) -> None:
        for _ in range(count):
            at = self.queue.slot()
            self.queue.view[at : at + CELL] = cell(who, self.made[who])
            self.queue.commit(self.lanes[who])
            self.made[who] += 1

    def put(self) -> None:
        self.queue.put(cell(CONTROL, self.made[CONTROL]))
        self.made[CONTROL] += 1

    def send(self, count: int) -> int:
        """Send at most `count` bytes; return how many went."""
        chunk = self.queue.peek()[:count]
        self.sent += chunk
        self.queue.consumed(len(chunk))
        return len(chunk)

    def drain(self) -> None:
        while self.send(1 << 30):
            pass

    def order(self) -> list[int]:
        return [struct.unpack_from(">I", self.sent, at)[0] for at in range(0, len(self.sent), CELL)]


def test_cells_leave_in_order_over_many_slabs() -> None:
    bench = Bench(1)
    bench.commit(1, 1000)
    bench.drain()
    assert numbers(bytes(bench.sent), 1) == list(range(1000))
    assert bench.queue.queued == 0
    assert bench.budget.waiting == 0


def test_what_was_offered_is_offered_again_until_it_is_consumed() -> None:
    bench = Bench(1)
    bench.commit(1, 3)
    offered = bytes(bench.queue.peek())
    for _ in range(200):
        bench.commit(1)
        again = bytes(bench.queue.peek())
        assert again.startswith(offered)
        offered = again
    bench.send(CELL + 7)
    assert bytes(bench.queue.peek()).startswith(offered[CELL + 7 :])


def test_a_congested_link_serves_circuits_in_turn() -> None:
    bench = Bench(3)
    bench.commit(1, HIGH // CELL)
    bench.commit(1, 900)
    bench.commit(2, 90)
    bench.commit(3, 90)
    bench.drain()
    behind = bench.order()[HIGH // CELL :]
    first = behind[:240]
    assert [first.count(who) for who in (1, 2, 3)] == [80, 80, 80]
    for who in (1, 2, 3):
        assert numbers(bytes(bench.sent), who) == list(range(bench.made[who]))


def test_a_links_own_cells_overtake_what_waits_in_lanes() -> None:
    bench = Bench(1)
    bench.commit(1, HIGH // CELL + 500)
    bench.put()
    bench.drain()
    assert bench.order().index(CONTROL) == HIGH // CELL


def test_local_senders_take_turns_with_each_other_and_with_lanes() -> None:
    bench = Bench(4)
    bench.commit(4, HIGH // CELL)

    def sender(who: int) -> Callable[[], None]:
        def send() -> None:
            while bench.queue.has_room(bench.lanes[who]):
                bench.commit(who)
            bench.queue.when_room(send)

        return send

    for who in (1, 2):
        bench.queue.when_room(sender(who))
    bench.commit(3, 2000)
    while len(bench.sent) < 2000 * CELL:
        bench.send(16 * CELL)
        bench.commit(3, 20)
    counts = [bench.order().count(who) for who in (1, 2, 3)]
    assert min(counts) > 300
    assert abs(counts[0] - counts[1]) <= 2 * HIGH // CELL


def test_room_is_announced_once_and_only_after_the_link_drained() -> None:
    bench = Bench(1)
    calls: list[int] = []
    bench.commit(1, HIGH // CELL)
    assert not bench.queue.has_room(bench.lanes[1])
    bench.queue.when_room(lambda: calls.append(bench.queue.queued))
    bench.send(HIGH - LOW)
    assert not calls
    bench.send(1)
    assert calls == [LOW - 1]
    bench.drain()
    assert len(calls) == 1


def test_a_circuit_that_hoards_is_doomed() -> None:
    bench = Bench(2, lane_limit=10 * CELL)
    bench.commit(1, HIGH // CELL)
    bench.commit(1, 10)
    bench.commit(2, 10)
    assert bench.budget.doomed == []
    bench.commit(2)
    assert bench.budget.doomed == [bench.owners[2]]


def test_a_full_process_dooms_its_largest_circuit() -> None:
    bench = Bench(3, limit=100 * CELL)
    other = Bench(1, budget=bench.budget)
    bench.commit(1, HIGH // CELL)
    other.commit(1, HIGH // CELL)
    bench.commit(1, 30)
    other.commit(1, 50)
    bench.commit(2, 20)
    assert bench.budget.doomed == []
    bench.commit(3)
    assert bench.budget.doomed == [other.owners[1]]
    # One is enough: whoever acts on it frees its share before another is named.
    bench.commit(3)
    assert len(bench.budget.doomed) == 1


def test_what_waits_for_readers_counts_too() -> None:
    bench = Bench(2, limit=100 * CELL)
    bench.queue.hold(bench.lanes[1], 64)
    bench.queue.hold(bench.lanes[2], 30)
    assert (bench.budget.waiting, bench.budget.doomed) == (94, [])
    bench.queue.hold(bench.lanes[2], 30)
    assert bench.budget.doomed == [bench.owners[1]]
    bench.queue.drop(bench.lanes[1])
    bench.queue.hold(bench.lanes[2], -60)
    assert bench.budget.waiting == 0


def test_what_a_dead_circuit_left_is_forgotten() -> None:
    bench = Bench(2)
    bench.commit(1, HIGH // CELL + 50)
    bench.commit(2, 5)
    bench.queue.drop(bench.lanes[1])
    assert bench.budget.waiting == 5
    bench.drain()
    assert numbers(bytes(bench.sent), 1) == list(range(HIGH // CELL))
    assert numbers(bytes(bench.sent), 2) == list(range(5))


def test_a_closed_queue_holds_nothing_and_calls_nobody() -> None:
    bench = Bench(1)
    bench.commit(1, HIGH // CELL + 50)
    bench.queue.when_room(bench.put)
    bench.queue.close()
    bench.drain()
    assert bench.budget.waiting == 0
    assert bench.made[CONTROL] == 0


def test_a_queue_asks_to_be_flushed_once_until_it_was_looked_at() -> None:
    bench = Bench(1)
    bench.commit(1, 5)
    bench.put()
    assert bench.dirty == [bench.queue]
    bench.queue.peek()
    bench.put()
    assert bench.dirty == [bench.queue, bench.queue]


class QueueMachine(RuleBasedStateMachine):
    """Any mix of commits, puts, sends and drops."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(3)
        self.offered = b""
        self.dropped = [0, 0, 0, 0]

    @rule(who=st.integers(1, 3), count=st.integers(1, 150))
    def commit(self, who: int, count: int) -> None:
        if not self.dropped[who]:
            self.bench.commit(who, count)

    @rule()
    def put(self) -> None:
        self.bench.put()

    @rule(count=st.integers(1, 3 * HIGH))
    def send(self, count: int) -> None:
        sent = self.bench.send(count)
        self.offered = self.offered[sent:]

    @rule(who=st.integers(1, 3))
    def drop(self, who: int) -> None:
        self.dropped[who] = 1
        self.bench.queue.drop(self.bench.lanes[who])

    @invariant()
    def offers_the_same_again(self) -> None:
        chunk = bytes(self.bench.queue.peek())
        assert chunk.startswith(self.offered[: len(chunk)])
        self.offered = chunk

    @invariant()
    def counts_what_waits(self) -> None:
        bench = self.bench
        in_lanes = sum(len(lane.cells) for lane in bench.lanes)
        assert bench.budget.waiting == in_lanes
        if not any(self.dropped):
            assert len(bench.sent) + bench.queue.queued + in_lanes * CELL == sum(bench.made) * CELL

    def teardown(self) -> None:
        bench = self.bench
        bench.drain()
        assert bench.queue.queued == 0
        assert bench.budget.waiting == 0
        sent = bytes(bench.sent)
        for who in range(4):
            found = numbers(sent, who)
            assert found == list(range(len(found)))
            assert self.dropped[who] or len(found) == bench.made[who]


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, derandomize=True
)
