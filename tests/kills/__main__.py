"""The command: `python -m tests.kills --kills 200 --seed 1`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.kills.run import Run
from tests.system.networks import start_network, stop_network


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=1, help="whom, and when")
    parser.add_argument("--tasks", type=int, default=60, help="tasks of an array")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fogbank-kills-"))
    network = start_network(folder / "network", "--relays", "6", "--workers", "3")
    begin = time.monotonic()
    try:
        run = Run(network.folder, folder, options.seed, _say)
        report = run.run(options.kills, options.tasks)
    finally:
        stop_network(network)
    _say(
        f"seed {options.seed}: {report.kills.total()} killed {dict(report.kills)}, and"
        f" {report.detached} times detached, in {time.monotonic() - begin:.0f} s;"
        f" {report.arrays} arrays, {report.tasks} results, for which {report.sends} tasks were sent"
    )
    if report.faults:
        _say("\n".join(report.faults))
        _say(f"all files are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    _say("each array finished, each result came once, nothing that was here was computed again")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
