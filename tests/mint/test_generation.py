"""Generation of keys with liars and absentees in any step (spec/09 §4.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.directory.mint.ballot import Ballot
from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.contributor import MintContributor
from fogbank.directory.mint.dealing import Dealing, deal, decode_dealing
from fogbank.directory.mint.generation import KEY_ROUNDS, under_way
from fogbank.directory.mint.points import (
    ORDER,
)
from fogbank.directory.mint.secret import Polynomial
from fogbank.directory.mint.state import COMMIT, COMPLAIN, DEAL, MintKeys
from fogbank.relay.errors import ProtocolError
from tests.mint.lies import ALL, HARMLESS, UNSOUND, WRONG, altered, other_share, withholds
from tests.mint.table import Lie, Table, assert_signs

RNG = random.Random(9)


def test_three_rounds_make_a_series_and_three_more_the_next() -> None:
    table = Table()
    assert table.round().generation is not None
    assert table.state.generation.step == DEAL  # type: ignore[union-attr]
    assert table.round().generation.step == COMPLAIN  # type: ignore[union-attr]
    assert table.round().generation is None
    assert table.rounds_until(1, 3)
    for series in table.state.series:
        assert_signs(series, table.shares(series.number), RNG)
    keys = {series.key for series in table.state.series}
    assert len(keys) == 2


@pytest.mark.parametrize("lie", UNSOUND.values(), ids=UNSOUND)
@pytest.mark.parametrize("liar", [0, 3])
def test_a_dealing_that_is_not_sound_excludes_its_dealer(lie: Lie, liar: int) -> None:
    table = Table()
    table.round(lies={liar: lie})
    table.round(lies={liar: lie})
    assert table.state.generation is not None
    assert table.state.generation.excluded == (table.seats[liar]._identity,)
    assert (table.state.generation.attempt, table.state.generation.step) == (1, COMMIT)
    record = table.rounds_until(0, 4, lies={liar: lie})
    assert table.seats[liar]._identity not in dict(record.dealings)
    assert_signs(record, table.shares(0), RNG)


@pytest.mark.parametrize("lie", WRONG.values(), ids=WRONG)
def test_a_wrong_share_is_complained_of_and_its_dealer_left_out(lie: Lie) -> None:
    table = Table()
    for _ in range(3):
        table.round(lies={3: lie})
    assert table.state.generation is not None
    assert table.state.generation.excluded == (table.seats[3]._identity,)
    record = table.rounds_until(0, 4, lies={3: lie})
    assert table.seats[3]._identity not in dict(record.dealings)
    held = table.shares(0)
    assert len(held) == 4, "whom a liar dealt wrongly has its share all the same"
    assert_signs(record, held, RNG)


@pytest.mark.parametrize("lie", HARMLESS.values(), ids=HARMLESS)
def test_other_lies_exclude_nobody_honest(lie: Lie) -> None:
    table = Table()
    record = table.rounds_until(0, 8, lies={2: lie})
    assert record.attempt == 0
    honest = {seat._identity for seat in table.seats} - {table.seats[2]._identity}
    assert honest <= dict(record.dealings).keys()
    held = {i: share for i, share in table.shares(0).items() if i != 3}
    assert len(held) == 3
    assert_signs(record, held, RNG)


def test_a_lie_told_once_leaves_its_teller_out_of_one_series_only() -> None:
    table = Table()
    table.round()
    table.round(lies={1: withholds})
    first = table.rounds_until(0, 4)
    assert len(first.dealings) == 3
    assert len(table.rounds_until(1, 3).dealings) == 4


@pytest.mark.parametrize("missed", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}])
def test_one_is_away_in_some_rounds(missed: set[int]) -> None:
    """A series comes of it, and who was away has its share once it holds the dealings."""
    table = Table()
    table.rounds_until(0, 3)
    for at in range(16):
        table.round({2} if at in missed else ())
    record = table.state.series_of(1)
    assert record is not None
    absentee = table.seats[2]
    for number in absentee.missing():
        assert absentee.share_of(number) is None
        absentee.take_dealings(number, table.seats[0].dealings(number))
    assert len(table.shares(1)) == 4
    assert_signs(record, table.shares(1), RNG)


def test_one_that_was_away_throughout_recovers_its_share_from_dealings() -> None:
    table = Table()
    table.rounds_until(0, 3)
    # Its keys are known; it misses all of the next series.
    record = table.rounds_until(1, 12, absent={1})
    absentee = table.seats[1]
    table.round()
    assert absentee.missing() == (1,)
    assert absentee.share_of(1) is None
    false = [(dealer, data[:-1] + b"x") for dealer, data in table.seats[0].dealings(1)]
    assert absentee.take_dealings(1, false) is None
    some, *others = table.seats[0].dealings(1)
    assert absentee.take_dealings(1, [some]) is not None
    assert absentee.share_of(1) is None
    kept = absentee.take_dealings(1, others)
    assert kept is not None
    assert absentee.missing() == ()
    held = table.shares(1)
    assert len(held) == 4
    assert_signs(record, held, RNG)
    # What it keeps gives it the same share after a restart.
    secret, held_state = absentee.secret, absentee.held
    again = MintContributor(table.network.network_id, absentee._identity, secret, kept)
    again.learn(held_state.valid_after, held_state.state, held_state.valid_after)
    assert again.share_of(1) == absentee.share_of(1)


def test_who_was_dealt_a_wrong_share_in_its_absence_has_none() -> None:
    table = Table()
    table.rounds_until(0, 3)
    record = table.rounds_until(1, 12, absent={0}, lies={3: altered(other_share(1))})
    table.round()
    table.seats[0].take_dealings(1, table.seats[2].dealings(1))
    assert table.seats[0].missing() == ()
    assert table.seats[0].share_of(1) is None
    assert_signs(record, table.shares(1), RNG)


def test_members_have_rounds_to_judge_what_they_were_dealt() -> None:
    """A victim that is away for a few rounds still complains; whose birth has come is hurried."""
    table = Table()
    table.rounds_until(0, 3)
    lies = {3: altered(other_share(1))}
    for _ in range(2):
        table.round(lies=lies)
    for _ in range(3):
        assert table.round(absent={0}, lies=lies).series_of(1) is None
    state = table.round(lies=lies)
    assert state.generation is not None
    assert state.generation.excluded == (table.seats[3]._identity,)
    hurried = Table()
    hurried.round()
    hurried.round()
    assert hurried.round(absent={0}).series_of(0) is None
    assert hurried.round(absent={0}).series_of(0) is not None


def test_excluded_ones_are_taken_in_again_when_too_few_are_left() -> None:
    """One withholds once; later another is away for good: one fault at a time stops nothing."""
    table = Table()
    table.round()
    table.round(lies={0: withholds})
    assert table.state.generation is not None
    assert table.state.generation.excluded == (table.seats[0]._identity,)
    record = table.rounds_until(0, 6, absent={1})
    assert table.seats[0]._identity in dict(record.dealings)


def test_a_quorum_of_dealers_suffices_and_fewer_do_not() -> None:
    table = Table(7)
    for _ in range(5):
        assert table.round(absent={0, 1, 2}).series == ()
    record = table.rounds_until(0, 6, absent={0, 1})
    assert len(record.dealings) == record.quorum == 5
    assert_signs(record, table.shares(0), RNG)


def test_who_has_no_keys_when_dealing_begins_has_no_seat() -> None:
    table = Table()
    record = table.rounds_until(0, 6, absent={3})
    table.round()
    assert record.members[3].vote_key == b""
    table.seats[3].take_dealings(0, table.seats[0].dealings(0))
    assert table.seats[3].share_of(0) is None
    assert len(table.rounds_until(1, 4).members[3].vote_key) == 32


def test_the_first_attempt_waits_some_rounds_for_keys() -> None:
    """An authority that starts late, or is upgraded last, has its seat; another stalls nothing."""
    table = Table()
    for _ in range(KEY_ROUNDS - 1):
        state = table.round(absent={3})
        assert state.generation is not None
        assert state.generation.step == COMMIT
    record = table.rounds_until(0, 3)
    assert all(member.vote_key for member in record.members)
    assert_signs(record, table.shares(0), RNG)


def test_who_lost_its_key_has_no_seat_until_the_next_series() -> None:
    table = Table()
    table.rounds_until(0, 3)
    kept = table.seats[2].dealings(0)
    table.seats[2] = table.contributor(table.seats[2]._identity, life=1)
    table.rounds_until(1, 3)
    table.seats[2].take_dealings(0, kept)
    assert table.seats[2].share_of(0) is None
    assert table.seats[2].share_of(1) is not None


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_b_of_any_kind_of_liars_prevent_no_series(data: st.DataObject) -> None:
    """Any lies of b, a different one in each round, 4 and 7 authorities: q honest ones sign."""
    table = Table(data.draw(st.sampled_from([4, 7])))
    faulty = table.network.faulty
    liars = data.draw(
        st.lists(
            st.integers(0, len(table.seats) - 1), min_size=faulty, max_size=faulty, unique=True
        )
    )
    record = None
    for _ in range(16):
        lies = {i: ALL[data.draw(st.sampled_from(sorted(ALL)))] for i in liars}
        record = table.round(lies=lies).series_of(0)
        if record is not None:
            break
    assert record is not None
    honest = {record.place_of(s._identity) for i, s in enumerate(table.seats) if i not in liars}
    held = {i: share for i, share in table.shares(0).items() if i in honest}
    assert len(held) == len(honest)
    assert_signs(record, held, RNG)
    dealers = {dealer for dealer, _ in record.dealings}
    lying = {table.seats[i]._identity for i in liars}
    assert len(dealers - lying) >= record.quorum - faulty


def test_a_zero_share_is_a_share() -> None:
    """A dealer may choose a polynomial with a root at a member's place: that is no wrong share."""
    root = Polynomial((ORDER - 1, 1), 5)
    assert root.at(1) == 0

    def change(dealt: Dealing, seat: MintContributor, table: Table) -> Dealing:
        now = under_way(seat.held.state, table.network, table.now)
        assert now is not None
        return deal(
            Polynomial((ORDER - 2, 1, 1), 5), seat._context(now, seat._identity), now.committee
        )

    table = Table()
    record = table.rounds_until(0, 3, lies={2: altered(change)})
    assert len(record.dealings) == 4
    assert_signs(record, table.shares(0), RNG)


