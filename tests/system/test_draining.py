"""A worker that is told to end lets its tasks finish, and takes no new ones (spec/06 §3, 08 §4)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
  (func (export "_start") (loop $more (br $more))))
"""
FUEL = str(1 << 39)


@dataclass(frozen=True)
class Workers:
    """A network with two workers, whose processes are the test's own."""

    network: Network
    processes: dict[str, subprocess.Popen[bytes]]

    def home(self, nickname: str) -> Path:
        return self.network.folder.parent / nickname

    def start(self, nickname: str) -> None:
        home = self.home(nickname)
        with (home / "log").open("ab") as output:
            # So long that no task is ended by the clock of a busy machine.
            self.processes[nickname] = subprocess.Popen(
                command(("worker", "run", "--dir", home, "--drain", "600")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(home),
            )

    def state(self, nickname: str) -> dict[str, Any]:
        answer = self.network.fog("worker", "status", "--dir", self.home(nickname), "--json")
        told: dict[str, Any] = json.loads(answer.stdout)
        return told


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Each test ends one of them."""
    folder = tmp_path_factory.mktemp("draining")
    (folder / "spin.wat").write_text(SPIN)
    (folder / "soon.wat").write_text(COMPLAIN)
    network = start_network(folder / "network", "--workers", "0", "--authorities", "1")
    here = Workers(network, {})
    try:
        for nickname in ("first", "second"):
            made = network.fog(
                *("worker", "init", "--dir", here.home(nickname), "--nickname", nickname),
                *("--network", network.folder / "client" / "network.toml"),
            )
            assert made.returncode == 0, made.stderr
            here.start(nickname)
        wait_for(lambda: listed(network) >= {"first", "second"}, "two workers")
        yield here
    finally:
        for process in here.processes.values():
            process.kill()
            process.wait()
        stop_network(network)


def listed(network: Network) -> set[str]:
    shown = json.loads(network.fog("network", "show", "--json").stdout)
    return {node["nickname"] for node in shown["nodes"]}


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(POLL_SECONDS)


def start(network: Network, log: Path) -> subprocess.Popen[bytes]:
    """Begin a job that ends when it is cancelled; what it says of its way goes to a file."""
    path = network.folder.parent / "spin.wat"
    with log.open("wb") as output:
        return subprocess.Popen(
            command(("run", "-v", "--fuel", FUEL, "--timeout", "600", path)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(network.folder / "client"),
        )


def cancel(network: Network) -> None:
    """End all jobs that are not over."""
    for line in network.fog("ps", "--json").stdout.splitlines():
        assert network.fog("cancel", json.loads(line)["job"]).returncode == 0


def worker_of(log: Path) -> str:
    """Wait until the job runs; return at which worker."""
    wait_for(lambda: "fuel" in log.read_text(), "a running task")
    return worker_of_line(log.read_text())


def worker_of_line(said: str) -> str:
    """Return the worker that a job went to last."""
    *_, way = [line for line in said.splitlines() if "→" in line]
    return way.rpartition("→")[2].strip()


def test_what_runs_finishes_and_what_is_new_goes_elsewhere(
    workers: Workers, tmp_path: Path
) -> None:
    network, log = workers.network, tmp_path / "log"
    job = start(network, log)
    worker = worker_of(log)
    process = workers.processes[worker]
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: workers.state(worker)["state"] != "running", "a worker that is leaving")
    told = workers.state(worker)
    assert told["state"] == "leaving"
    assert told["leaving"] > time.time()
    why = network.fog("worker", "why", "--dir", workers.home(worker)).stdout.decode()
    assert "takes no new work" in why
    # Not even while clients believe that it takes jobs.
    for _ in range(3):
        answer = network.fog("run", "-v", network.folder.parent / "soon.wat")
        assert answer.returncode == 0, answer.stderr
        assert worker_of_line(answer.stderr.decode()) != worker
    assert job.poll() is None
    assert workers.state(worker)["state"] == "leaving"
    cancel(network)
    job.wait(PATIENCE)
    assert process.wait(PATIENCE) == 0
    assert workers.state(worker)["state"] == "stopped"
    assert b"Traceback" not in (workers.home(worker) / "log").read_bytes()


def test_a_second_signal_ends_it_at_once(workers: Workers, tmp_path: Path) -> None:
    network, log = workers.network, tmp_path / "log"
    job = start(network, log)
    worker = worker_of(log)
    process = workers.processes[worker]
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: workers.state(worker)["state"] == "leaving", "a worker that is leaving")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    cancel(network)
    job.wait(PATIENCE)
