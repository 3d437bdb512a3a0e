"""Which workers may not run the same task (spec/12 §2)."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.client.verification.apart import Apart, Level

names = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
World = dict[bytes, tuple[frozenset[bytes], frozenset[bytes]]]
NONE: frozenset[bytes] = frozenset()

worlds = st.dictionaries(
    st.binary(min_size=1, max_size=2),
    st.tuples(st.frozensets(names, max_size=2), st.frozensets(names, min_size=1, max_size=3)),
    min_size=1,
    max_size=12,
)


def apart(world: World, wanted: int, least: int) -> Apart:
    known = Apart(wanted, least)
    known.update({each: kin[0] for each, kin in world.items()}, lambda each: world[each][1])
    return known


def test_a_large_network_shares_no_contact() -> None:
    world: World = {
        bytes((n,)): (NONE, frozenset(bytes((3 * n + i,)) for i in range(3))) for n in range(5)
    }
    known = apart(world, 5, 2)
    assert known.level is Level.CONTACTS
    world[b"x"] = (NONE, frozenset({b"\0", b"y", b"z"}))
    known = apart(world, 5, 2)
    assert known.conflict(b"x", b"\0")
    assert not known.conflict(b"x", b"\1")


def test_a_small_one_shares_no_whole_set_and_the_smallest_only_no_family() -> None:
    four: World = {
        b"1": (NONE, frozenset({b"a", b"b", b"c"})),
        b"2": (NONE, frozenset({b"a", b"b", b"d"})),
        b"3": (NONE, frozenset({b"a", b"b", b"c"})),
    }
    known = apart(four, 2, 2)
    assert known.level is Level.SETS
    assert known.conflict(b"1", b"3")
    assert not known.conflict(b"1", b"2")
    known = apart(four, 3, 2)
    assert known.level is Level.FAMILIES
    assert not known.conflict(b"1", b"3")


def test_a_family_runs_a_task_once_at_every_level() -> None:
    world: World = {
        bytes((n,)): (frozenset({b"f"}) if n < 2 else NONE, frozenset({bytes((n,))}))
        for n in range(6)
    }
    for wanted in (2, 5, 6):
        known = apart(world, wanted, 2)
        assert known.conflict(b"\0", b"\1")
        assert not known.conflict(b"\0", b"\2")


def test_too_few_operators_are_told() -> None:
    families: dict[bytes, frozenset[bytes]] = {
        b"1": frozenset({b"f"}),
        b"2": frozenset({b"f"}),
        b"3": frozenset({b"f", b"g"}),
    }
    known = Apart(5, 2)
    assert not known.update(families, lambda _: frozenset({b"a"}))
    assert known.update({**families, b"4": frozenset()}, lambda _: frozenset({b"a"}))


@settings(derandomize=True, max_examples=200)
@given(worlds, st.integers(1, 6))
def test_the_level_is_one_that_the_network_has_room_for(world: World, wanted: int) -> None:
    known = apart(world, wanted, 1)
    for a, b in combinations(world, 2):
        assert known.conflict(a, b) == known.conflict(b, a)
        if world[a][0] & world[b][0]:
            assert known.conflict(a, b)
        if not known.conflict(a, b) and known.level is Level.CONTACTS:
            assert not world[a][1] & world[b][1]
    if known.level is not Level.FAMILIES:
        groups = combinations(world, wanted)
        assert any(not any(known.conflict(a, b) for a, b in combinations(g, 2)) for g in groups)