def test_polynomials_differ_by_attempt_series_dealer_degree_and_committee() -> None:
    table = Table()
    secret = table.seats[0].secret
    assert secret is not None
    drawn = {
        secret.polynomial(context, quorum, committee).coefficients[0]
        for context in (b"one", b"two")
        for quorum in (2, 3)
        for committee in ([bytes(32)], [b"a" * 32])
    }
    assert len(drawn) == 8
    again = secret.polynomial(b"one", 3, [bytes(32)])
    assert again == secret.polynomial(b"one", 3, [bytes(32)])
    assert str(secret.decrypt) not in repr(secret) + repr(again)


def test_keys_must_be_points() -> None:
    table = Table()

    def lie(_: Table, __: MintContributor, ballot: Ballot) -> Ballot:
        return replace(ballot, keys=MintKeys(b"\xc0" + bytes(47), b"\xc0" + bytes(95), bytes(32)))

    assert table.seats[1]._identity not in dict(table.round(lies={1: lie}).keys)
    with pytest.raises(ProtocolError):
        decode_dealing(b"\xa0")


@pytest.mark.parametrize("change", range(1, 6))
@pytest.mark.parametrize(
    "members", [(1, 2, 3, 5), (0, 1, 2), range(7)], ids=["other", "less", "more"]
)
def test_the_committee_changes_in_the_middle_of_it(change: int, members: Sequence[int]) -> None:
    """The generation begins again among those who govern then; series that are there stay."""
    table = Table()
    table.amend(0, 1, 2, 3)
    for _ in range(change):
        table.round()
    before = table.state.series
    table.amend(*members)
    table.rounds_until(1, 9)
    assert table.state.series[: len(before)] == before
    for series in table.state.series[len(before) :]:
        assert [m.identity for m in series.members] == [s._identity for s in table.seats]
        assert series.quorum == table.network.quorum
        assert_signs(series, table.shares(series.number), RNG)


