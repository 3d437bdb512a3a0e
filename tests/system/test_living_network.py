"""A running network of processes gets a new policy, and other authorities (spec/05 §1.4, §3.2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.networks import Network, command, environment, start_network, stop_network

pytestmark = pytest.mark.network
PATIENCE = 60.0
POLL_SECONDS = 0.2


@pytest.fixture
def small_network(tmp_path: Path) -> Iterator[Network]:
    running = start_network(tmp_path / "network", "--relays", "4", "--workers", "0")
    yield running
    stop_network(running)


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(POLL_SECONDS)


def listed(network: Network) -> dict[str, dict[str, Any]]:
    answer = network.fog("network", "show", "--json")
    assert answer.returncode == 0, answer.stderr
    return {node["nickname"]: node for node in json.loads(answer.stdout)["nodes"]}


def restart(network: Network, nickname: str, document: Path) -> subprocess.Popen[bytes]:
    """End an authority, and start it with another network document."""
    row = next(node for node in network.nodes() if node["nickname"] == nickname)
    os.kill(row["pid"], signal.SIGTERM)
    wait_for(
        lambda: {n["nickname"]: n["state"] for n in network.nodes()}[nickname] == "stopped",
        f"the end of {nickname}",
    )
    home = network.folder / nickname
    with (home / "log").open("ab") as output:
        return subprocess.Popen(
            command(("authority", "run", "--dir", home, "--network", document)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(home),
        )


def test_a_revoked_relay_and_a_departing_authority_leave_a_running_network(
    small_network: Network,
) -> None:
    network, folder = small_network, small_network.folder
    stay = ["authority1", "authority2", "authority3"]
    victim = listed(network)["relay4"]["identity"]
    for nickname in stay:
        (folder / nickname / "policy.toml").write_text(f'revoked = ["{victim}"]\n')
    wait_for(lambda: "relay4" not in listed(network), "a consensus without the revoked relay")

    first, second = folder / "client" / "network.toml", folder / "network-2.toml"
    amend = ("network", "amend", first, second, "--remove", "authority4", "--start-in", "9")
    assert network.fog(*amend).returncode == 0
    for nickname in stay:
        sign = ("network", "sign", second, "--previous", first, "--dir", folder / nickname)
        assert network.fog(*sign).returncode == 0
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [restart(network, nickname, second) for nickname in stay]
        assert network.fog("join", second).returncode == 0
        wait_for(lambda: "authority4" not in listed(network), "a consensus of the three who stay")
        now = set(listed(network))
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(PATIENCE)
    assert now == {*stay, "relay1", "relay2", "relay3"}
    for nickname in (*stay, "authority4"):
        assert b"Traceback" not in (folder / nickname / "log").read_bytes()
