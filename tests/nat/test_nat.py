"""A worker behind a router: it moves, sleeps, loses its line, and is found again (spec/05 §6.2).

What is waited for is seconds of other programs and of the kernel; nothing passes by being fast.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogbank.relay.waking_shell import JUMP_SECONDS, LOOK_SECONDS
from tests.nat.networks import Network, network_outside
from tests.nat.spaces import home_behind_router
from tests.system.programs import COMPLAIN

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with home_behind_router() as spaces:
        folder = tmp_path_factory.mktemp("nat")
        with network_outside(folder, spaces) as running:
            (folder / "program.wat").write_text(COMPLAIN)
            running.reach_worker(folder / "program.wat")
            yield running


def found_again(network: Network, before: int) -> bool:
    """Wait until the worker does a job; tell whether at most one consensus was made meanwhile."""
    network.reach_worker(Path(network.folder / "program.wat"))
    return network.consensus() <= before + 1


def test_a_router_that_forgets_and_gets_another_address(network: Network) -> None:
    """Nothing tells the worker: what it sends from then on is dropped without a word."""
    before = network.consensus()
    network.spaces.renumber()
    assert found_again(network, before)


def test_a_worker_that_sleeps_and_wakes_behind_another_address(network: Network) -> None:
    before = network.consensus()
    network.signal("worker1", signal.SIGSTOP)
    network.spaces.renumber()
    time.sleep(JUMP_SECONDS + 2 * LOOK_SECONDS)
    network.signal("worker1", signal.SIGCONT)
    assert found_again(network, before)


def test_a_line_that_goes_down_and_comes_up_under_another_address(network: Network) -> None:
    before = network.consensus()
    network.spaces.disconnect()
    time.sleep(LOOK_SECONDS)
    network.spaces.connect(host=7)
    assert found_again(network, before)


def test_a_contact_relay_that_dies(network: Network) -> None:
    before = network.consensus()
    told = json.loads((network.folder / "worker1" / "status.json").read_bytes())
    contact = next(each["nickname"] for each in told["contacts"] if each["linked"])
    network.signal(contact, signal.SIGKILL)
    assert found_again(network, before)