def test_series_die_and_their_dealings_are_forgotten() -> None:
    table = Table()
    table.rounds_until(1, 6)
    calendar = Calendar.of(table.network)
    seat = table.seats[0]
    assert {number for number, _ in seat.keep() or seat._all()} == {0, 1}
    for number in range(2, 12):
        while table.now < calendar.birth(number - 1):
            table.number += 1
        table.rounds_until(number, 4)
    assert len(table.state.series) <= 11
    while table.now < calendar.issue_until(1):
        table.number += 1
    table.round()
    assert [series.number for series in table.state.series][:1] == [2]
    assert seat.share_of(1) is None
    assert seat.share_of(2) is not None
    assert {number for number, _ in seat._all()} == {s.number for s in table.state.series}


def test_counts_are_the_highest_that_a_member_named() -> None:
    table = Table()
    table.seats[0].counts = lambda: ((0, 1),)
    record = table.rounds_until(0, 3)
    assert [member.count for member in record.members] == [1, 0, 0, 0]
    table.seats[0].counts = lambda: ((0, 7), (5, 9))
    table.seats[1].counts = lambda: ((0, 3),)
    table.round()
    table.seats[0].counts = lambda: ((0, 2),)
    state = table.round()
    assert [member.count for member in state.series[0].members] == [7, 3, 0, 0]


