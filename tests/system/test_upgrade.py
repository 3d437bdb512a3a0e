"""Two versions of the program in one running network, then only one (spec/05 §5.3)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.networks import Network, environment, start_network, stop_network
from tests.system.test_living_network import PATIENCE, consensus, the_next, wait_for

pytestmark = pytest.mark.network
ROOT = Path(__file__).parents[2]
NEWER = (*(f"authority{n}" for n in range(1, 5)), "relay1", "relay2", "relay3")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    running = start_network(tmp_path / "network", "--relays", "4", "--workers", "0")
    yield running
    stop_network(running)


def newer(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tests.system.newer", *map(str, arguments)]


@contextmanager
def upgraded(network: Network, name: str) -> Iterator[None]:
    """End a node, and start it again with the newer program, until the block ends."""
    row = next(node for node in network.nodes() if node["nickname"] == name)
    os.kill(row["pid"], signal.SIGTERM)
    wait_for(
        lambda: {node["nickname"]: node["state"] for node in network.nodes()}[name] == "stopped",
        f"the end of {name}",
    )
    home = network.folder / name
    with (home / "log").open("ab") as output:
        process = subprocess.Popen(
            newer(row["role"], "run", "--dir", home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(home),
            cwd=ROOT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def shared(network: Network, since: float) -> frozenset[str]:
    """Who is listed in a consensus of a round that began after that time."""
    return the_next(network, since).nodes


def test_a_protocol_version_comes_in_while_old_programs_run_and_is_then_required(
    network: Network,
) -> None:
    everyone = consensus(network).nodes
    with ExitStack() as stack:
        for name in NEWER:
            stack.enter_context(upgraded(network, name))
        # Both versions share the network: nobody is shut out by others' upgrade.
        restarted = time.time()
        wait_for(lambda: shared(network, restarted) == everyone, "all of both versions")
        for number in range(1, 4):
            policy = network.folder / f"authority{number}" / "policy.toml"
            policy.write_text("required_protocols = [2]")

        def told() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                newer("network", "show", "--json"),
                capture_output=True,
                check=False,
                cwd=ROOT,
                env=environment(network.folder / "client"),
                timeout=PATIENCE,
            )

        def names() -> set[str]:
            return {node["nickname"] for node in json.loads(told().stdout)["nodes"]}

        wait_for(lambda: names() == set(NEWER), "a consensus of the newer ones alone")
        # An older program that asks anew is told what to do.
        (network.folder / "client" / "consensus").unlink()
        older = network.fog("network", "show")
        assert older.returncode != 0
        assert b"too old for the network: update it" in older.stderr
    for name in everyone:
        assert b"Traceback" not in (network.folder / name / "log").read_bytes()
