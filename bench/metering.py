"""The metering benchmark: what counting costs, how far a pause overshoots, how soon a cancel works.

    make bench-metering [ARGS=--json]

For each kind of program: fuel per second of CPU time; the CPU time beside a plain call of bare
wasmtime with the same engine (1 is none); how much a program uses past the fuel that it was
granted, in units and in the time that they take (the worst of several grants); the time from a
cancel to its answer through the pool, the worst of several.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace

import trio
import wasmtime

from fogbank.sandbox import execution
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.meter import Meter
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import module_from_file

FUEL = 1_000_000_000
GRANTS = (200_000_001, 400_000_007, 600_000_011)
CANCELS = 5
CANCEL_AFTER = 0.5
LIMITS = Limits(fuel=FUEL, memory=1 << 30, wall_seconds=120.0)
CALL = '(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))'
CHASE = """(local i32 i32) (loop
 (local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 1664525)) (i32.const 1013904223)))
 (local.set 1 (i32.load (i32.and (i32.xor (local.get 0) (local.get 1)) (i32.const 0xffffffc))))
 (br 0))"""
FILL = "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const %d)) (br 0))"
SUMS = (
    "(local i64 i64) (loop "
    + "(local.set 1 (i64.xor (i64.add (local.get 1) (i64.const 3)) (local.get 0)))" * 30
    + "(local.set 0 (i64.add (local.get 0) (i64.const 1))) (br 0))"
)
CALLS = "(loop (drop (call $random (i32.const 0) (i32.const 67108864))) (br 0))"
PROGRAMS = {
    "an empty loop": ("", 1, "(loop (br 0))"),
    "sums": ("", 1, SUMS),
    "loads that miss every cache, 256 MiB": ("", 4096, CHASE),
    "memory.fill of 16 MiB": ("", 256, FILL % (16 << 20)),
    "memory.fill of 256 MiB": ("", 4096, FILL % (256 << 20)),
    "host calls on 64 MiB": (CALL, 1024, CALLS),
}
"""What each imports, its pages of memory, and what it does."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one program; None for what it has no counterpart of."""

    program: str
    fuel_per_second: float
    beside_bare: float | None
    overshoot_fuel: int
    overshoot_ms: float
    cancel_ms: float


class _Late(Meter):
    """A meter that remembers how much had been used when a grant's end was seen."""

    worst = 0

    def look(self, used: int) -> None:
        """Note what was used past the grant."""
        if self.granted < self.limit:
            _Late.worst = max(_Late.worst, used - self.granted)
        super().look(used)


class _All:
    """A line that grants everything at the first pause."""

    def progress(self, fuel: int) -> None:
        """Nobody listens."""

    def pause(self, _fuel: int) -> int:
        """Grant all that there is."""
        return FUEL


def bare(engine: wasmtime.Engine, module: wasmtime.Module) -> float:
    """Return the CPU time of a plain call that uses up its fuel, in an instance of its own."""
    began = time.process_time()
    store = wasmtime.Store(engine)
    store.set_fuel(FUEL)
    start = wasmtime.Linker(engine).instantiate(store, module).exports(store)["_start"]
    try:
        start(store)  # type: ignore[operator]
    except wasmtime.Trap:
        store.close()
    return time.process_time() - began


def measure(name: str, engine: wasmtime.Engine) -> Row:
    """Measure a program in this process."""
    imports, pages, body = PROGRAMS[name]
    code = compile_module(engine, module_of(imports, pages, body))
    runner = Runner(engine)
    runner.load(code)
    task = Task(limits=LIMITS)
    times, plain = [], []
    for _ in range(3):
        began = time.process_time()
        runner.run(task)
        times.append(time.process_time() - began)
        if not imports:
            plain.append(bare(engine, wasmtime.Module.deserialize(engine, code)))
    speed = FUEL / min(times)
    _Late.worst = 0
    for grant in GRANTS:
        runner.run(task, grant, _All())
    late = _Late.worst
    ratio = min(times) / min(plain) if plain else None
    return Row(name, speed, ratio, late, late / speed * 1000, 0.0)


def module_of(imports: str, pages: int, body: str) -> bytes:
    """Return the module of a program."""
    text = f'(module {imports} (memory (export "memory") {pages}) (func (export "_start") {body}))'
    return module_from_file(text.encode())


async def cancels(name: str) -> float:
    """Return the worst time, in ms, from a cancel to the end of the job's `run`."""
    config = SandboxConfig(processes=1, spares=0, ceilings=replace(LIMITS, fuel=1 << 44))
    task = Task(limits=config.ceilings)
    worst = 0.0
    async with (
        open_sandbox(config) as sandbox,
        sandbox.open_job(module_of(*PROGRAMS[name])) as job,
    ):
        for _ in range(CANCELS):
            cancelled = trio.current_time() + CANCEL_AFTER
            with trio.move_on_at(cancelled):
                await job.run(task)
            worst = max(worst, trio.current_time() - cancelled)
    return worst * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    execution.Meter = _Late  # type: ignore[misc]
    engine = make_engine()
    rows = [replace(measure(name, engine), cancel_ms=trio.run(cancels, name)) for name in PROGRAMS]
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(f"{'program':38}{'Gfuel/s':>9}{'beside':>8}{'overshoot':>26}{'cancel':>10}")
    for row in rows:
        beside = f"{row.beside_bare:.3f}" if row.beside_bare else "-"
        over = f"{row.overshoot_fuel:,} ({row.overshoot_ms:.3f} ms)"
        print(
            f"{row.program:38}{row.fuel_per_second / 1e9:9.2f}{beside:>8}{over:>26}"
            f"{row.cancel_ms:7.1f} ms"
        )


if __name__ == "__main__":
    main()