# Allotments.

NODE, OTHER = bytes([7]) * 32, bytes([9]) * 32


def test_allotments_are_what_one_honest_authority_at_least_grants() -> None:
    table = Table()
    table.round(grants={0: ((NODE, 1000), (OTHER, 5))})
    assert table.state.allotments == ()
    table.round(grants={0: ((NODE, 1000),), 1: ((NODE, 30),), 2: ((NODE, 20), (OTHER, 5))})
    assert table.state.allotted(NODE, 0) == 30
    assert table.state.allotted(OTHER, 0) == 0


def test_an_allotment_never_falls_and_goes_with_its_series() -> None:
    table = Table()
    calendar = Calendar.of(table.network)
    both = dict.fromkeys(range(2), ((NODE, 30), (OTHER, 1)))
    table.round(grants=both)
    table.round(grants=dict.fromkeys(range(4), ((NODE, 10),)))
    assert [(a.identity, a.amount) for a in table.state.allotments] == [(NODE, 30), (OTHER, 1)]
    while table.now < calendar.birth(1):
        table.number += 1
    table.round(grants=dict.fromkeys(range(4), ((NODE, 10),)))
    assert table.state.allotted(NODE, 0) == 30
    assert table.state.allotted(NODE, 1) == 10
    while table.now < calendar.withdraw_until(0):
        table.number += 1
    table.round()
    assert [allotment.series for allotment in table.state.allotments] == [1]


def test_grants_are_passed_over_outside_a_test_network() -> None:
    table = Table()
    table.network = replace(table.network, test=False)
    table.round(grants=dict.fromkeys(range(4), ((NODE, 30),)))
    assert table.state.allotments == ()


def test_a_key_that_is_infinity_costs_an_attempt() -> None:
    """Only all dealers together can bring it about: here a member's share of the sum is 0."""
    table = Table()

    def change(dealt: Dealing, seat: MintContributor, table: Table) -> Dealing:
        now = under_way(seat.held.state, table.network, table.now)
        assert now is not None
        if now.attempt:
            return dealt
        constant = ORDER - 11 if seat is table.seats[3] else 1
        polynomial = Polynomial((constant, 1, 1), 5)
        return deal(polynomial, seat._context(now, seat._identity), now.committee)

    lies = dict.fromkeys(range(4), altered(change))
    for _ in range(3):
        table.round(lies=lies)
    assert table.state.generation is not None
    assert (table.state.generation.attempt, table.state.generation.step) == (1, COMMIT)
    assert table.state.generation.excluded == ()
    record = table.rounds_until(0, 3, lies=lies)
    assert_signs(record, table.shares(0), RNG)


def test_nobody_stays_excluded_when_fewer_than_a_quorum_could_deal() -> None:
    table = Table()
    table.round()
    table.round(lies={0: withholds, 1: withholds})
    assert table.state.generation is not None
    assert table.state.generation.attempt == 1
    assert table.state.generation.excluded == ()
