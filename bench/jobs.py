"""The benchmark of jobs: a network of real processes on loopback, and one client.

    make bench-jobs [ARGS="--json --jobs 100"]

Measures a null job over a circuit that stands and over one that must be built, separate jobs and
the tasks of an array a second, what a job costs each role in CPU time, and an array that only
computes against the same program in bare wasmtime on as many cores, by turns. All processes share
the machine. Figures on a shared machine are worth what their ratios are worth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kernels
import trio
from figures import Goal
from guests import HELLO
from kernels import Wanting
from processes import cpu_seconds

from fogbank.client.array_shell import Array
from fogbank.client.chance_shell import SystemChooser
from fogbank.client.circuits_shell import BuiltCircuit
from fogbank.client.job_shell import run_task
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.nodes.arrays import open_reach
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.relay.circuits.shell import Circuit
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.kinds import SERVICE
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import module_from_file
from fogbank.testnet import processes
from fogbank.testnet.layout import WARMUP_INTERVAL, WARMUP_ROUNDS, Size
from fogbank.testnet.up import bring_up, client_home

WORKERS = 2
"""As many as the machine has cores, each with one place."""
SIZE = Size(authorities=4, relays=5, workers=WORKERS)
AT_ONCE = 6
"""Three to each place: none is idle. More only wait in its queue, and cost words about that."""
KERNEL = "nbody"
STEPS = "20000000"
"""So that a task computes for some seconds, and the array's beginning and end weigh little."""
ROUNDS = 3
RUNS = 5
_LIMITS = Limits(fuel=1 << 40, memory=1 << 28, wall_seconds=120.0)
_UP_SECONDS = 120.0

GOALS = {
    "warm_ms": Goal("a null job, circuit there: median", "ms", most=15),
    "warm_p90_ms": Goal("the same, p90", "ms"),
    "cold_ms": Goal("a null job, circuit to be built: median", "ms"),
    "cold_p90_ms": Goal("the same, p90", "ms"),
    "tasks_per_s": Goal("null tasks of an array", "/s", least=1000),
    "map_tasks_per_s": Goal("the same by `fog map`, journal and start included", "/s"),
    "run_ms": Goal("`fog run` of a null job, from start to end", "ms"),
    "jobs_per_s": Goal(f"separate jobs, circuits there, {AT_ONCE} at once", "/s", least=200),
    "cold_jobs_per_s": Goal(f"separate jobs, a circuit for each, {AT_ONCE} at once", "/s"),
    "of_bare": Goal(f"an array that computes, {WORKERS} workers, of bare", "", least=0.95),
}


@dataclass(frozen=True)
class Network:
    """The network that is measured, and its user."""

    user: User
    nodes: list[processes.NodeProcess]

    def cpu(self) -> Counter[str]:
        """Return the CPU seconds that each role's processes have used so far."""
        used = Counter(client=time.process_time())
        for node in self.nodes:
            used[node.role] += cpu_seconds(node.pid)
        return used


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[Network]:
    """Start a network whose intervals have become long, and a client in it."""
    begin = time.time()
    await bring_up(folder, SIZE, attached=True, seconds=_UP_SECONDS, report=say)
    try:
        rest = begin + WARMUP_ROUNDS * WARMUP_INTERVAL + WARMUP_INTERVAL - time.time()
        say(f"waiting {max(0.0, rest):.0f} s until consensuses are rare")
        await trio.sleep(max(0.0, rest))
        async with open_user(Home(client_home(folder)), say) as user:
            yield Network(user, processes.load(folder))
    finally:
        processes.end(processes.load(folder))


