"""The sandbox benchmark: what a task, a job, a host call and a script cost, and how fast code runs.

    make bench-sandbox [ARGS="--json --repeats 9"]

Tasks and jobs go through the pool, as a worker's do: jailed processes, and the frames to and from
them. Kernels in C are compared with machine code (gcc -O2) and with bare wasmtime that counts fuel
too, all in one run, by CPU time and the median of each round's ratio. Figures on a shared machine
are worth what their ratios are worth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import kernels
import trio
from figures import Goal
from guests import HELLO
from kernels import Wanting

from fogbank.runtimes import RuntimeUnobtainable, cache_folder, obtain
from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.outcome import Result
from fogbank.sandbox.pool_shell import Job, Sandbox, open_sandbox
from fogbank.sandbox.runtimes.catalogue import CATALOGUE
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import module_from_file

CORES = 2
TASKS = 2000
JOBS = 400
IN_FLIGHT = 8
CALLS = 100_000
SCRIPTS = {"python": b"print(1)\n", "javascript": b"console.log(1)\n"}
SCRIPT_RUNS = 30
SCRIPT_SECONDS = 10.0
"""No more runs of a script are begun after so long."""
COLD_RUNS = 3
_LIMITS = Limits(fuel=1 << 40, memory=1 << 28, wall_seconds=120.0)

CALLING = b"""(module
 (import "wasi_snapshot_preview1" "clock_time_get" (func $call (param i32 i64 i32) (result i32)))
 (memory (export "memory") 1)
 (func (export "_start") (local $left i32)
  (local.set $left (i32.const %d))
  (loop $again
   (drop (call $call (i32.const 1) (i64.const 0) (i32.const 0)))
   (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"""


GOALS = {
    "tasks_per_s": Goal("tasks of one job", "/s", least=2000),
    "jobs_per_s": Goal(f"jobs, {CORES} processes, {IN_FLIGHT} at once", "/s", least=400),
    "job_ms": Goal("one job alone, from module to output", "ms"),
    "cold_ms": Goal("a module of 1 MB, never seen: compiled and run", "ms", most=500),
    "python_first_ms": Goal("Python: print(1), the first time", "ms"),
    "python_ms": Goal("Python: print(1), runtime warm", "ms", most=15),
    "javascript_ms": Goal("JavaScript: console.log(1), runtime warm", "ms"),
    "python_jobs_per_s": Goal("Python: print(1), jobs of their own", "/s"),
    "host_call_us": Goal("a host call", "us"),
}


def large_module(size: int, variant: int) -> bytes:
    """Return a program of about `size` bytes, unlike that of any other `variant`."""
    body = "".join(
        f"(local.set $x (i64.add (i64.mul (local.get $x) (i64.const {7919 * n + variant}))"
        f" (i64.load (i32.and (i32.wrap_i64 (local.get $x)) (i32.const {0xFFF8 >> n % 4})))))"
        f"(if (i64.gt_s (local.get $x) (i64.const {n})) (then (local.set $x"
        f" (i64.xor (local.get $x) (i64.const {n * variant + 1})))))"
        for n in range(100)
    )
    function = f"(func (param $x i64) (result i64) (loop {body}) (local.get $x))"
    one = len(module_from_file(f"(module (memory 1) {function})".encode()))
    functions = function * (size // one + 1)
    calls = f"(drop (call {size // one} (i64.const 1)))"
    text = f'(module (memory (export "memory") 1) {functions} (func (export "_start") {calls}))'
    return module_from_file(text.encode())


async def run(job: Job, task: Task) -> Result:
    """Run a task that must succeed."""
    result = await job.run(task)
    if not result.succeeded:
        raise RuntimeError(
            f"{result.outcome.name}: {result.reason} {whole(result.stderr).decode()}"
        )
    return result


async def tasks_per_second(sandbox: Sandbox) -> float:
    """Run many tasks of one job, one after the other."""
    task = Task(limits=_LIMITS)
    async with sandbox.open_job(module_from_file(HELLO)) as job:
        for _ in range(TASKS // 10):  # to warm up
            await run(job, task)
        begin = time.perf_counter()
        for _ in range(TASKS):
            await run(job, task)
        return TASKS / (time.perf_counter() - begin)


async def jobs_per_second(
    sandbox: Sandbox, program: Any, task: Task, count: int, at_once: int
) -> float:
    """Open many jobs, each for one task, several at once."""

    async def some(jobs: int) -> None:
        for _ in range(jobs):
            async with sandbox.open_job(program) as job:
                await run(job, task)

    await some(count // 10)  # to warm up
    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(some, count // at_once)
    return count // at_once * at_once / (time.perf_counter() - begin)


async def host_call(sandbox: Sandbox) -> float:
    """Return what reading the clock costs a program, in microseconds."""
    times = []
    for calls in (1, CALLS):
        async with sandbox.open_job(module_from_file(CALLING % calls)) as job:
            task = Task(limits=_LIMITS)
            times.append(min([(await run(job, task)).seconds for _ in range(5)]))
    return (times[1] - times[0]) / (CALLS - 1) * 1e6


async def cold(sandbox: Sandbox) -> float:
    """Return the median of the ms that it takes to compile and run a module never seen."""
    times = []
    for variant in range(1, COLD_RUNS + 1):
        module = large_module(1_000_000, variant)
        begin = time.perf_counter()
        async with sandbox.open_job(module) as job:
            await run(job, Task(limits=_LIMITS))
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


async def scripts(sandbox: Sandbox, held: list[str], result: dict[str, Any]) -> None:
    """Measure a script of one line in each runtime: a job of its own each time."""
    for spec in CATALOGUE:
        if spec.name not in held:
            continue
        task = Task(args=(spec.entry,), files=((spec.entry, SCRIPTS[spec.name]),), limits=_LIMITS)
        times: list[float] = []
        while len(times) < 2 or (len(times) < SCRIPT_RUNS and sum(times) < SCRIPT_SECONDS * 1000):
            begin = time.perf_counter()
            async with sandbox.open_job(spec.id) as job:
                await run(job, task)
            times.append((time.perf_counter() - begin) * 1000)
        # The first makes the runtime warm.
        result[f"{spec.name}_first_ms"], *warm = times
        result[f"{spec.name}_ms"] = statistics.median(warm)
        if spec.name == "python":
            count = CORES * max(1, len(warm) // CORES)
            result["python_jobs_per_s"] = await jobs_per_second(
                sandbox, spec.id, task, count, CORES
            )


def obtainable(folder: Path, wanting: list[str]) -> list[str]:
    """Put the runtimes into a store, and return those that can be had."""
    held = []
    for name in SCRIPTS:
        try:
            RuntimeStore(folder).add(obtain(name, cache_folder()))
        except RuntimeUnobtainable as error:
            wanting.append(f"{name} was not measured: {error}")
        else:
            held.append(name)
    return held


def built(make: Any, folder: Path, wanting: list[str]) -> dict[str, Path]:
    """Build kernels, or note what is wanting for that."""
    try:
        return dict(make(folder))
    except Wanting as error:
        wanting.append(str(error))
        return {}


async def through_the_pool(sandbox: Sandbox, result: dict[str, Any]) -> None:
    """Measure tasks and jobs of small programs and of a large one, and a host call."""
    hello = module_from_file(HELLO)
    task = Task(limits=_LIMITS)
    result["tasks_per_s"] = await tasks_per_second(sandbox)
    result["jobs_per_s"] = await jobs_per_second(sandbox, hello, task, JOBS, IN_FLIGHT)
    result["job_ms"] = 1000 / await jobs_per_second(sandbox, hello, task, JOBS // 4, 1)
    result["cold_ms"] = await cold(sandbox)
    result["host_call_us"] = await host_call(sandbox)


async def measure(options: argparse.Namespace, folder: Path, wanting: list[str]) -> dict[str, Any]:
    """Run every measurement; `wanting` gets a sentence for each that could not be."""
    wasm = built(kernels.wasm_kernels, folder, wanting)
    native = built(kernels.native_kernels, folder, wanting) if wasm else {}
    result: dict[str, Any] = {}
    config = SandboxConfig(processes=CORES, spares=CORES)
    async with open_sandbox(config) as sandbox:
        if not options.kernels:
            await through_the_pool(sandbox, result)
        result["kernels"] = await kernels.measure(sandbox, wasm, native, options.repeats)
    if options.kernels:
        return result
    held = obtainable(folder / "runtimes", wanting)
    # Apart: a sandbox that holds runtimes begins at once to compile them.
    async with open_sandbox(config, RuntimeStore(folder / "runtimes")) as sandbox:
        await scripts(sandbox, held, result)
    return result


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table, with goals."""
    if "tasks_per_s" in result:
        print(f"{'through the pool':44} {'measured':>10} {'':8} goal")
        for name, goal in GOALS.items():
            print(goal.words(result.get(name)))
        print()
    if not result["kernels"]:
        return
    print(
        f"{'kernels, CPU ms (medians)':26} {'gcc -O2':>8} {'bare':>8} {'sandbox':>8} {'to gcc':>8}"
        f" {'to bare':>8} {'Gfuel/s':>8}"
    )
    for name, row in result["kernels"].items():
        print(
            f"{name:26} {row.get('gcc_ms', '-'):>8} {row['bare_ms']:>8} {row['sandbox_ms']:>8}"
            f" {row.get('ratio_to_gcc', '-'):>8} {row['ratio_to_bare']:>8}"
            f" {row['gfuel_per_s']:>8}"
        )
    ratios = [row["ratio_to_bare"] for row in result["kernels"].values()]
    print(
        Goal("kernels to bare wasmtime with fuel, median", "x", most=1.05).words(
            statistics.median(ratios)
        )
    )


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--kernels", action="store_true", help="only compare the kernels")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each kernel")
    options = parser.parse_args()
    wanting: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fogbank-bench-") as folder:
        result = trio.run(measure, options, Path(folder), wanting)
    result["wanting"] = wanting
    if options.json:
        print(json.dumps(result, indent=2))
        return
    show(result)
    for sentence in wanting:
        print(sentence)


if __name__ == "__main__":
    main()
