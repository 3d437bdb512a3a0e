"""Renders the example picture on a network of its own, and checks it against a local render."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fogbank.client.errors import ClientError
from fogbank.client.job_shell import open_job_session
from fogbank.demo.picture import Tile, assemble, png, tiles
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.relay.errors import RelayError
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.keys import NodeId
from fogbank.sandbox.data import whole
from fogbank.sandbox.files_shell import write_atomic
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.task import Task
from fogbank.testnet.layout import Size
from fogbank.testnet.up import bring_down, bring_up, client_home

WIDTH, HEIGHT = 640, 480
COLUMNS, ROWS = 4, 4
ATTEMPTS = 5
"""How often a tile is tried before the demo gives up."""
_UP_SECONDS = 60.0
_SCENE = "scene.txt"

Report = Callable[[str], None]


@dataclass(slots=True)
class Progress:
    """The tiles that are still to do, and those that are done."""

    waiting: list[Tile]
    done: dict[Tile, bytes] = field(default_factory=dict)
    failures: int = 0
    fuel: int = 0


def example_folder() -> Path:
    """Return the folder of the example; raise `RelayError` if this is no source checkout."""
    folder = Path(__file__).resolve().parents[3] / "examples" / "render"
    if not (folder / "render.wasm").exists():
        raise RelayError(
            "the demo's example is not part of an installed package: run `make demo` in a clone of "
            "the project"
        )
    return folder


async def run_demo(output: Path, report: Report) -> Path:
    """Do it all; return the path of the picture."""
    example = example_folder()
    module = (example / "render.wasm").read_bytes()
    scene = (example / _SCENE).read_bytes()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fogbank-demo-") as temporary:
        async with _network(Path(temporary) / "network", report) as home:
            report(f"the network is up after {time.monotonic() - begin:.1f} s")
            async with open_user(home, report) as user:
                parts = await _render_on_workers(user, module, scene, report)
    pixels = assemble(WIDTH, HEIGHT, parts)
    report("rendering the same picture locally, to compare")
    if assemble(WIDTH, HEIGHT, await _render_locally(module, scene)) != pixels:
        raise RelayError("the picture from the network differs from the local one")
    report("the network's picture and the local one are the same to the byte")
    path = await trio.to_thread.run_sync(_save, output, pixels)
    report(f"all done in {time.monotonic() - begin:.1f} s")
    return path


def _save(folder: Path, pixels: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "render.png"
    write_atomic(path, png(WIDTH, HEIGHT, pixels), 0o644)
    return path


@asynccontextmanager
async def _network(folder: Path, report: Report) -> AsyncIterator[Home]:
    """Run a network for as long as the block runs."""
    size = Size()
    await bring_up(folder, size, attached=True, seconds=_UP_SECONDS, report=report)
    try:
        yield Home(client_home(folder))
    finally:
        report(f"{bring_down(folder)} processes ended")


def _task(tile: Tile, scene: bytes) -> Task:
    numbers = (tile.left, tile.top, tile.width, tile.height, WIDTH, HEIGHT)
    return Task(args=("render", *map(str, numbers)), files=((_SCENE, scene),))


async def _render_on_workers(
    user: User, module: bytes, scene: bytes, report: Report
) -> dict[Tile, bytes]:
    """Render every tile as a task; each worker has a circuit and a session of its own."""
    progress = Progress(tiles(WIDTH, HEIGHT, COLUMNS, ROWS))
    count = len(progress.waiting)
    report(f"{count} tiles to render")
    async with trio.open_nursery() as nursery:
        for entry in user.workers():
            client = _Renderer(user, module, scene, progress, report)
            nursery.start_soon(client.keep_busy, entry.identity)
    if len(progress.done) < count:
        raise RelayError(f"{count - len(progress.done)} tiles could not be rendered")
    report(f"{count} tiles rendered with {progress.fuel / 1e9:.2f} Gfuel in all")
    return progress.done


@dataclass(slots=True)
class _Renderer:
    """Hands tiles to one worker, and to others when that fails."""

    user: User
    module: bytes
    scene: bytes
    progress: Progress
    report: Report

    async def keep_busy(self, worker: NodeId | None) -> None:
        """Render tiles for as long as there are any."""
        progress = self.progress
        while progress.waiting and progress.failures < ATTEMPTS * COLUMNS:
            try:
                await self._session(worker)
            except (RelayError, ClientError) as error:
                progress.failures += 1
                worker = None
                self.report(f"{error}; trying elsewhere")

    async def _session(self, worker: NodeId | None) -> None:
        """Render tiles over one circuit, in one session."""
        async with (
            self.user.worker_stream(worker) as (stream, path),
            open_job_session(stream, self.module) as job,
        ):
            self.report(f"circuit: {' → '.join(path)}")
            while self.progress.waiting:
                tile = self.progress.waiting.pop(0)
                try:
                    result = await job.run(_task(tile, self.scene))
                    self.progress.done[tile] = _pixels(result)
                finally:
                    if tile not in self.progress.done:
                        self.progress.waiting.append(tile)
                self.progress.fuel += result.fuel
                self.report(
                    f"tile {len(self.progress.done):2} of {COLUMNS * ROWS}: {path[-1]}, "
                    f"{result.fuel / 1e9:.2f} Gfuel"
                )


def _pixels(result: TaskResult) -> bytes:
    if not result.succeeded:
        raise RelayError(f"a tile ended with {result.outcome.name}: {result.reason}")
    return whole(result.stdout)


async def _render_locally(module: bytes, scene: bytes) -> dict[Tile, bytes]:
    """Render every tile in a sandbox of this process's own."""
    done: dict[Tile, bytes] = {}
    todo = tiles(WIDTH, HEIGHT, COLUMNS, ROWS)
    cores = os.cpu_count() or 1

    async with open_sandbox(SandboxConfig(processes=cores, spares=cores)) as sandbox:

        async def render_some() -> None:
            async with sandbox.open_job(module) as job:
                while todo:
                    tile = todo.pop()
                    done[tile] = whole((await job.run(_task(tile, scene))).stdout)

        async with trio.open_nursery() as nursery:
            for _ in range(cores):
                nursery.start_soon(render_some)
    return done
