"""The scheduler of arrays against somebody who knows everything, in simulated time.

    make bench-arrays [ARGS="--json --workers 1000 --tasks 10000 --seeds 3"]

Workers differ 30-fold in speed, come and go, and a quarter of them are dead, silent, busy, or fail
or refuse whatever they are given. `ideal` is the makespan of whoever knows all that beforehand and
runs whole tasks; `bound` the one with tasks that can be cut at will, which nobody reaches.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict

from tests.client.array_world import Figures, Size, simulate

GRAINS = (1e11, 2e11)


def row(size: Size, seed: int) -> dict[str, float]:
    """Run one array, and return its figures."""
    figures: Figures = simulate(size, seed)
    return {"fuel": size.fuel, "seed": seed, "ratio": figures.ratio, **asdict(figures)}


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        row(Size(arguments.workers, arguments.tasks, fuel), seed)
        for fuel in GRAINS
        for seed in range(arguments.seeds)
    ]
    if arguments.json:
        print(json.dumps({"schema": "fogbank.bench-arrays/1", "rows": rows}))
        return
    print(f"{arguments.tasks} tasks, {arguments.workers} workers; times in s")
    print("   fuel a task  seed  makespan   ideal   bound  ratio    runs  circuits+sessions  fuel")
    for each in rows:
        print(
            f"{each['fuel']:14.0e}{each['seed']:6}{each['makespan']:10.0f}{each['ideal']:8.0f}"
            f"{each['bound']:8.0f}{each['ratio']:7.3f}{each['runs']:8}{each['opened']:19}"
            f"{each['fuel_share']:6.3f}"
        )
    print(f"makespan / ideal, median: {statistics.median(each['ratio'] for each in rows):.3f}")


if __name__ == "__main__":
    main()
