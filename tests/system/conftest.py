"""A network of real processes, shared by the tests that only use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.networks import Network, start_network, stop_network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network that no test may damage."""
    running = start_network(tmp_path_factory.mktemp("shared") / "network", "--tor-port", "0")
    yield running
    stop_network(running)


@pytest.fixture
def own_network(tmp_path: Path) -> Iterator[Network]:
    """A network of the test's own, to kill parts of."""
    running = start_network(tmp_path / "network")
    yield running
    stop_network(running)
