"""Large data through a network of real processes, whose relays die meanwhile (spec/08 §3.1).

FOG_LARGE_MB: how large; `make large` has 100 MB each way.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system import programs
from tests.system.networks import Network, command, environment, start_network, stop_network

pytestmark = pytest.mark.network
SIZE = int(os.environ.get("FOG_LARGE_MB", "24")) * 1_000_000
MOST_MEMORY = 200_000_000
PATIENCE = 60.0 + SIZE / 500_000
_WAY = re.compile(rb"circuit: (.*)\n")
_PARTIAL = re.compile(r"[0-9a-f]{32}-[0-9]+")


@pytest.fixture
def wide_network(tmp_path: Path) -> Iterator[Network]:
    """A network with relays to spare, and one worker."""
    running = start_network(tmp_path / "network", "--relays", "6", "--workers", "1")
    yield running
    stop_network(running)


class Memory:
    """The most memory that processes have had, by their names."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = pids
        self.most: dict[str, int] = {}

    def look(self) -> None:
        """Take note of those that live; a worker's jailed processes count apart."""
        for name, pid in self.pids.items():
            self._note(name, pid)
            if name.startswith("worker"):
                for child in descendants(pid):
                    self._note(f"{name}, jailed", child)

    def _note(self, name: str, pid: int) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is not None:
            self.most[name] = max(self.most.get(name, 0), int(found[1]) << 10)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def arriving(pid: int) -> dict[int, int]:
    """The files without a name that a process has open: their sizes, by inode."""
    found: dict[int, int] = {}
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.endswith("(deleted)") and target.startswith("/") and "/#" in target:
                about = descriptor.stat()
                found[about.st_ino] = about.st_size
    except OSError:
        pass
    return found


class Run:
    """`fog run` under way, and those who carry it."""

    def __init__(self, network: Network, process: subprocess.Popen[bytes], words: Path) -> None:
        self._pids = {node["nickname"]: int(node["pid"]) for node in network.nodes()}
        self._process = process
        self._words = words
        self._home = network.folder / "client"
        self._deadline = time.monotonic() + PATIENCE
        self.memory = Memory({**self._pids, "client": process.pid})
        self.client, self.worker = process.pid, self._pids["worker1"]

    def until(self, done: Callable[[], bool], what: str) -> None:
        while not done():
            self.memory.look()
            assert time.monotonic() < self._deadline, f"waited in vain for {what}"
            assert self._process.poll() is None, self._words.read_text()
            time.sleep(0.005)

    def kill_relay(self) -> None:
        """End the relay in the middle of the way that the job takes."""
        way = _WAY.findall(self._words.read_bytes())[-1].decode().split(" → ")
        os.kill(self._pids[way[1]], signal.SIGKILL)

    def interrupted(self, pid: int, what: str) -> int:
        """Break the way once a quarter of a transfer is there; return the file that it goes to."""
        known = set(arriving(pid))

        def largest() -> tuple[int, int]:
            new = [(size, inode) for inode, size in arriving(pid).items() if inode not in known]
            return max(new, default=(0, 0))

        self.until(lambda: largest()[0] >= SIZE // 4, what)
        self.kill_relay()
        size, inode = largest()
        assert size < SIZE, f"{what} was over before it could be interrupted"
        return inode

    def until_whole(self, pid: int, inode: int, what: str) -> None:
        """Wait until that very file has all: nothing was sent again."""
        self.until(lambda: arriving(pid).get(inode, 0) >= SIZE, what)

    def end(self) -> int:
        """Wait for the end; return how many sealed bytes were at the client at the break.

        They are in a file that outlives the client, and that nothing may begin anew.
        """
        first = last = self._sealed()
        while self._process.poll() is None:
            self.memory.look()
            size = self._sealed()
            # Once it is whole it goes, and does not come again.
            assert not size or 0 < last <= size, "what had come was begun anew"
            last = size
            assert time.monotonic() < self._deadline, "waited in vain for the end"
            time.sleep(0.005)
        return first

    def _sealed(self) -> int:
        """Return how many bytes of a sealed output are there; 0 if none is coming."""
        sizes = 0
        for path in self._home.glob("jobs/*/*/*"):
            if _PARTIAL.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    sizes += path.stat().st_size
        return sizes


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_large_data_streams_through_small_processes_and_goes_on_where_it_broke(
    wide_network: Network, tmp_path: Path
) -> None:
    program, data, out, words = (tmp_path / name for name in ("p.wat", "data", "out", "words"))
    program.write_text(programs.COPY.replace("4096", "61440"))
    with data.open("wb") as file:
        for _ in range(0, SIZE, 1_000_000):
            file.write(os.urandom(1_000_000))
    options = ("run", "-v", "--output-limit", "256M", "--timeout", "300", program)
    with data.open("rb") as stdin, out.open("wb") as stdout, words.open("wb") as stderr:
        process = subprocess.Popen(
            command(options),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment(wide_network.folder / "client"),
        )
        try:
            run = Run(wide_network, process, words)
            up = run.interrupted(run.worker, "the input to come")
            run.until_whole(run.worker, up, "the rest of the input")
            run.interrupted(run.client, "the output to come")
            assert run.end() >= SIZE // 4
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 7, words.read_text()
    assert digest(out) == digest(data)
    assert len(_WAY.findall(words.read_bytes())) == 3
    figures = (f"{name}: {most / 1e6:.0f} MB\n" for name, most in sorted(run.memory.most.items()))
    sys.stdout.writelines(["most memory, with ", f"{SIZE / 1e6:.0f} MB each way\n", *figures])
    for name, most in run.memory.most.items():
        assert most < MOST_MEMORY, name
