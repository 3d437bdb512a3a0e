"""Authorities come, are replaced and go while processes run that nobody restarts (spec/05 §1.5)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fogbank.nodes.home import Home
from tests.system import programs
from tests.system.networks import Network, command, environment, fog, start_network, stop_network
from tests.system.test_living_network import PATIENCE, listed, wait_for

pytestmark = pytest.mark.network
OLD = ("authority1", "authority2", "authority3", "authority4")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    running = start_network(tmp_path / "network", "--relays", "4", "--workers", "1")
    yield running
    stop_network(running)


def said(*arguments: str | Path) -> None:
    answer = fog(*arguments)
    assert answer.returncode == 0, answer.stderr.decode()


def newcomer(network: Network, name: str, host: str) -> Path:
    """Make the folder of one more authority."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        address = f"{host}:{probe.getsockname()[1]}"
    home = network.folder / name
    said("authority", "init", "--dir", home, "--nickname", name, "--address", address)
    return home


@contextmanager
def running(role: str, home: Path, *arguments: str | Path) -> Iterator[None]:
    """A node's process, until the block ends."""
    with (home / "log").open("ab") as output:
        process = subprocess.Popen(
            command((role, "run", "--dir", home, *arguments)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(home),
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def amended(
    network: Network, before: Path, number: int, change: list[str | Path], signers: tuple[str, ...]
) -> Path:
    """Write and sign the next version of the network's file, in force some seconds from now."""
    after = network.folder.parent / f"network-{number}.toml"
    said("network", "amend", before, after, *change)
    for name in signers:
        said("network", "sign", after, "--previous", before, "--dir", network.folder / name)
    return after


def version(home: Path) -> int:
    return Home(home).network().version


def authorities(network: Network) -> set[str]:
    return {name for name, node in listed(network).items() if node["role"] == "authority"}


def departed(network: Network) -> set[str]:
    return {name for name, node in listed(network).items() if node["role"] == "departed"}


def test_nobody_copies_a_file_to_relays_workers_and_users(network: Network, tmp_path: Path) -> None:
    """One authority is added, then one replaced and one removed; two nodes are away meanwhile."""
    folder = network.folder
    processes = {node["nickname"]: node["pid"] for node in network.nodes()}
    os.kill(processes.pop("relay4"), signal.SIGTERM)
    sleeper = tmp_path / "sleeper"
    shutil.copytree(folder / "client", sleeper)
    fifth = newcomer(network, "authority5", "127.201.0.1")
    sixth = newcomer(network, "authority6", "127.202.0.1")
    first = folder / "client" / "network.toml"
    second = amended(
        network, first, 2, ["--add", fifth, "--start-in", "20"], (*OLD[:3], "authority5")
    )
    change: list[str | Path] = ["--add", sixth, "--remove", "authority3", "--remove", "authority4"]
    third = amended(
        network, second, 3, [*change, "--start-in", "30"],
        ("authority1", "authority2", "authority4", "authority5", "authority6"),
    )  # fmt: skip
    with ExitStack() as stack:
        # Two operators hand both files in, the others' authorities fetch them from these.
        for name in OLD[:2]:
            for text in (second, third):
                said("join", text, "--dir", folder / name)
        stack.enter_context(running("authority", fifth, "--network", second))
        stack.enter_context(running("authority", sixth, "--network", third))
        wait_for(lambda: "authority5" in authorities(network), "the authorities of version 2")
        last = {"authority1", "authority2", "authority5", "authority6"}
        wait_for(lambda: authorities(network) == last, "the authorities of version 3")
        homes = [folder / name for name in (*processes, "authority5")]
        wait_for(lambda: all(version(home) == 3 for home in homes), "version 3 with everyone")
        # Whoever was away for both amendments catches up through both.
        stack.enter_context(running("relay", folder / "relay4"))
        show = network.fog("network", "show", "--json", home=sleeper)
        assert show.returncode == 0, show.stderr.decode()
        assert version(sleeper) == version(folder / "client") == 3
        wait_for(lambda: "relay4" in listed(network), "the relay that was away")
        assert version(folder / "relay4") == 3
        program = tmp_path / "program.wat"
        program.write_text(programs.COPY)
        answer = network.fog("run", program, stdin=b"still here", home=sleeper)
        assert (answer.returncode, answer.stdout) == (7, b"still here"), answer.stderr.decode()
        gone = {"authority3", "authority4"}
        wait_for(lambda: departed(network) == gone, "those who left, listed as that")
        answer = network.fog("authority", "status", "--dir", folder / "authority3")
        assert b"leaving: serves the mint's series" in answer.stdout, answer.stdout
        states = {node["nickname"]: (node["pid"], node["state"]) for node in network.nodes()}
    for name, process in processes.items():
        assert states[name] == (process, "running")
        assert b"Traceback" not in (folder / name / "log").read_bytes()
