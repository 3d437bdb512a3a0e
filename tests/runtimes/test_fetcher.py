"""A worker that gets what the network accepts from other workers, at its operator's wish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.errors import RuntimeUnavailable
from fogbank.client.topology import Topology
from fogbank.directory.runtimes import Runtime
from fogbank.nodes import runtime_fetcher
from fogbank.nodes.held_runtimes import HeldRuntimes
from fogbank.nodes.runtime_fetcher import RETRY_SECONDS, RuntimeFetcher
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeSpec
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused, RuntimeStore
from tests.client import networks
from tests.runtimes.test_held import accepting

OWN = b"w" * 32


class Shelf(RuntimeStore):
    """A store that takes bytes which only say what they are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: list[RuntimeSpec] = []

    def held(self) -> tuple[RuntimeSpec, ...]:
        return tuple(self.kept)

    def add(self, data: bytes) -> RuntimeSpec:
        for spec in CATALOGUE:
            if data == spec.name.encode():
                self.kept.append(spec)
                return spec
        raise RuntimeRefused("this is no runtime")


class Network:
    """Workers that give what they are told to give."""

    def __init__(self) -> None:
        self.gives: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def fetch(
        self,
        circuits: object,
        topology: object,
        runtime: Runtime,
        say: Callable[[str], None],
        exclude: frozenset[bytes],
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        assert isinstance(topology, Topology)
        assert circuits is not None
        assert exclude == frozenset({OWN}), "it would ask itself"
        say(f"asked for {runtime.name}")
        self.asked.append(runtime.name)
        if runtime.name not in self.gives:
            raise RuntimeUnavailable("nobody gives it")
        return self.gives[runtime.name]

    def circuits(self) -> Any:
        return trio.CancelScope()


async def test_what_is_missing_is_got_and_what_cannot_be_had_is_left_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    shelf, network = Shelf(tmp_path), Network()
    monkeypatch.setattr(runtime_fetcher, "fetch_runtime", network.fetch)
    consensus = accepting(*CATALOGUE)
    held = HeldRuntimes(shelf, lambda: consensus)
    builder: Any = network
    fetcher = RuntimeFetcher(held, builder, lambda: networks.topology([]), OWN)
    network.gives = {"javascript": b"javascript", "python": b"another module"}

    async def look() -> list[str]:
        network.asked.clear()
        await fetcher.look()
        held.look()
        return network.asked

    assert await look() == ["javascript", "python"]
    assert [spec.name for spec in shelf.kept] == ["javascript"]
    mock_clock.jump(RETRY_SECONDS - 1)
    assert await look() == []
    network.gives = {}
    mock_clock.jump(1)
    assert await look() == ["python"]
    network.gives = {"python": b"python"}
    mock_clock.jump(RETRY_SECONDS)
    assert await look() == ["python"]
    mock_clock.jump(RETRY_SECONDS)
    assert await look() == []
    assert len(held.digests) == 2


async def test_without_a_consensus_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    monkeypatch.setattr(runtime_fetcher, "fetch_runtime", network.fetch)
    held = HeldRuntimes(Shelf(tmp_path), lambda: None)
    builder: Any = network
    await RuntimeFetcher(held, builder, lambda: None, OWN).look()
    assert network.asked == []
