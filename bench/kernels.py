"""The kernels: C programs under kernels/, built for this machine and for the sandbox.

Each runs in three ways, one after the other in every round: as machine code (gcc -O2), by bare
wasmtime with fuel, and as a task of a job. What counts is CPU time, so that other work on the
machine disturbs little.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.pool_shell import Job, Sandbox
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task

SIZES = {
    "matmul": 600,
    "nbody": 2_000_000,
    "mandelbrot": 2000,
    "sha256": 300_000,
    "sort": 800_000,
    "spectral": 1200,
}
"""So that each takes some tenths of a second."""
_SOURCES = Path(__file__).with_name("kernels")
_BARE = Path(__file__).with_name("bare_wasmtime.py")
_LIMITS = Limits(fuel=1 << 44, memory=1 << 28, wall_seconds=300.0)


class Wanting(Exception):
    """Something that is measured or measured with is not there; the sentence says what to do."""


@dataclass
class Times:
    """CPU seconds of each round, and the fuel that is counted, by way of running."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    fuel: dict[str, int] = field(default_factory=dict)

    def add(self, way: str, seconds: float) -> None:
        """Note one round."""
        self.rounds.setdefault(way, []).append(seconds)

    def figures(self) -> dict[str, Any]:
        """Return medians in ms, and the medians of each round's ratios."""
        figures: dict[str, Any] = {
            f"{way}_ms": round(statistics.median(times) * 1000, 1)
            for way, times in self.rounds.items()
        }
        for other in ("gcc", "bare"):
            pairs = zip(self.rounds["sandbox"], self.rounds.get(other, []), strict=False)
            if ratios := [ours / theirs for ours, theirs in pairs]:
                figures[f"ratio_to_{other}"] = round(statistics.median(ratios), 3)
        figures["fuel"] = self.fuel["sandbox"]
        figures["gfuel_per_s"] = round(figures["fuel"] / figures["sandbox_ms"] / 1e6, 2)
        return figures


def wasm_kernels(folder: Path) -> dict[str, Path]:
    """Build every kernel for the sandbox. Raises `Wanting`."""
    if importlib.util.find_spec("ziglang") is None:
        raise Wanting("the kernels were not measured: install ziglang 0.17.1 (pip) to build them")
    built = {}
    for name in SIZES:
        built[name] = folder / f"{name}.wasm"
        words = [sys.executable, "-m", "ziglang", "cc", "-O2", "-target", "wasm32-wasi", "-lm"]
        _build([*words, "-o", str(built[name]), str(_SOURCES / f"{name}.c")])
    return built


def native_kernels(folder: Path) -> dict[str, Path]:
    """Build every kernel as machine code. Raises `Wanting`."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise Wanting("nothing was compared with machine code: install gcc")
    built = {}
    for name in SIZES:
        built[name] = folder / name
        _build([compiler, "-O2", "-o", str(built[name]), str(_SOURCES / f"{name}.c"), "-lm"])
    return built


def _build(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wanting(f"a kernel does not build: {done.stderr.strip().splitlines()[-1:]}")


# Nothing else runs meanwhile, so that what is measured may block.
# ruff: noqa: ASYNC240


async def measure(
    sandbox: Sandbox, wasm: dict[str, Path], native: dict[str, Path], repeats: int
) -> dict[str, dict[str, Any]]:
    """Run every kernel in every way, as often as `repeats` says; return figures for each."""
    return {
        name: await _measure(sandbox, name, wasm[name], native.get(name), repeats) for name in wasm
    }


async def _measure(
    sandbox: Sandbox, name: str, wasm: Path, native: Path | None, repeats: int
) -> dict[str, Any]:
    times = Times()
    size = str(SIZES[name])
    task = Task(args=(name, size), limits=_LIMITS)
    outputs = set()
    with _bare(wasm, size) as bare:
        async with sandbox.open_job(wasm.read_bytes()) as job:
            result = await job.run(task)
            if not result.succeeded:
                raise RuntimeError(f"{name} failed: {result.outcome.name} {result.reason}")
            outputs.add(whole(result.stdout).decode())
            times.fuel["sandbox"] = result.fuel
            _ask(bare)  # to warm up
            for _ in range(repeats):
                times.add("sandbox", await _cpu_seconds(job, task, result.fuel))
                seconds, times.fuel["bare"], said = _ask(bare)
                times.add("bare", seconds)
                outputs.add(said)
                if native is not None:
                    seconds, said = _run_natively(native, size)
                    times.add("gcc", seconds)
                    outputs.add(said)
    if len(outputs) != 1:
        raise RuntimeError(f"{name} computes this here and that there: {outputs}")
    return times.figures()


async def _cpu_seconds(job: Job, task: Task, fuel: int) -> float:
    """Run a task that uses so much fuel; it pauses as it ends, and tells its CPU time."""

    def hear(reading: Reading) -> None:
        if reading.is_paused:
            supply.grant(fuel)

    supply = Supply(fuel - 1, hear)
    await job.run(task, supply)
    return supply.reading.cpu_seconds


def _run_natively(program: Path, size: str) -> tuple[float, str]:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    done = subprocess.run([program, size], capture_output=True, check=True)
    return used() - before, done.stdout.decode()


@contextmanager
def _bare(wasm: Path, size: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_BARE), str(wasm), size]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


def _ask(bare: subprocess.Popen[str]) -> tuple[float, int, str]:
    if bare.stdin is None or bare.stdout is None:
        raise RuntimeError("no pipes to bare wasmtime's process")
    bare.stdin.write("\n")
    bare.stdin.flush()
    seconds, fuel, said = json.loads(bare.stdout.readline())
    return seconds, fuel, said
