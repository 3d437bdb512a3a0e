"""Relays and a client that downloads through two of them, while someone attacks the first.

What an attack takes from the client is measured against the same client in the same run, before.
An attacker on this machine also takes processor time from all others, which one elsewhere would
not; so the client is measured a second time while a process burns as much processor time as the
attacker did, and attacks nobody. Both ratios are reported; the larger one counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.errors import RelayError
from fogbank.relay.link.tls_shell import TlsTransport
from fogbank.relay.node_shell import Node, NodeConfig
from tests.abuse.network import HOSTS, PORT, SEEDS, hop, wall_clock
from tests.relay.onion import NETWORK

ROOT = Path(__file__).parents[2]
CLIENT = "127.203.0.1"
ATTACK_SECONDS = 3.0
MEASURE_SECONDS = 1.5
CALM_SECONDS = 30.0
LONGER = {"create_flood_from_many_addresses": 8.0, "vote_spam": 6.0, "compression_bombs": 6.0}
"""Seconds of attacks that take longer than others."""
BUILD_PAUSE = 0.1
ON_BUILDING = {"create_flood_from_many_addresses"}
"""Attacks on the building of circuits: others build some meanwhile."""
SETTLE_SECONDS = {"sniper": 4.0, "create_flood_from_many_addresses": 1.5}
"""What is measured begins later where an attack begins as honest downloads do."""


def start(log: Path, *arguments: str) -> subprocess.Popen[str]:
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def start_relay(name: str, folder: Path) -> subprocess.Popen[str]:
    process = start(folder / f"{name}.log", "tests.abuse.relay_process")
    config = {"seed": SEEDS[name], "host": HOSTS[name], "port": PORT}
    config["store"] = str(folder / f"{name}.sqlite")
    assert process.stdin is not None
    process.stdin.write(json.dumps(config) + "\n")
    process.stdin.flush()
    assert json.loads(line(process))["pid"] == process.pid
    return process


def memory(process: subprocess.Popen[str], what: str = "VmRSS") -> float:
    """Return resident MiB, now or (`VmHWM`) at most."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = next(each for each in status.splitlines() if each.startswith(what + ":"))
    return int(found.split()[1]) / 1024


