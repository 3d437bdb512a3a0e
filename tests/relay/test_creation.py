"""Work for handshakes, and which CREATE is answered next (spec/03 §2.5)."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fogbank.relay.circuits.creation import CreationQueue
from fogbank.relay.errors import ProtocolError
from fogbank.relay.limits import Limits
from fogbank.relay.work import (
    DEMAND_LENGTH,
    EFFORT_LEAST,
    EFFORT_MOST,
    SEED_SECONDS,
    Demand,
    WorkBook,
    effort_of,
    pack_work,
    search,
    unpack_work,
    work_digest,
)

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"
WORKS = json.loads((VECTORS / "03-work.json").read_text())["works"]
MESSAGE = b"m" * 1330
LIMITS = Limits(creation_least_cost=0.003, creations_waiting=100, creation_patience=2.0)
"""A hop that answers 100 CREATEs a second, and asks for work once 50 wait."""


# Work.


@pytest.mark.parametrize("vector", WORKS, ids=lambda each: each["name"])
def test_work_is_as_the_vectors_have_it(vector: dict[str, Any]) -> None:
    seed, message = bytes.fromhex(vector["seed"]), bytes.fromhex(vector["m1"])
    demand = Demand(vector["asked"], seed)
    assert demand.encode().hex() == vector["work_asked"]
    assert Demand.decode(demand.encode()) == demand
    assert search(demand, message, 0, 20_000) == vector["nonce"]
    assert effort_of(work_digest(vector["nonce"], seed, message)) == vector["effort"]
    assert pack_work(vector["nonce"], message).hex() == vector["create_work"]
    assert unpack_work(bytes.fromhex(vector["create_work"])) == (vector["nonce"], message)


@given(st.binary(max_size=40))
def test_only_a_demand_is_taken_for_one(data: bytes) -> None:
    if len(data) == DEMAND_LENGTH:
        assert Demand.decode(data).encode() == data
    else:
        with pytest.raises(ProtocolError):
            Demand.decode(data)


@given(st.binary(max_size=20))
def test_create_work_has_a_nonce(data: bytes) -> None:
    if len(data) >= 8:
        assert pack_work(*unpack_work(data)) == data
    else:
        with pytest.raises(ProtocolError):
            unpack_work(data)


def test_a_search_goes_on_where_it_stopped() -> None:
    demand = Demand(EFFORT_LEAST, b"s" * 16)
    whole = search(demand, MESSAGE, 0, 1 << 16)
    assert whole is not None
    assert search(demand, MESSAGE, 0, whole) is None
    assert search(demand, MESSAGE, whole, 1) == whole
    assert search(Demand(64, b"s" * 16), MESSAGE, (1 << 64) - 3, 100) is None


def book(seed: int = 1) -> WorkBook:
    return WorkBook(random.Random(seed).randbytes, 0.0)


def solved(seed: bytes, message: bytes = MESSAGE) -> int:
    nonce = search(Demand(EFFORT_LEAST, seed), message, 0, 1 << 16)
    assert nonce is not None
    return nonce


def test_work_counts_once_for_one_message_at_one_hop() -> None:
    here, there = book(1), book(2)
    nonce = solved(here.seed(0))
    assert here.spend(nonce, MESSAGE[:-1] + b"x", EFFORT_LEAST, 0) == 0
    assert there.spend(nonce, MESSAGE, EFFORT_LEAST, 0) == 0
    assert here.spend(nonce, MESSAGE, EFFORT_MOST + 30, 0) == 0
    assert here.spend(nonce, MESSAGE, EFFORT_LEAST, 0) >= EFFORT_LEAST
    assert here.spend(nonce, MESSAGE, EFFORT_LEAST, 0) == 0


def test_work_cannot_be_kept_for_later() -> None:
    for age, counts in [(0, True), (1, True), (1.99, True), (2, False), (50, False)]:
        here = book()
        nonce = solved(here.seed(0))
        assert bool(here.spend(nonce, MESSAGE, EFFORT_LEAST, age * SEED_SECONDS)) == counts
    here = book()
    seeds = {here.seed(second) for second in range(600)}
    assert len(seeds) == 600 // SEED_SECONDS


# The queue.


@dataclass(eq=False)
class Item:
    """A CREATE that waits."""

    effort: int
    since: float


class Hop:
    """A queue, a clock, and handshakes that cost what they are reckoned at."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.queue: CreationQueue[Item] = CreationQueue(limits, random.Random(1).randbytes, 0.0)
        self.cost = limits.creation_least_cost
        self.now = 0.0
        self.answered: list[Item] = []
        self.given_up: list[Item] = []
        self.refused = 0
        self.efforts: list[int] = []

    def create(self, work: bool = False) -> Item | None:
        """Have a CREATE come, with the work that is asked now or none; None if it is refused."""
        asked = self.queue.effort(self.now)
        effort = self.queue.weigh(None, MESSAGE, self.now)
        if work:
            # What a work is worth has its own tests.
            self.queue._control.offer(asked)
            effort = asked
        if effort < asked:
            self.refused += 1
            return None
        item = Item(effort, self.now)
        given_up = self.queue.push(item, self.now)
        if given_up is not None:
            self.given_up.append(given_up)
        return item

    def answer(self) -> None:
        """Answer all that may be answered now."""
        self.given_up += self.queue.expire(self.now)
        while (item := self.queue.next(self.now)) is not None:
            self.answered.append(item)
            self.queue.spent(self.cost)

    def run(self, seconds: float, idle_creates: int = 0, workers: int = 0) -> None:
        """Go on, with so many CREATEs a second of each kind."""
        steps = int(seconds * 100)
        for step in range(steps):
            self.now += 0.01
            for kind, rate in ((False, idle_creates), (True, workers)):
                for _ in range((step + 1) * rate // 100 - step * rate // 100):
                    self.create(kind)
            self.answer()
            self.efforts.append(self.queue.effort(self.now))


def test_a_hop_that_keeps_up_asks_nothing_and_lets_nobody_wait() -> None:
    hop = Hop()
    hop.run(30, idle_creates=80)
    assert set(hop.efforts) == {0}
    assert hop.queue.demand(hop.now) is None
    assert (hop.refused, hop.given_up, len(hop.answered)) == (0, [], 2400)


def test_a_burst_after_a_pause_is_answered_at_once() -> None:
    hop = Hop()
    for _ in range(30):
        hop.create()
    hop.answer()
    assert len(hop.answered) == 30


def test_a_flood_without_work_makes_a_hop_ask_and_who_works_is_served() -> None:
    hop = Hop()
    hop.run(20, idle_creates=2000, workers=20)
    assert max(hop.efforts) == EFFORT_LEAST
    # From the moment on that effort is asked, whoever does it waits for nobody without.
    begun = hop.efforts.index(EFFORT_LEAST) / 100
    assert begun < 1
    assert set(hop.efforts[-1500:]) == {EFFORT_LEAST}
    working = [item for item in hop.answered if item.effort]
    assert len(working) >= 20 * 18
    assert hop.refused > 2000 * 17
    demand = hop.queue.demand(hop.now)
    assert demand is not None
    assert demand == hop.queue.demand(hop.now)


def test_when_a_flood_ends_the_effort_does_too() -> None:
    hop = Hop()
    hop.run(10, idle_creates=3000)
    assert hop.queue.effort(hop.now)
    hop.run(3, idle_creates=20)
    assert hop.queue.effort(hop.now) == 0
    hop.efforts.clear()
    refused = hop.refused
    hop.run(30, idle_creates=30)
    assert set(hop.efforts) == {0}
    assert hop.refused == refused
    assert len(hop.queue) == 0


def test_a_flood_with_work_raises_the_effort_one_step_a_second_to_the_most() -> None:
    hop = Hop()
    hop.run(15, workers=1000)
    steps = [(before, after) for before, after in pairwise(hop.efforts) if before != after]
    assert steps[0] == (0, EFFORT_LEAST)
    assert all(after == before + 1 for before, after in steps[1:])
    assert hop.efforts[-1] == EFFORT_MOST
    at = [hop.efforts.index(effort) for effort in range(EFFORT_LEAST, EFFORT_MOST + 1)]
    assert all(later - earlier >= 99 for earlier, later in pairwise(at))
    # The bounds hold all the while, and it falls as fast.
    assert len(hop.queue) <= LIMITS.creations_waiting
    hop.run(10)
    assert hop.queue.effort(hop.now) == 0


def test_most_effort_goes_first_then_the_oldest_and_the_least_is_given_up() -> None:
    hop = Hop(Limits(creation_least_cost=1.0, creations_waiting=5))
    hop.create()
    hop.answer()
    items = [Item(effort, hop.now) for effort in (0, 12, 0, 10, 12)]
    assert [hop.queue.push(item, hop.now) for item in items] == [None] * 5
    assert hop.queue.push(Item(11, hop.now), hop.now) is items[0]
    assert hop.queue.push(Item(0, hop.now), hop.now) is items[2]
    order = []
    for _ in range(5):
        hop.now += 10
        item = hop.queue.next(hop.now)
        assert item is not None
        order.append(item)
        hop.queue.spent(1.0)
    assert [item.effort for item in order] == [12, 12, 11, 10, 0]
    assert order[:2] == [items[1], items[4]]


def test_who_waited_too_long_is_given_up() -> None:
    hop = Hop(Limits(creation_least_cost=10.0, creation_patience=2.0, creation_wait=1e9))
    hop.create()
    hop.answer()
    late = hop.create()
    hop.now = 1.9
    assert hop.queue.expire(hop.now) == []
    hop.now = 2.1
    assert hop.queue.expire(hop.now) == [late]
    assert hop.queue.ready_in(hop.now) is None


class QueueMachine(RuleBasedStateMachine):
    """Whatever comes in whatever order: the bounds hold, and everyone is accounted for once."""

    def __init__(self) -> None:
        super().__init__()
        self.hop = Hop(Limits(creation_least_cost=0.05, creations_waiting=8))
        self.came: list[Item] = []
        self.gone: list[Item] = []
        self.served = 0.0

    @rule(work=st.booleans(), count=st.integers(1, 12))
    def creates_come(self, work: bool, count: int) -> None:
        for _ in range(count):
            item = self.hop.create(work)
            if item is not None:
                self.came.append(item)

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds: float) -> None:
        self.hop.now += seconds

    @rule()
    def the_hop_answers(self) -> None:
        before = len(self.hop.answered)
        self.hop.answer()
        self.served += (len(self.hop.answered) - before) * 0.05

    @precondition(lambda self: len(self.hop.queue) > 0)
    @rule(choice=st.randoms(use_true_random=False))
    def one_leaves(self, choice: random.Random) -> None:
        waiting = [item for lane in self.hop.queue._lanes.values() for item in lane]
        item = choice.choice(waiting)
        self.hop.queue.discard(item)
        self.hop.queue.discard(item)
        self.gone.append(item)

    @invariant()
    def all_is_bounded_and_counted(self) -> None:
        hop = self.hop
        assert len(hop.queue) <= 8
        assert len(hop.queue) == sum(map(len, hop.queue._lanes.values()))
        ended = hop.answered + hop.given_up + self.gone
        assert len(set(map(id, ended))) == len(ended)
        assert len(self.came) == len(ended) + len(hop.queue)
        effort = hop.queue.effort(hop.now)
        assert effort == 0 or EFFORT_LEAST <= effort <= EFFORT_MOST
        # Handshakes keep to their share of the time, a burst and one handshake apart.
        assert self.served <= 0.3 * hop.now + 0.1 + 0.05 + 1e-6


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
