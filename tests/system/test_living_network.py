"""A running network of processes gets a new policy, and other authorities (spec/05 §1.4, §3.2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
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


def restart(
    network: Network, nickname: str, document: Path, role: str = "authority"
) -> subprocess.Popen[bytes]:
    """End a node, and start it with a network document."""
    row = next(node for node in network.nodes() if node["nickname"] == nickname)
    os.kill(row["pid"], signal.SIGTERM)
    wait_for(
        lambda: {n["nickname"]: n["state"] for n in network.nodes()}[nickname] == "stopped",
        f"the end of {nickname}",
    )
    home = network.folder / nickname
    with (home / "log").open("ab") as output:
        return subprocess.Popen(
            command((role, "run", "--dir", home, "--network", document)),
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


@dataclass(frozen=True)
class Seen:
    """A consensus as `fog network show` tells it."""

    valid_after: float
    interval: float
    method: int
    nodes: frozenset[str]
    runtimes: frozenset[str]


def consensus(network: Network) -> Seen:
    answer = network.fog("network", "show", "--json")
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    times = [
        datetime.fromisoformat(report[key]).timestamp() for key in ("valid_after", "fresh_until")
    ]
    names = frozenset(node["nickname"] for node in report["nodes"])
    runtimes = frozenset(runtime["name"] for runtime in report["runtimes"])
    return Seen(times[0], times[1] - times[0], report["method"], names, runtimes)


def the_next(network: Network, changed: float) -> Seen:
    """Return the first consensus that can be had of a round that began after that time."""
    found: list[Seen] = []

    def is_there() -> bool:
        found.append(consensus(network))
        return found[-1].valid_after >= changed + ROUND_SECONDS

    wait_for(is_there, "the next consensus")
    return found[-1]


ROUND_SECONDS = 3 * 0.6 + 1
"""The phases of a test network's round, and the rest of the second in which a file was written."""


def test_what_three_operators_write_is_in_force_in_the_next_consensus(tmp_path: Path) -> None:
    """Engine classes, runtimes, whom to let in, a method that two of four do not know yet."""
    network = start_network(tmp_path / "network", "--relays", "4", "--workers", "1")
    try:
        everyone = consensus(network)
        assert everyone.method == 4
        assert "python" in everyone.runtimes
        report = json.loads(network.fog("network", "show", "--json").stdout)["nodes"]
        relays = {node["nickname"]: node for node in report if node["role"] == "relay"}
        host = relays["relay4"]["addresses"][0].split(":")[0]
        approved = [node["identity"] for node in report if node["nickname"] != "relay3"]
        steps: tuple[tuple[int, str, set[str], int], ...] = (
            (3, 'engines = ["an engine that nobody has"]\nruntimes = []', {"worker1"}, 4),
            (3, f"[reject]\nnetworks = ['{host}/32']", {"relay4"}, 4),
            (3, f"[approve]\nidentities = {json.dumps(approved)}", {"relay3"}, 4),
            (2, "methods = [1]", set(), 1),
            (3, "", set(), 4),
        )
        for count, text, gone, method in steps:
            for number in range(1, 5):
                policy = network.folder / f"authority{number}" / "policy.toml"
                policy.write_text(text if number <= count else "")
            seen = the_next(network, time.time())
            assert everyone.nodes - seen.nodes == gone, text
            assert seen.method == method, text
            none = method < 3 or "runtimes" in text
            assert seen.runtimes == (frozenset() if none else everyone.runtimes), text
    finally:
        stop_network(network)


def test_a_relay_goes_on_with_a_new_signing_key_while_its_identity_is_elsewhere(
    small_network: Network, tmp_path: Path
) -> None:
    network, home, vault = small_network, small_network.folder / "relay2", tmp_path / "vault"
    asked, given = tmp_path / "request", tmp_path / "certificate"
    before = listed(network)["relay2"]
    for arguments in (
        ("take-offline", "--dir", home, vault),
        ("request", "--dir", home, asked),
        ("certify", asked, given, "--identity", vault),
        ("renew", "--dir", home, given),
    ):
        answer = network.fog("relay", "key", *arguments)
        assert answer.returncode == 0, answer.stderr
    assert not list((home / "keys").glob("identity*"))
    process = restart(network, "relay2", network.folder / "client" / "network.toml", "relay")
    try:
        changed = time.time()
        # The authorities have its new descriptor, or the relay would be told otherwise.
        wait_for(lambda: "taken the descriptor" in why(network, home), "its new descriptor")
        the_next(network, changed)
        # A probe may fall into its restart; the one after finds it.
        wait_for(lambda: "relay2" in listed(network), "a consensus that lists it again")
        after = listed(network)["relay2"]
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert (after["identity"], after["addresses"]) == (before["identity"], before["addresses"])


def why(network: Network, home: Path) -> str:
    return network.fog("relay", "why", "--dir", home).stdout.decode()
