"""The command: `python -m tests.simulation --seeds N --start S`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.run import Plan, Report, simulate
from tests.simulation.world import Size


def main() -> int:
    """Run seeds; print each failure as it comes, and a summary at the end."""
    options = _options()
    size = Size(
        options.authorities, options.relays, options.workers, options.clients, options.calm
    )
    plan = Plan(size, options.steps, 0.0 if options.calm else 0.6)
    reports: list[Report] = []
    begin = time.monotonic()
    for seed in range(options.start, options.start + options.seeds):
        report = simulate(seed, plan, echo=options.trace)
        reports.append(report)
        if report.failures:
            _show(report, options)
        elif options.verbose:
            print(f"seed {seed}: {report.digest[:16]} {dict(report.counts)}")
    _sum_up(reports, time.monotonic() - begin)
    return 1 if any(report.failures for report in reports) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--steps", type=int, default=20, help="steps with faults of each run")
    parser.add_argument("--authorities", type=int, default=4)
    parser.add_argument("--relays", type=int, default=8)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--calm", action="store_true", help="no faults and no liars")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--verbose", action="store_true", help="print a line for every seed")
    return parser.parse_args()


def _show(report: Report, options: argparse.Namespace) -> None:
    print(f"seed {report.seed} FAILED; it replays with: ", end="")
    sizes = ("steps", "authorities", "relays", "workers", "clients")
    extra = "".join(f" --{name} {getattr(options, name)}" for name in sizes)
    print(f"python -m tests.simulation --seeds 1 --start {report.seed}{extra} --trace")
    for failure in report.failures:
        print(f"  {failure}")
    sys.stdout.flush()


def _sum_up(reports: list[Report], seconds: float) -> None:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    checks: Counter[str] = sum((report.checks for report in reports), Counter())
    counts: Counter[str] = sum((report.counts for report in reports), Counter())
    failed = [report.seed for report in reports if report.failures]
    parts = [
        f"{len(reports)} seeds in {seconds:.0f} s",
        f"{counts['steps']} steps",
        f"{counts['rounds judged']} of {counts['rounds']} rounds judged",
        f"{counts['tasks done']} of {counts['tasks']} tasks done",
        f"faults: {_list(faults)}",
        f"checks: {_list(checks)}",
        f"failed seeds: {', '.join(map(str, failed)) or 'none'}",
    ]
    print("; ".join(parts))


def _list(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