def say(text: str) -> None:
    """Tell what happens, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def checked(result: TaskResult | None) -> None:
    """Raise an error unless a task succeeded."""
    if result is None or not result.succeeded:
        raise RuntimeError(f"a task did not succeed: {result}")


# What is measured.


async def warm_job(built: BuiltCircuit[Circuit], module: bytes) -> None:
    """Run a job over a circuit that stands."""
    stream = await built.circuit.open_stream(SERVICE)
    checked(await run_task(stream, module, Task(limits=_LIMITS)))


async def cold_job(user: User, module: bytes) -> None:
    """Run a job over a circuit of its own."""
    async with user.worker_stream() as (stream, _):
        checked(await run_task(stream, module, Task(limits=_LIMITS)))


async def latencies(job: Callable[[], Awaitable[None]], count: int) -> list[float]:
    """Run jobs one after the other; return how long each took, in ms, in ascending order."""
    times = []
    for _ in range(count // 10 + count):
        begin = time.perf_counter()
        await job()
        times.append((time.perf_counter() - begin) * 1000)
    return sorted(times[count // 10 :])


async def per_second(jobs: list[Callable[[], Awaitable[None]]], count: int) -> float:
    """Run `count` jobs, as many at once as `jobs` has ways to run one."""

    async def some(job: Callable[[], Awaitable[None]]) -> None:
        for _ in range(count // len(jobs)):
            await job()

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(some, job)
    return count // len(jobs) * len(jobs) / (time.perf_counter() - begin)


class Numbered:
    """An array's source and sink: so many equal tasks, and a check that each ends well, once."""

    def __init__(self, task: Task, count: int) -> None:
        self._task, self._count, self._given = task, count, 0
        self.ends: set[int] = set()

    async def next(self) -> ArrayTask | None:
        """Return the next task."""
        await trio.lowlevel.checkpoint()
        if self._given == self._count:
            return None
        self._given += 1
        return ArrayTask(self._given, self._task)

    async def take(self, end: TaskEnd) -> None:
        """Take a task's end."""
        await trio.lowlevel.checkpoint()
        checked(end.result)
        if end.number in self.ends:
            raise RuntimeError("a task ended twice")
        self.ends.add(end.number)


async def array(user: User, module: bytes, task: Task, count: int) -> float:
    """Run an array; return how many seconds it took."""
    numbered = Numbered(task, count)
    begin = time.perf_counter()
    with open_reach(user, module) as (reach, program):
        await Array(reach, program, numbered, numbered, SystemChooser()).run()
    if len(numbered.ends) != count:
        raise RuntimeError(f"{len(numbered.ends)} of {count} tasks ended")
    return time.perf_counter() - begin


