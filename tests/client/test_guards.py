"""Guards (spec/06 §2): who they are, when they change, and what must never change them."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fogbank.client.guards import (
    Guard,
    GuardState,
    LayerTwo,
    Outcome,
    ordered,
    primary,
    report,
    tiers,
    update,
    warnings,
)
from fogbank.client.guards_codec import decode_guards, encode_guards
from fogbank.client.limits import DAY, LIMITS
from fogbank.client.topology import Topology
from fogbank.directory.consensus import Entry, Flag
from tests.client import networks
from tests.client.networks import NOW, RUNNING, SeededChooser, family, relay

CHOOSER = SeededChooser("guards")
BIG = networks.topology([relay(number) for number in range(300)])
SMALL = networks.topology(networks.small_network())


def fresh(topology: Topology, now: float = NOW, seed: object = 0) -> GuardState:
    return update(GuardState(), topology, now, SeededChooser(seed))


def after(state: GuardState, guard: Guard | bytes, outcome: Outcome, now: float) -> GuardState:
    identity = guard if isinstance(guard, bytes) else guard.identity
    return report(state, identity, outcome, now, CHOOSER)


def find(state: GuardState, identity: bytes) -> Guard:
    (guard,) = [guard for guard in state.sample if guard.identity == identity]
    return guard


def test_the_sample_is_a_fifth_of_the_guards_within_bounds() -> None:
    sizes = {
        count: len(fresh(networks.topology([relay(n) for n in range(count)])).sample)
        for count in (0, 1, 4, 25, 40, 95, 300)
    }
    assert sizes == {0: 0, 1: 1, 4: 4, 25: 5, 40: 8, 95: 19, 300: 20}


def test_only_listed_guards_are_sampled_each_once_and_by_weight() -> None:
    entries = [
        *(relay(number, bandwidth=10**9 if number < 10 else 1) for number in range(40)),
        *(relay(number, RUNNING | Flag.STABLE, bandwidth=10**12) for number in range(40, 60)),
    ]
    sample = fresh(networks.topology(entries)).sample
    assert {guard.identity for guard in sample} <= {entry.identity for entry in entries[:10]}
    assert len({guard.identity for guard in sample}) == len(sample) == 8
    low, high = LIMITS.guard_lifetime
    assert all(low <= guard.expires - NOW <= high for guard in sample)
    assert len({guard.expires for guard in sample}) == len(sample)


def test_an_update_without_news_changes_nothing() -> None:
    state = fresh(BIG)
    assert update(state, BIG, NOW + DAY // 2, CHOOSER) is state


def test_two_primary_guards_that_do_not_clash() -> None:
    related = [relay(number, families=(family("one"),)) for number in range(3)]
    other = relay(3)
    topology = networks.topology([*related, other])
    for seed in range(20):
        first, second = primary(fresh(topology, seed=seed), topology)
        assert other.identity in {first.identity, second.identity}
    alone = networks.topology(related)
    assert len(primary(fresh(alone), alone)) == 2


def test_a_confirmed_guard_comes_first_and_stays() -> None:
    state = fresh(BIG)
    third = state.sample[2]
    state = after(state, third, Outcome.BUILT, NOW)
    state = after(state, state.sample[0], Outcome.BUILT, NOW + 1)
    assert primary(state, BIG)[0].identity == third.identity
    state = after(state, third, Outcome.BUILT, NOW + 9)
    assert find(state, third.identity).confirmed == NOW


def test_failures_beyond_the_link_never_change_who_is_used() -> None:
    state = fresh(BIG)
    before = tiers(state, BIG, NOW)
    for number in range(1000):
        state = after(state, before[0][number % 2], Outcome.BROKEN, NOW)
        assert tiers(state, BIG, NOW) == before
    assert update(state, BIG, NOW, CHOOSER) is state
    told = warnings(state, BIG)
    assert set(told) == set(before[0])
    entry = BIG.relay(before[0][0])
    assert entry is not None
    assert entry.nickname in told[entry.identity]


def test_no_warning_for_a_guard_that_mostly_works() -> None:
    state = fresh(BIG)
    guard = state.sample[0].identity
    for number in range(200):
        state = after(state, guard, Outcome.BROKEN if number % 2 else Outcome.BUILT, NOW)
    assert warnings(state, BIG) == {}
    kept = find(state, guard)
    assert (kept.circuits, kept.failed) == (100, 50)


def test_a_failed_link_waits_ever_longer_and_an_open_one_ends_that() -> None:
    state = fresh(BIG)
    guard = primary(state, BIG)[0].identity
    now, waits = NOW, []
    for _ in range(12):
        state = after(state, guard, Outcome.UNREACHABLE, now)
        waits.append(find(state, guard).retry_at - now)
        assert guard not in tiers(state, BIG, now)[0]
        now = find(state, guard).retry_at
        assert guard in tiers(state, BIG, now)[0]
    assert find(state, guard).unreachable_since == NOW
    for number, wait in enumerate(waits):
        planned = min(30 * 2**number, 3600)
        assert 0.5 * planned <= wait <= 1.5 * planned + 1
    reached = find(after(state, guard, Outcome.BROKEN, now), guard)
    assert (reached.unreachable_since, reached.failures, reached.retry_at) == (0, 0, 0)


def test_further_guards_follow_only_while_the_primary_ones_wait() -> None:
    state = fresh(BIG)
    first, second = (guard.identity for guard in primary(state, BIG))
    state = after(state, first, Outcome.UNREACHABLE, NOW)
    assert tiers(state, BIG, NOW)[0] == (second,)
    state = after(state, second, Outcome.UNREACHABLE, NOW)
    groups = tiers(state, BIG, NOW)
    assert groups == tuple((guard.identity,) for guard in state.sample[2:])
    for guard in state.sample[2:]:
        state = after(state, guard, Outcome.UNREACHABLE, NOW)
    # All wait: the fault is nearer, and waiting for the schedule would help nobody.
    assert tiers(state, BIG, NOW) == ((first, second),)
    assert len(state.sample) == LIMITS.sample_most


def test_after_an_outage_better_guards_are_tried_again_at_once() -> None:
    state = fresh(BIG)
    first, second, third = (guard.identity for guard in state.sample[:3])
    for _ in range(12):
        for guard in (first, second):
            state = after(state, guard, Outcome.UNREACHABLE, NOW)
    state = replace(state, last_success=NOW)
    assert find(state, first).retry_at > NOW + 1000
    for seconds, at_once in ((600, False), (601, True)):
        later = after(state, third, Outcome.BUILT, NOW + seconds)
        assert (find(later, first).retry_at <= NOW + seconds) is at_once
        ready = [identity for group in tiers(later, BIG, NOW + seconds) for identity in group]
        assert (first in ready) is (second in ready) is at_once


def test_an_unlisted_guard_waits_twenty_days_for_its_return() -> None:
    state = fresh(BIG)
    gone = state.sample[0].identity
    entry = BIG.relay(gone)
    assert entry is not None
    demoted = replace(entry, flags=RUNNING)
    rest = [other for other in BIG.consensus.entries if other is not entry]
    without = networks.topology([*rest, demoted])
    state = update(state, without, NOW + DAY, CHOOSER)
    assert find(state, gone).unlisted_since == NOW + DAY
    assert gone not in {guard.identity for guard in ordered(state)}
    assert len(ordered(state)) == LIMITS.sample_most
    back = update(state, BIG, NOW + 20 * DAY, CHOOSER)
    assert find(back, gone).unlisted_since == 0
    assert ordered(back)[0].identity == gone
    state = update(state, without, NOW + 21 * DAY, CHOOSER)
    assert gone not in {guard.identity for guard in state.sample}


def test_every_guard_is_replaced_in_time() -> None:
    state = fresh(BIG)
    old = {guard.identity for guard in state.sample}
    half = update(state, BIG, NOW + 120 * DAY, CHOOSER)
    left = old & {guard.identity for guard in half.sample}
    assert 0 < len(left) < len(old)
    late = update(half, BIG, NOW + 150 * DAY, CHOOSER)
    assert all(guard.added > NOW for guard in late.sample)
    assert len(late.sample) == LIMITS.sample_most


def test_layer_two_guards_are_four_apart_and_rotate() -> None:
    related = [relay(number, families=(family("one"),)) for number in range(50)]
    others = [relay(number) for number in range(50, 54)]
    unstable = [relay(number, RUNNING) for number in range(54, 60)]
    topology = networks.topology([*related, *others, *unstable])
    state = fresh(topology)
    chosen = [entry for g in state.layer_two if (entry := topology.relay(g.identity))]
    assert len(chosen) == 4
    assert sum(entry in related for entry in chosen) <= 1
    assert not set(chosen) & set(unstable)
    assert all(DAY <= guard.expires - NOW <= 7 * DAY for guard in state.layer_two)
    first = min(guard.expires for guard in state.layer_two)
    later = update(state, topology, first, CHOOSER)
    kept = set(later.layer_two) & set(state.layer_two)
    assert len(later.layer_two) == 4
    assert 0 < len(kept) < 4
    few = networks.topology([*related[:2], others[0]])
    assert len(fresh(few).layer_two) == 3


def test_a_layer_two_guard_that_stops_is_replaced_at_once() -> None:
    state = fresh(SMALL)
    dead = state.layer_two[0].identity
    left = [entry for entry in SMALL.consensus.entries if entry.identity != dead]
    later = update(state, networks.topology(left), NOW, CHOOSER)
    assert len(later.layer_two) == 4
    assert dead not in {guard.identity for guard in later.layer_two}
    assert later.layer_two[:3] == state.layer_two[1:]


def test_a_clashing_layer_two_guard_gives_way_to_one_that_is_apart() -> None:
    related = [relay(number, families=(family("one"),)) for number in range(3)]
    alone, late, later = (relay(number) for number in range(3, 6))
    before = fresh(networks.topology([*related, alone]))
    assert len(before.layer_two) == 4

    after_one = update(before, networks.topology([*related, alone, late]), NOW, CHOOSER)
    chosen = {guard.identity for guard in after_one.layer_two}
    assert len(chosen) == 4
    assert {alone.identity, late.identity} <= chosen
    # Nobody who is apart is replaced, and nobody at all as long as there is no better one.
    assert len(set(after_one.layer_two) & set(before.layer_two)) == 3
    everyone = networks.topology([*related, alone, late])
    assert update(after_one, everyone, NOW, CHOOSER) is after_one

    after_two = update(after_one, networks.topology([*related, alone, late, later]), NOW, CHOOSER)
    chosen = {guard.identity for guard in after_two.layer_two}
    assert {alone.identity, late.identity, later.identity} < chosen


def test_times_of_a_wrong_clock_are_brought_back() -> None:
    future = NOW + 10_000 * DAY
    state = fresh(BIG, now=future)
    guard = state.sample[0].identity
    state = after(state, guard, Outcome.BUILT, future)
    state = after(state, guard, Outcome.UNREACHABLE, future)
    state = update(state, BIG, NOW, CHOOSER)
    kept = find(state, guard)
    assert (kept.added, kept.confirmed, kept.unreachable_since) == (NOW, NOW, NOW)
    assert kept.retry_at <= NOW + 2 * LIMITS.retry_longest
    assert kept.expires <= NOW + LIMITS.guard_lifetime[1]
    assert all(guard.expires <= NOW + 7 * DAY for guard in state.layer_two)
    assert state.last_success <= NOW


class Guards(RuleBasedStateMachine):
    """Anything may happen, in any order: the client's exposure stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.now = float(NOW)
        self.state = GuardState()
        self.relays: list[Entry] = []
        self.topology = SMALL
        self.chooser = SeededChooser("machine")

    @initialize(count=st.integers(0, 60))
    def begin(self, count: int) -> None:
        self.relays = [relay(number) for number in range(count)]
        self.new_consensus([])

    @rule(absent=st.lists(st.integers(0, 59), max_size=30))
    def new_consensus(self, absent: Sequence[int]) -> None:
        listed = [entry for number, entry in enumerate(self.relays) if number not in absent]
        self.topology = networks.topology(listed)
        self.refresh()

    @rule(days=st.floats(0.01, 60))
    def wait(self, days: float) -> None:
        self.now += days * DAY
        self.refresh()

    def refresh(self) -> None:
        self.state = update(self.state, self.topology, self.now, self.chooser)

    @rule(outcome=st.sampled_from(Outcome), pick=st.integers(0, 1))
    def use(self, outcome: Outcome, pick: int) -> None:
        groups = tiers(self.state, self.topology, self.now)
        if not groups:
            return
        guard = groups[0][pick % len(groups[0])]
        before = tiers(self.state, self.topology, self.now)
        order = ordered(self.state)
        self.state = report(self.state, guard, outcome, self.now, self.chooser)
        if outcome is Outcome.BROKEN:
            assert [g.identity for g in ordered(self.state)] == [g.identity for g in order]
            if find(GuardState(order), guard).retry_at <= self.now:
                assert tiers(self.state, self.topology, self.now) == before

    @rule()
    def restart(self) -> None:
        network_id = networks.NETWORK_ID
        assert decode_guards(encode_guards(self.state, network_id), network_id) == self.state

    @invariant()
    def bounded(self) -> None:
        identities = [guard.identity for guard in self.state.sample]
        assert len(set(identities)) == len(identities) <= LIMITS.sample_ceiling
        assert len(self.state.layer_two) <= LIMITS.layer_two_guards
        assert len(ordered(self.state)) >= min(5, len(self.topology.guards.items)) or (
            len(identities) == LIMITS.sample_ceiling
        )
        groups = tiers(self.state, self.topology, self.now)
        assert bool(groups) == bool(self.topology.guards.items)
        assert len({i for group in groups for i in group}) == sum(map(len, groups))
        assert {i for group in groups for i in group} <= set(identities)


TestGuards = Guards.TestCase
TestGuards.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_the_file_format_is_stable() -> None:
    guard = Guard(b"g" * 32, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    state = GuardState((guard,), (LayerTwo(b"l" * 32, 10),), 11)
    data = encode_guards(state, b"n" * 32)
    assert data.hex() == (
        "a50101025820"
        + "6e" * 32
        + "03818a5820"
        + "67" * 32
        + "010203040506070809"
        + "0481825820"
        + "6c" * 32
        + "0a050b"
    )
    assert decode_guards(data, b"n" * 32) == state
