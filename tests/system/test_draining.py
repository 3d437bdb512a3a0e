"""A worker that is told to end lets its tasks finish, and takes no new ones (spec/06 §3, 08 §4)."""

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
from tests.system.programs import COMPLAIN

pytestmark = pytest.mark.network
PATIENCE = 60.0
POLL_SECONDS = 0.1

SPIN = """
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i64)
    (local.set $i (i64.const {rounds}))
    (loop $more
      (local.set $i (i64.sub (local.get $i) (i64.const 1)))
      (br_if $more (i64.ne (local.get $i) (i64.const 0))))))
"""
A_WHILE = 1_500_000_000
"""Rounds that take some seconds."""
FOR_EVER = 1 << 60
FUEL = str(1 << 39)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network whose two workers are ended by the tests, one each."""
    folder = tmp_path_factory.mktemp("draining")
    for name, rounds in (("while", A_WHILE), ("ever", FOR_EVER)):
        (folder / f"{name}.wat").write_text(SPIN.format(rounds=rounds))
    (folder / "soon.wat").write_text(COMPLAIN)
    running = start_network(folder / "network", "--workers", "2")
    yield running
    stop_network(running)


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(POLL_SECONDS)


def start(network: Network, program: str, log: Path) -> subprocess.Popen[bytes]:
    """Begin a job; what it says of its way and its states goes to a file."""
    path = network.folder.parent / f"{program}.wat"
    with log.open("wb") as output:
        return subprocess.Popen(
            command(("run", "-v", "--fuel", FUEL, path)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(network.folder / "client"),
        )


def worker_of(log: Path) -> str:
    """Wait until the job runs; return at which worker."""
    wait_for(lambda: "running" in log.read_text().splitlines()[-1:].__str__(), "a running task")
    (way,) = [line for line in log.read_text().splitlines() if "→" in line]
    return way.rpartition("→")[2].strip()


def pid_of(network: Network, nickname: str) -> int:
    (pid,) = [node["pid"] for node in network.nodes() if node["nickname"] == nickname]
    return int(pid)


def state(network: Network, nickname: str) -> dict[str, Any]:
    answer = network.fog("worker", "status", "--dir", network.folder / nickname, "--json")
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def is_gone(network: Network, nickname: str) -> bool:
    return {node["nickname"]: node["state"] for node in network.nodes()}[nickname] == "stopped"


def test_what_runs_finishes_and_what_is_new_goes_elsewhere(
    network: Network, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    job = start(network, "while", log)
    worker = worker_of(log)
    os.kill(pid_of(network, worker), signal.SIGTERM)
    wait_for(lambda: state(network, worker)["state"] != "running", "a worker that is leaving")
    told = state(network, worker)
    assert told["state"] == "leaving"
    assert told["leaving"] > time.time()
    why = network.fog("worker", "why", "--dir", network.folder / worker).stdout.decode()
    assert "takes no new work" in why
    # Not even while clients believe that it takes jobs.
    for _ in range(4):
        answer = network.fog("run", "-v", network.folder.parent / "soon.wat")
        assert answer.returncode == 0, answer.stderr
        assert f"→ {worker}\n" not in answer.stderr.decode().split("circuit:")[-1]
    assert job.wait(PATIENCE) == 0, log.read_text()
    wait_for(lambda: is_gone(network, worker), "the end of the worker")
    assert b"Traceback" not in (network.folder / worker / "log").read_bytes()


def test_a_second_signal_ends_it_at_once(network: Network, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = start(network, "ever", log)
    worker = worker_of(log)
    pid = pid_of(network, worker)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: state(network, worker)["state"] == "leaving", "a worker that is leaving")
    assert job.poll() is None
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: is_gone(network, worker), "the end of the worker")
    job.send_signal(signal.SIGKILL)
    job.wait(PATIENCE)
