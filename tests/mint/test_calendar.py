"""When series are born, spent and forgotten (spec/09 §2)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory.mint.calendar import Calendar
from tests.directory.factory import START, make_network

DOCUMENT = make_network().document
TEST = Calendar.of(DOCUMENT)
LIVE = Calendar.of(
    replace(DOCUMENT, test=False, timing=replace(DOCUMENT.timing, interval=3600, warmup_rounds=0))
)


def test_a_day_is_a_day_in_life_and_four_intervals_in_a_test() -> None:
    assert LIVE.day == 86_400
    assert TEST.day == 4 * DOCUMENT.timing.interval


def test_series_are_born_a_week_apart_once_the_warm_up_is_over() -> None:
    end = START + 3 * 3
    assert [TEST.birth(k) for k in range(3)] == [START, end + 7 * 120, end + 14 * 120]
    assert [LIVE.birth(k) for k in range(3)] == [START, START + 604_800, START + 2 * 604_800]


@given(st.floats(START - 1e6, START + 1e9), st.sampled_from([TEST, LIVE]))
def test_what_is_current_is_born_and_its_successor_is_not(now: float, calendar: Calendar) -> None:
    current = calendar.current(now)
    assert current == 0 or calendar.birth(current) <= now
    assert now < calendar.birth(current + 1)
    living = calendar.living(now)
    assert living[-1] == current
    assert all(now < calendar.issue_until(k) for k in living)
    assert living[0] == 0 or calendar.issue_until(living[0] - 1) <= now


def test_tokens_are_taken_as_payment_a_week_before_they_die() -> None:
    birth, day = TEST.birth(5), TEST.day
    assert not TEST.good_for_payment(5, birth - 1)
    assert TEST.good_for_payment(5, birth)
    assert TEST.good_for_payment(5, birth + 53 * day - 1)
    assert not TEST.good_for_payment(5, birth + 53 * day)
    assert TEST.lock_until(5) - birth == 60 * day
    assert TEST.issue_until(5) - birth == 67 * day
    assert TEST.withdraw_until(5) == TEST.birth(6) + day
