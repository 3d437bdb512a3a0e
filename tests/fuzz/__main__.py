"""The command: `python -m tests.fuzz [DECODER …] --seconds N`; all decoders if none is named."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.campaign import Campaign, Outcome, fuzz
from tests.fuzz.registry import ALL, find

MISSING = (
    "error: fuzzing needs atheris, which is not installed: run `make fuzz`, or "
    "`tools/install requirements/fuzz.txt` (on Linux, x86-64)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and print a line for each decoder; 1 if one of them broke."""
    options = _options(arguments)
    try:
        decoders = [find(name) for name in options.decoder] or ALL
    except KeyError as error:
        _say(f"error: {error.args[0]}")
        return 2
    if importlib.util.find_spec("atheris") is None:
        _say(MISSING)
        return 2
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fogbank-fuzz-"))
    campaign = Campaign(folder.absolute(), options.seconds, save=options.save)
    begin = time.monotonic()
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(partial(fuzz, campaign), decoders):
            outcomes.append(outcome)
            _say(outcome.line())
    broken = [outcome for outcome in outcomes if outcome.crashes]
    for outcome in broken:
        for crash in outcome.crashes:
            _say(f"{outcome.name} broke: {crash.what}; the input is {crash.path}")
    _say(
        f"{len(outcomes)} decoders in {time.monotonic() - begin:.0f} s, "
        f"{sum(outcome.inputs for outcome in outcomes)} inputs, "
        f"{sum(outcome.kept for outcome in outcomes)} kept, {len(broken)} decoders broke"
    )
    return 1 if broken else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("decoder", nargs="*", help="decoders by name; all of them if none is named")
    parser.add_argument("--seconds", type=int, default=600, help="how long each is fuzzed")
    parser.add_argument("--jobs", type=int, default=2, help="how many are fuzzed at once")
    parser.add_argument("--save", action="store_true", help="replace the corpora in the repository")
    parser.add_argument("--folder", type=Path, help="where logs and crashes go; else a new one")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
