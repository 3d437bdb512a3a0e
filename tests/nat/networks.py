"""A network of real processes outside, and one worker at home, behind a router."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fogbank.directory.addresses import Address
from fogbank.directory.descriptor import Role
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
)
from fogbank.nodes.home import Home, Settings
from tests.nat.spaces import Spaces

RELAYS = 5
PORT = 9001
INTERVAL = 60
PATIENCE = 240.0
_POLL_SECONDS = 0.3
_WARMUP = (20, 3)
"""Rounds, and their seconds, with which the network begins."""


@dataclass
class Network:
    """Its folder has one for each node, and one for a client who is outside."""

    folder: Path
    spaces: Spaces
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str, nickname: str, space: str) -> None:
        """Start a node."""
        home = self.folder / nickname
        command = [*self.spaces.enter(space), *fog(role, "run", "--dir", home)]
        with (home / "log").open("ab") as output:
            self.processes[nickname] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def signal(self, nickname: str, number: signal.Signals) -> None:
        """Send a signal to a node's process."""
        self.processes[nickname].send_signal(number)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the client outside."""
        return subprocess.run(
            [*self.spaces.enter(self.spaces.outside), *fog(*arguments)],
            env={**os.environ, "FOGBANK_HOME": str(self.folder / "client")},
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )

    def consensus(self) -> int:
        """Return the interval of the newest consensus, counted from any time.

        The network's first ones are shorter, so that it comes up soon on a busy machine, too.
        """
        shown = json.loads(self.run("network", "show", "--json").stdout)
        when = time.strptime(shown["valid_after"], "%Y-%m-%dT%H:%M:%SZ")
        return int(time.mktime(when)) // INTERVAL

    def reach_worker(self, program: Path) -> None:
        """Have a job done by the worker, as soon as it can be reached."""
        deadline = time.monotonic() + PATIENCE
        while (answer := self.run("run", program)).returncode:
            assert time.monotonic() < deadline, (answer.stderr.decode(), self.log("worker1"))
            time.sleep(_POLL_SECONDS)

    def log(self, nickname: str) -> str:
        """Return what a node has logged."""
        return (self.folder / nickname / "log").read_text(errors="replace")

    def end(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fog(*arguments: str | Path) -> list[str]:
    """Return a `fog` command."""
    return [sys.executable, "-m", "fogbank", *map(str, arguments)]


@contextmanager
def network_outside(folder: Path, spaces: Spaces) -> Iterator[Network]:
    """Start a network outside, with a worker at home."""
    now = time.time()
    pins, nodes = [], []
    names = [("authority", 1), *(("relay", number + 1) for number in range(RELAYS)), ("worker", 1)]
    for count, (name, number) in enumerate(names, 1):
        role, nickname = Role[name.upper()], f"{name}{number}"
        worker = role is Role.WORKER
        addresses = () if worker else (Address(f"10.{count}.0.1", PORT),)
        for address in addresses:
            spaces.add_host(address.host)
        source = None if worker else f"10.{count}.0.1"
        settings = Settings(role, nickname, addresses, cores=1, source=source)
        store = Home(folder / nickname).create(settings, None, None, now)
        nodes.append((name, nickname, spaces.home if worker else spaces.outside))
        if role is Role.AUTHORITY:
            pins.append((store, AuthorityPin(store.identity, nickname, addresses)))
    timing = Timing(int(time.time()) + 3, 500, INTERVAL, *_WARMUP)
    document = NetworkDocument(
        os.urandom(32), "behind a router", 1, tuple(pin for _, pin in pins), timing, test=True
    )
    signed = SignedNetwork(document)
    for store, _ in pins:
        signed = signed.sign(store.identity_key())
    for nickname in (*(nickname for _, nickname, _ in nodes), "client"):
        Home(folder / nickname).set_network(dump_network(signed))
    network = Network(folder, spaces)
    try:
        for name, nickname, space in nodes:
            network.start(name, nickname, space)
        yield network
    finally:
        network.end()
