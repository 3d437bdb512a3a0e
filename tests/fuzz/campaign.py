"""Fuzzes one decoder for some time in processes of their own, and minimises what was found."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.corpora import read_corpus, regressions, write_corpus
from tests.fuzz.kinds import AnyDecoder
from tests.fuzz.registry import slug

INPUT_SECONDS = 30
"""The longest that one input may take."""
MEMORY_MB = 1024
"""The most memory of a fuzzing process."""
MAX_CRASHES = 10
"""A decoder that broke so often is left alone."""
_GRACE = 600
"""Seconds that a process may take beyond its time, to start and to end."""
_STATE = re.compile(rb"cov: (\d+) ft: (\d+)")
_COUNT = re.compile(rb"^(?:#|stat::number_of_executed_units: )(\d+)", re.MULTILINE)
_ERROR = re.compile(rb"^(?:\w+\.)*(\w+(?:Error|Exception|Exit|Interrupt)\b.*)", re.MULTILINE)


@dataclass(frozen=True)
class Campaign:
    """Where logs and crashes go, the seconds for each decoder, and whether corpora are saved."""

    folder: Path
    seconds: int
    save: bool = False


@dataclass(frozen=True)
class Crash:
    """An input that broke a decoder, and what was said of it."""

    path: Path
    what: str


@dataclass
class Outcome:
    """What became of one decoder; `edges` and `features` as libFuzzer counts them."""

    name: str
    seconds: float = 0.0
    inputs: int = 0
    edges: int = 0
    features: int = 0
    kept: int = 0
    crashes: list[Crash] = field(default_factory=list)

    def line(self) -> str:
        """Return the summary."""
        return (
            f"{self.name:<24} {self.seconds:5.0f} s {self.inputs:>9} inputs {self.edges:>5} edges "
            f"{self.features:>6} features {self.kept:>4} kept {len(self.crashes):>2} crashes"
        )


def fuzz(campaign: Campaign, decoder: AnyDecoder) -> Outcome:
    """Fuzz a decoder from its corpus on; after a crash, go on until the time is over."""
    folder = campaign.folder / slug(decoder.name)
    start, found, crashes = (folder / name for name in ("start", "found", "crashes"))
    for each in (start, found, crashes):
        each.mkdir(parents=True, exist_ok=True)
    known = [*decoder.seeds, *read_corpus(decoder.name), *regressions(decoder.name).values()]
    for number, data in enumerate(known):
        (start / f"{number:05}").write_bytes(data)
    outcome = Outcome(decoder.name)
    begin = time.monotonic()
    while (left := campaign.seconds - int(time.monotonic() - begin)) > 0:
        before = set(crashes.iterdir())
        said = _run(
            decoder.name,
            folder / f"{len(before)}.log",
            left + _GRACE,
            f"-max_total_time={left}",
            f"-max_len={decoder.limit}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={crashes}/",
            "-print_final_stats=1",
            str(found),
            str(start),
        )
        _count(outcome, said)
        new = set(crashes.iterdir()) - before
        outcome.crashes += [Crash(path, _reason(said)) for path in sorted(new)]
        if not new or len(outcome.crashes) >= MAX_CRASHES:
            break
    outcome.seconds = time.monotonic() - begin
    inputs = merge(decoder, folder, start, found)
    outcome.kept = len(inputs)
    if campaign.save and inputs:
        write_corpus(decoder.name, inputs)
    return outcome


def merge(decoder: AnyDecoder, folder: Path, *sources: Path) -> list[bytes]:
    """Return the fewest and shortest inputs that reach all that those in `sources` reach."""
    merged = folder / "merged"
    merged.mkdir(exist_ok=True)
    for path in merged.iterdir():
        path.unlink()
    limit = f"-max_len={decoder.limit}"
    _run(
        decoder.name, folder / "merge.log", 600, "-merge=1", limit, str(merged), *map(str, sources)
    )
    return [path.read_bytes() for path in sorted(merged.iterdir())]


def _run(name: str, log: Path, seconds: float, *arguments: str) -> bytes:
    """Run a fuzzing process, and return what it said."""
    program = [sys.executable, "-m", "tests.fuzz.worker", slug(name), *arguments]
    root = Path(__file__).parents[2]
    with log.open("wb") as file:
        try:
            subprocess.run(
                program,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            file.write(b"\nit did not end in time\n")
    return log.read_bytes()


def _count(outcome: Outcome, said: bytes) -> None:
    """Add what a process reports at its end."""
    outcome.inputs += max(map(int, _COUNT.findall(said)), default=0)
    for edges, features in _STATE.findall(said)[-1:]:
        outcome.edges = max(outcome.edges, int(edges))
        outcome.features = max(outcome.features, int(features))


def _reason(said: bytes) -> str:
    """Return the last error that a process names."""
    errors = _ERROR.findall(said)
    return errors[-1].decode("utf-8", "replace")[:200] if errors else "see its log"