def forget_most_memory(process: subprocess.Popen[str]) -> None:
    """Have `VmHWM` begin anew."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def check_logs(folder: Path) -> None:
    """Check that no process met with a fault of its own."""
    for log in folder.glob("*.log"):
        text = log.read_text(encoding="utf-8")
        assert "Traceback" not in text, text


@dataclass
class Report:
    """What an attack did. Rates in MB/s, memory in MiB, times in seconds."""

    attack: str
    did: dict[str, int]
    before: float
    during: float
    beside_burner: float
    after: float
    calm_after: float
    idle_memory: float
    most_memory: float
    builds: list[float]
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> float:
        """The share of their throughput that others kept."""
        return max(self.during / self.before, self.during / self.beside_burner)

    def __str__(self) -> str:
        return (
            f"{self.attack}: {self.before:.0f} MB/s before, {self.during:.0f} during "
            f"({self.during / self.before:.0%}; of {self.beside_burner:.0f} beside a burner "
            f"{self.during / self.beside_burner:.0%}), {self.after:.0f} after; normal after "
            f"{self.calm_after:.1f} s; {self.idle_memory:.0f} MiB idle, at most "
            f"{self.most_memory:.0f}; {self.built}{self.did}"
        )

    @property
    def built(self) -> str:
        if not self.builds:
            return ""
        middle = sorted(self.builds)[len(self.builds) // 2]
        return (
            f"{len(self.builds)} circuits built in {middle:.2f} s, at most {max(self.builds):.2f}; "
        )


class Scene:
    """The relays' processes, the honest client, and its never-ending download."""

    def __init__(
        self, folder: Path, client: Node, processes: dict[str, subprocess.Popen[str]]
    ) -> None:
        self._folder = folder
        self._client = client
        self._processes = processes
        self._received = 0
        self.broken = 0
        self.builds: list[float] = []
        """How long circuits took to build during an attack that is on building them, in seconds."""

    async def download(self, circuit: Circuit) -> None:
        """Download through `circuit` until cancelled; a break is counted, and mended."""
        while True:
            try:
                stream = await circuit.open_stream("source")
                await stream.send_all((1 << 50).to_bytes(8, "big"))
                while data := await stream.receive_some(1 << 18):
                    self._received += len(data)
            except RelayError:
                self.broken += 1
                circuit = await self.build()

    async def build(self) -> Circuit:
        return await self._client.build([hop("victim"), hop("end")])

    async def keep_building(self) -> None:
        """Build circuits of two hops, one after the other, until cancelled."""
        while True:
            begin = time.perf_counter()
            circuit = await self.build()
            self.builds.append(time.perf_counter() - begin)
            circuit.close()
            await trio.sleep(BUILD_PAUSE)

    async def rate(self, seconds: float = MEASURE_SECONDS) -> float:
        """Return the client's throughput in MB/s."""
        begin, before = time.perf_counter(), self._received
        await trio.sleep(seconds)
        return (self._received - before) / 1e6 / (time.perf_counter() - begin)

    async def usage(self) -> dict[str, Any]:
        """Ask the victim what it holds."""
        circuit = await self._client.build([hop("victim")])
        stream = await circuit.open_stream("usage")
        data = bytearray()
        while part := await stream.receive_some():
            data += part
        circuit.close()
        held: dict[str, Any] = json.loads(data)
        return held

    async def beside(self, name: str) -> tuple[float, float, dict[str, Any]]:
        """Attack, and return the client's rate meanwhile, the most memory, and the end's word."""
        victim = self._processes["victim"]
        settle, attack = (
            SETTLE_SECONDS.get(name, ATTACK_SECONDS / 6),
            LONGER.get(name, ATTACK_SECONDS),
        )
        seconds = settle + attack
        attacker = start(self._folder / "attacker.log", "tests.abuse.attacker", name, str(seconds))
        try:
            assert await trio.to_thread.run_sync(line, attacker) == "ready\n"
            await trio.sleep(settle)
            async with trio.open_nursery() as nursery:
                if name in ON_BUILDING:
                    nursery.start_soon(self.keep_building)
                rate = await self.rate(attack * 2 / 3)
                nursery.cancel_scope.cancel()
            said = await trio.to_thread.run_sync(line, attacker)
            if not said:
                check_logs(self._folder)
            end = json.loads(said)
            end["share"] = min(1.0, end["cpu"] / seconds)
        finally:
            attacker.kill()
            await trio.to_thread.run_sync(attacker.communicate)
        return rate, memory(victim, "VmHWM"), end

    async def calm(self, strangers: int, floor: float) -> tuple[float, float]:
        """Wait until all is as it was; return how long it took, and the client's rate then."""
        begin = time.perf_counter()
        while True:
            rate = await self.rate(0.5)
            held = await self.usage()
            passed = time.perf_counter() - begin
            quiet = not held["half_open"] and not held["effort"]
            if held["strangers"] <= strangers and quiet and rate >= floor:
                return passed, rate
            assert passed < CALM_SECONDS, (held, rate, floor)

    async def attack(self, name: str) -> Report:
        """Measure one attack."""
        await self.rate(0.5)
        held = await self.usage()
        victim = self._processes["victim"]
        # From here on VmHWM is the most since now.
        forget_most_memory(victim)
        idle, before = memory(victim), await self.rate()
        during, most, end = await self.beside(name)
        calm_after, after = await self.calm(held["strangers"], before / 2)
        beside_burner, _, _ = await self.beside(f"burn={end['share']:.2f}")
        return Report(
            name, end["did"], before, during, beside_burner, after, calm_after, idle, most,
            self.builds, await self.usage(),
        )  # fmt: skip


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Start everything, and end it."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in HOSTS:
            processes[name] = start_relay(name, folder)
        async with trio.open_nursery() as nursery:
            config = NodeConfig(NETWORK, TlsTransport(CLIENT), clock=wall_clock)
            client = Node(config)
            await nursery.start(client.run)
            here = Scene(folder, client, processes)
            nursery.start_soon(here.download, await here.build())
            yield here
            nursery.cancel_scope.cancel()
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    check_logs(folder)
