"""The schedule: rounds follow from the network document and the clock (spec/05 §4.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory.schedule import interval_at, nth_round, round_at, worker_freshness
from tests.directory.factory import START, TIMING, make_network

NETWORK = make_network(4).document
PLAIN = replace(NETWORK, timing=replace(TIMING, warmup_rounds=0, warmup_interval=0))


def test_warm_up_then_the_usual_interval() -> None:
    times = [nth_round(NETWORK, n).valid_after - START for n in range(6)]
    assert times == [3, 6, 9, 39, 69, 99]
    assert nth_round(NETWORK, 2).fresh_until - START == 39
    assert [nth_round(PLAIN, n).valid_after - START for n in range(3)] == [30, 60, 90]


def test_a_round_s_times() -> None:
    this = nth_round(NETWORK, 0)
    assert this.begins == START + 1.5
    assert this.opens == START + 1.25
    assert this.concludes == START + 2.5
    phases = [this.phase_at(START + t) for t in (0, 1.2, 1.5, 1.99, 2.0, 2.5, 3.0)]
    assert phases == [1, 1, 1, 1, 2, 3, 4]
    assert nth_round(make_network(7).document, 0).begins == START + 1


@pytest.mark.parametrize("network", [NETWORK, PLAIN])
@given(now=st.floats(START - 100, START + 10_000))
def test_the_open_round_is_found(now: float, network: object) -> None:
    document = NETWORK if network is NETWORK else PLAIN
    this = round_at(document, now)
    assert nth_round(document, this.number + 1).opens > now
    assert this.number == 0 or this.opens <= now


def test_far_from_the_start() -> None:
    now = START + 10 * 365 * 86_400
    assert abs(round_at(NETWORK, now).valid_after - now) <= 30
    assert interval_at(NETWORK, now) == 30
    assert interval_at(NETWORK, START) == 3
    assert worker_freshness(NETWORK) == 90


def test_rounds_do_not_overlap() -> None:
    for n in range(8):
        assert nth_round(NETWORK, n + 1).opens > nth_round(NETWORK, n).valid_after
