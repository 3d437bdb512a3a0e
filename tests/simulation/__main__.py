"""The command: `python -m tests.simulation --seeds N --start S`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from tests.simulation.run import Plan, Report, simulate
from tests.simulation.world import Size

_PROGRESS_SECONDS = 20.0


def main() -> int:
    """Run seeds; print each failure as it comes, and a summary at the end."""
    options = _options()
    reports: list[Report] = []
    begin = told = time.monotonic()
    for report in _run(options):
        reports.append(report)
        if time.monotonic() - told > _PROGRESS_SECONDS and not options.verbose:
            told = time.monotonic()
            failed = sum(bool(each.failures) for each in reports)
            seconds = (told - begin) / len(reports)
            _say(f"{len(reports)} of {options.seeds} seeds, {failed} failed, {seconds:.1f} s each")
        if report.failures:
            _show(report, options)
        elif options.verbose:
            _say(f"seed {report.seed}: {report.digest[:16]} {dict(report.counts)}")
    _sum_up(reports, time.monotonic() - begin)
    return 1 if any(report.failures for report in reports) else 0


def _run(options: argparse.Namespace) -> Iterator[Report]:
    size = None
    if options.size:
        size = Size.read(options.size, calm=options.calm)
    plan = Plan(size, options.steps, 0.0 if options.calm else 0.6)
    one = partial(simulate, plan=plan, echo=options.trace)
    seeds = range(options.start, options.start + options.seeds)
    if options.seeds == 1:
        yield from map(one, seeds)
        return
    # A fresh process for every few seeds: what one run leaves behind is not the next one's.
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=20) as pool:
        yield from pool.imap(one, seeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="seeds run at once")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="steps of each run")
    parser.add_argument(
        "--size",
        default="",
        help="authorities,relays,workers,clients[,researchers[,people]]; else as a seed draws it",
    )
    parser.add_argument("--calm", action="store_true", help="no faults; with --size no liars")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--verbose", action="store_true", help="print a line for every seed")
    return parser.parse_args()


def _show(report: Report, options: argparse.Namespace) -> None:
    extra = f" --steps {options.steps}"
    extra += f" --size {options.size}" if options.size else ""
    extra += " --calm" if options.calm else ""
    command = f"python -m tests.simulation --seeds 1 --start {report.seed}{extra} --trace"
    _say(f"seed {report.seed} FAILED ({report.digest[:16]}); it replays with: {command}")
    for failure in report.failures:
        _say(f"  {failure}")


def _sum_up(reports: list[Report], seconds: float) -> None:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    checks: Counter[str] = sum((report.checks for report in reports), Counter())
    counts: Counter[str] = sum((report.counts for report in reports), Counter())
    failed = [report.seed for report in reports if report.failures]
    parts = [
        f"{len(reports)} seeds in {seconds:.0f} s",
        f"{counts['nodes']} nodes",
        f"{counts['steps']} steps",
        f"{counts['rounds judged']} of {counts['rounds']} rounds judged",
        f"{counts['tasks done']} of {counts['tasks']} tasks done",
        f"{counts['array tasks done']} tasks of {counts['arrays done']} arrays done",
        f"{counts['detached']} times detached",
        f"{counts['cheques']} cheques received, {counts['cheated']} times cheated",
        f"faults: {_list(faults)}",
        f"checks: {_list(checks)}",
        f"failed seeds: {', '.join(map(str, failed)) or 'none'}",
    ]
    _say("; ".join(parts))


def _say(line: str) -> None:
    print(line, flush=True)


def _list(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
