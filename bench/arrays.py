"""The scheduler of arrays against somebody who knows everything, in simulated time.

    make bench-arrays [ARGS="--json --workers 1000 --tasks 10000 --seeds 6"]

Workers differ 30-fold in speed, come and go, and a quarter of them are dead, silent, busy, or fail
or refuse whatever they are given; tasks differ 3-fold in length, or 19-fold. `ideal` is the
makespan of whoever knows all that beforehand and runs whole tasks; `bound` the one with tasks that
can be cut at will, which nobody reaches. `again` are runs beyond one for each task, `wasted` is the
fuel of copies that were not needed, to that of all tasks; CPU time is the scheduler's alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.client.array_world import Size, World

GRAINS = ((1e11, 0.5), (2e11, 0.5), (1e11, 0.9))


class Timed:
    """A scheduler whose CPU time is counted."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._timed(value) if callable(value) else value

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object) -> Any:
            began = time.process_time()
            try:
                return method(*args)
            finally:
                self.seconds += time.process_time() - began

        return call


def row(size: Size, seed: int) -> dict[str, float]:
    """Run one array, and return its figures."""
    world = World(size, seed)
    world.scheduler = timed = Timed(world.scheduler)  # type: ignore[assignment] -- it acts like one
    figures = world.run()
    shape = {"fuel": size.fuel, "spread": size.spread, "seed": seed}
    cpu = 1000 * timed.seconds / size.tasks
    return {**shape, "ratio": figures.ratio, "cpu_ms_per_task": cpu, **asdict(figures)}


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    if not arguments.json:
        print(f"{arguments.tasks} tasks, {arguments.workers} workers; times in s")
        print("fuel, spread  seed  makespan  ideal  bound  ratio  again  sessions  wasted  CPU ms")
    for fuel, spread in GRAINS:
        for seed in range(arguments.seeds):
            each = row(Size(arguments.workers, arguments.tasks, fuel, spread), seed)
            rows.append(each)
            if not arguments.json:
                print(
                    f"{fuel:7.0e} {spread:4} {seed:5} {each['makespan']:9.0f} {each['ideal']:6.0f} "
                    f"{each['bound']:6.0f} {each['ratio']:6.3f} {each['copies']:6} "
                    f"{each['opened']:9} {each['fuel_share'] - 1:7.3f} "
                    f"{each['cpu_ms_per_task']:7.3f}",
                    flush=True,
                )
    ratios = [each["ratio"] for each in rows]
    if arguments.json:
        print(json.dumps({"schema": "fogbank.bench-arrays/2", "rows": rows}))
    else:
        print(
            f"makespan / ideal: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f} "
            f"of {len(ratios)}"
        )


if __name__ == "__main__":
    main()
