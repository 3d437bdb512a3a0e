"""Kills of wallets: `python -m tests.kills.wallets --kills 200 --seed 1`.

Those are of `fog wallet` commands, on a network of real processes; with `--process` of one process
that has two wallets, whose mint is here: more writes a second.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.kills.wallet_commands import CommandKilling
from tests.kills.wallet_kills import Killing, Result
from tests.system.networks import start_network, stop_network


def main() -> int:
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.wallets", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=1, help="what they do, and when they die")
    parser.add_argument(
        "--process", action="store_true", help="kill one process, without a network"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fogbank-kills-"))
    begin = time.monotonic()
    try:
        result = _run(folder, options.kills, options.seed, process=options.process)
    except AssertionError as error:
        say(f"seed {options.seed}: {error}; all files are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    say(
        f"seed {options.seed}: {result.kills} killed in {time.monotonic() - begin:.0f} s, of what "
        f"was asked {result.asked} times; no token of {result.tokens} was lost, none doubled"
    )
    return 0


def _run(folder: Path, kills: int, seed: int, *, process: bool) -> Result:
    if process:
        return Killing(folder, seed).run(kills)
    network = start_network(folder / "network", "--workers", "1")
    try:
        return CommandKilling(network, folder, seed, say).run(kills)
    finally:
        stop_network(network)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