def command(home: Path, *words: str) -> float:
    """Run the `fog` command, as users do; return the seconds."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fogbank", *words],
        env={**os.environ, "FOGBANK_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return time.perf_counter() - begin


async def commands(folder: Path, module: bytes, tasks: int, result: dict[str, Any]) -> None:
    """Measure the command itself, with the journal that it keeps."""
    program = folder / "null.wasm"
    await trio.Path(program).write_bytes(module)
    home = client_home(folder / "network")

    def measured() -> None:
        words = "map", "--json", str(program), "--array", f"1-{tasks}"
        result["map_tasks_per_s"] = tasks / command(home, *words)
        times = [command(home, "run", str(program)) for _ in range(RUNS)]
        result["run_ms"] = statistics.median(times) * 1000

    await trio.to_thread.run_sync(measured)


def bare(module: Path, tasks: int) -> float:
    """Run the same tasks in bare wasmtime, a process on each core; return the seconds."""
    command = [sys.executable, str(Path(__file__).with_name("bare_wasmtime.py"))]
    command += [str(module), STEPS]
    runners = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    begin = time.perf_counter()
    for runner in runners:
        if runner.stdin is None:
            raise RuntimeError("no pipe to bare wasmtime's process")
        runner.stdin.write("\n" * (tasks // WORKERS))
        runner.stdin.close()
    for runner in runners:
        if runner.stdout is None or len(runner.stdout.readlines()) != tasks // WORKERS:
            raise RuntimeError("bare wasmtime did not run what it was told")
    seconds = time.perf_counter() - begin
    for runner in runners:
        runner.wait()
    return seconds


async def computing(user: User, folder: Path, tasks: int) -> float:
    """Return how fast an array computes, as a part of what bare wasmtime does: the median."""
    path = kernels.wasm_kernels(folder)[KERNEL]
    task = Task(args=(KERNEL, STEPS), limits=Limits(fuel=1 << 44, memory=1 << 28))
    ratios = []
    for _ in range(ROUNDS):
        ours = await array(user, path.read_bytes(), task, tasks)
        theirs = await trio.to_thread.run_sync(bare, path, tasks)
        say(f"{tasks} tasks that compute: array {ours:.2f} s, bare wasmtime {theirs:.2f} s")
        ratios.append(theirs / ours)
    return statistics.median(ratios)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every measurement."""
    module = module_from_file(HELLO)
    result: dict[str, Any] = {"cpu_ms": {}}
    async with network(folder / "network") as net:

        async def counted(name: str, count: int, run: Callable[[], Awaitable[Any]]) -> Any:
            """Run something; note the CPU ms by role of each of the `count` that it consists of."""
            before = net.cpu()
            answer = await run()
            used = net.cpu()
            result["cpu_ms"][name] = {
                role: round((used[role] - before[role]) * 1000 / count, 3) for role in used
            }
            return answer

        user, jobs = net.user, options.jobs
        with user.circuits() as circuits:
            # As many to each worker: what is drawn by chance leaves one of two idle now and then.
            workers = [entry.identity for entry in user.workers()] * AT_ONCE
            built = [
                await circuits.to_worker(user.topology, worker=each) for each in workers[:AT_ONCE]
            ]
            ways = [lambda each=each: warm_job(each, module) for each in built]
            warm = await latencies(ways[0], jobs)
            result["warm_ms"], result["warm_p90_ms"] = spread(warm)
            result["jobs_per_s"] = await counted(
                "a separate job", jobs * 4, lambda: per_second(ways, jobs * 4)
            )
        cold = await latencies(lambda: cold_job(user, module), jobs)
        result["cold_ms"], result["cold_p90_ms"] = spread(cold)
        ways = [lambda: cold_job(user, module)] * AT_ONCE
        result["cold_jobs_per_s"] = await counted(
            "the same, and its circuit", jobs * 2, lambda: per_second(ways, jobs * 2)
        )
        task, tasks = Task(limits=_LIMITS), options.tasks
        seconds = await counted(
            "a task of an array", tasks, lambda: array(user, module, task, tasks)
        )
        result["tasks_per_s"] = tasks / seconds
        await commands(folder, module, tasks, result)
        try:
            result["of_bare"] = await computing(user, folder, options.computing)
        except Wanting as error:
            result["wanting"] = str(error)
    return result


def spread(times: list[float]) -> tuple[float, float]:
    """Return the median and the 90th percentile of ascending times."""
    return statistics.median(times), times[len(times) * 9 // 10]


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table, with goals."""
    print(f"{'through the network':44} {'measured':>10} {'':8} goal")
    for name, goal in GOALS.items():
        print(goal.words(result.get(name)))
    print(
        f"\n{'CPU ms':30}", *(f"{role:>10}" for role in ("client", "relay", "worker", "authority"))
    )
    for name, used in result["cpu_ms"].items():
        roles = ("client", "relay", "worker", "authority")
        print(f"{name:30}", *(f"{used[role]:>10}" for role in roles))
    if "wanting" in result:
        print(result["wanting"])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--jobs", type=int, default=200, help="jobs one after the other")
    parser.add_argument("--tasks", type=int, default=10_000, help="null tasks of the array")
    parser.add_argument("--computing", type=int, default=16, help="tasks that compute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fogbank-bench-") as folder:
        result = trio.run(measure, options, Path(folder))
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
