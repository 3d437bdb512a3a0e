"""When the next consensus is fetched (spec/06 §5.3)."""

import pytest

from fogbank.client.fetch_schedule import next_fetch, retry_wait
from tests.client import networks
from tests.client.networks import SeededChooser

CONSENSUS = networks.consensus([])
CHOOSER = SeededChooser("schedule")


@pytest.mark.parametrize(("soon", "first", "last"), [(False, 0.5, 3.0), (True, 0.05, 0.25)])
def test_clients_spread_over_their_window(soon: bool, first: float, last: float) -> None:
    times = [next_fetch(CONSENSUS, CHOOSER, soon=soon) for _ in range(2000)]
    shares = [(time - CONSENSUS.fresh_until) / networks.INTERVAL for time in times]
    width = last - first
    assert first <= min(shares) < first + 0.02 * width
    assert last - 0.02 * width < max(shares) < last
    assert sum(shares) / len(shares) == pytest.approx((first + last) / 2, rel=0.05)


def test_a_fetch_never_waits_until_the_consensus_is_over() -> None:
    slow = networks.consensus([], interval=80_000)
    latest = slow.fresh_until + (slow.valid_until - slow.fresh_until) * 7 / 8
    times = [next_fetch(slow, CHOOSER, soon=False) for _ in range(100)]
    assert max(times) == latest < slow.valid_until


def test_failures_wait_ever_longer_within_an_interval() -> None:
    for failures in range(1, 40):
        wait = retry_wait(failures, 3600, CHOOSER)
        planned = min(2.0 ** (failures - 1), 600)
        assert 0.5 * planned <= wait <= 1.5 * planned
    assert max(retry_wait(30, 3, CHOOSER) for _ in range(100)) <= 4.5
