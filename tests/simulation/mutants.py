"""Production code broken on purpose: within how many seeds the simulator finds out.

    python -m tests.simulation.mutants [--seeds N] [--start S] [NAME …]

A new invariant or fault shows here what it is good for: add a mutant that only it catches.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import trio

from fogbank.client import topology
from fogbank.client.journal.array_shell import JobJournal
from fogbank.client.journal.job_shell import Job
from fogbank.client.wallet import own
from fogbank.client.wallet.records import Token
from fogbank.directory.broadcast import Body, Broadcast
from fogbank.directory.mint import ledger
from fogbank.directory.network import NetworkDocument
from fogbank.directory.schedule import Round
from fogbank.directory.store_shell import Store
from fogbank.relay import links_shell
from fogbank.relay.circuits.hop import HopCircuit
from fogbank.relay.job import workplace_shell
from fogbank.relay.job.limits import Budget
from fogbank.relay.links_shell import Links
from fogbank.sandbox import files_shell
from tests.simulation import cheap
from tests.simulation.run import Plan, simulate
from tests.simulation.world import Size

ROUNDS = Plan(Size(4, 3, 0, 0))
"""Authorities and a few relays alone, of which many runs cost little."""


def _liar(kind: str) -> Plan:
    return Plan(Size(4, 3, 0, 0, liar=kind))


JOBS = Plan(Size(4, 5, 2, 1))
ARRAYS = Plan(Size(4, 6, 2, 0, 2))
PEOPLE = Plan(Size(4, 5, 0, 0, people=2), steps=6)
CHEATS = Plan(Size(4, 5, 0, 0, people=3), steps=6)
IDLE = Plan(Size(4, 5, 2, 1), quiet=1.0)
"""With an end in which all must be given back."""


def _nothing(*_: object, **__: object) -> None:
    return None


def _unsynced_commits() -> AbstractContextManager[object]:
    prepare = Store._prepare

    def fast(self: Store) -> None:
        prepare(self)
        self._db.execute("PRAGMA synchronous=OFF")

    return patch.object(Store, "_prepare", fast)


def _unsynced_files() -> AbstractContextManager[object]:
    functions = {name: getattr(os, name) for name in dir(os)}
    return patch.object(files_shell, "os", SimpleNamespace(**{**functions, "fsync": _nothing}))


@contextmanager
def _fewer_signatures() -> Iterator[None]:
    faulty = property(lambda self: (len(self.authorities) - 1) // 3)
    quorum = property(lambda self: len(self.authorities) // 2)
    with (
        patch.object(NetworkDocument, "faulty", faulty),
        patch.object(NetworkDocument, "quorum", quorum),
    ):
        yield


def _both_votes() -> AbstractContextManager[object]:
    def decided(self: Broadcast) -> dict[bytes, Body]:
        # The first that came: not the same one everywhere.
        held = {sender: list(values.values()) for sender, values in self._values.items()}
        return {sender: values[0][1] for sender, values in held.items() if values}

    return patch.object(Broadcast, "decided", decided)


def _no_families() -> AbstractContextManager[object]:
    keys = topology.Topology.keys

    def fewer(self: topology.Topology, entry: Any) -> frozenset[bytes]:
        return frozenset(key for key in keys(self, entry) if key[:1] != topology.FAMILY)

    return patch.object(topology.Topology, "keys", fewer)


def _runs_twice() -> AbstractContextManager[object]:
    run_next = workplace_shell.Workplace._run_task

    async def twice(self: Any, job: Any, started: Any) -> None:
        async def run(task: Any, supply: Any) -> Any:
            await job.run(task, supply)
            return await job.run(task, supply)

        await run_next(self, SimpleNamespace(run=run), started)

    return patch.object(workplace_shell.Workplace, "_run_task", twice)


def _given_again() -> AbstractContextManager[object]:
    """An array is given what has ended, too."""
    return patch.object(Job, "unfinished", Job.tasks)


def _keeps_no_results() -> AbstractContextManager[object]:
    """Workers are told to forget what the journal has not got."""

    async def ended(self: JobJournal, ends: Any) -> None:
        await trio.lowlevel.checkpoint()

    return patch.object(JobJournal, "ended", ended)


def _unlimited_links() -> AbstractContextManager[object]:
    def unlimited(
        self: Links, switch: Any, transport: Any, keys: Any, limits: Any, *rest: Any
    ) -> None:
        much = {"links_per_address": 1 << 30, "half_open": 1 << 30, "handshakes_per_second": 1e9}
        init(self, switch, transport, keys, replace(limits, **much), *rest)

    init = Links.__init__
    return patch.object(Links, "__init__", unlimited)


def _keeps_no_tokens() -> AbstractContextManager[object]:
    """A wallet forgets one of the tokens that are issued to it."""
    issued = own.issued

    def fewer(*args: Any) -> Any:
        change = issued(*args)
        tokens = [each for each in change.put if isinstance(each, Token)]
        return replace(change, put=tuple(each for each in change.put if each not in tokens[:1]))

    return patch.object(own, "issued", fewer)


Mutant = Callable[[], AbstractContextManager[object]]

MUTANTS: dict[str, tuple[Plan, Mutant]] = {
    "votes are not journaled": (
        ROUNDS, lambda: patch.object(Store, "journal_vote", _nothing),
    ),
    "signatures are not journaled": (
        ROUNDS, lambda: patch.object(Store, "journal_signature", _nothing),
    ),
    "commits are not synced": (ROUNDS, _unsynced_commits),
    "files are not synced": (ROUNDS, _unsynced_files),
    "two signatures of four are enough": (ROUNDS, _fewer_signatures),
    "a vote counts whoever signed its chain": (
        _liar("splitting"), lambda: patch.object(Round, "phase_at", lambda *_: 1),
    ),
    "the first of a liar's two votes counts": (_liar("equivocating"), _both_votes),
    "whatever is signed holds": (
        _liar("forging"), lambda: patch.object(cheap, "_opened", _nothing),
    ),
    "links per address are not limited": (ROUNDS, _unlimited_links),
    "families are not kept apart": (JOBS, _no_families),
    "a task runs twice": (JOBS, _runs_twice),
    "what has ended is given again": (ARRAYS, _given_again),
    "results are forgotten before they are kept": (ARRAYS, _keeps_no_results),
    "a serial is locked to any request": (
        CHEATS, lambda: patch.object(ledger, "_rivals", lambda *_: iter(())),
    ),
    "a wallet forgets a token": (PEOPLE, _keeps_no_tokens),
    "circuits do not end": (IDLE, lambda: patch.object(HopCircuit, "destroyed", _nothing)),
    "a session's bytes are not given back": (
        IDLE, lambda: patch.object(Budget, "give_back", _nothing),
    ),
    "links are counted and never discounted": (
        IDLE, lambda: patch.object(links_shell, "_discount", _nothing),
    ),
}  # fmt: skip
"""Each with the plan under which it is to be found."""


def caught(name: str, seeds: range, plan: Plan | None = None) -> tuple[int, list[str]]:
    """Return how many seeds it took to catch a mutant, and the failures; 0 if none did."""
    usual, mutant = MUTANTS[name]
    with mutant():
        for count, seed in enumerate(seeds, 1):
            failures = simulate(seed, plan or usual).failures
            if failures:
                return count, failures
    return 0, []


def main() -> int:
    """Print a line for each mutant; fail if one lives."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("names", nargs="*", help="which ones, by a part of their names; else all")
    parser.add_argument("--seeds", type=int, default=20, help="the most seeds for each")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    alive = 0
    for name in MUTANTS:
        if options.names and not any(part in name for part in options.names):
            continue
        count, failures = caught(name, range(options.start, options.start + options.seeds))
        alive += not count
        by = sorted({failure.partition(":")[0] for failure in failures})
        result = f"caught by seed {count}: {', '.join(by)}" if count else "LIVES"
        print(f"{name}: {result}", flush=True)  # noqa: T201 - a command's output
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
