"""Whole networks from seeds: a handful of runs, and that runs replay and can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogbank.client.wallet.asking_shell import Talk
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.effects import Effect, SendSignature
from fogbank.directory.mint.bodies import Carried
from tests.simulation import faults
from tests.simulation.mutants import caught
from tests.simulation.run import Plan, Report, simulate
from tests.simulation.world import Size

SMALL = Size(4, 5, 2, 1)
CALM = Plan(Size(4, 8, 5, 3, calm=True), steps=2, harm=0.0, quiet=0.0)
ROUNDS = Plan(Size(4, 2, 0, 0, calm=True), steps=3, harm=0.0, quiet=0.0)
FAMILIES = Plan(Size(4, 7, 2, 2, calm=True), steps=2, harm=0.0, quiet=0.0)
ARRAYS = Plan(Size(4, 6, 2, 0, 1, calm=True), steps=3, harm=0.0, quiet=0.0)
PEOPLE = Plan(Size(4, 4, 0, 0, people=3, calm=True), steps=4, harm=0.0, quiet=0.0)
CHEATS = Plan(Size(4, 4, 0, 0, people=3, calm=True), steps=30, harm=0.0, quiet=0.0)
PLAN = Plan(SMALL, steps=4, harm=0.9, quiet=0.0)
SOON = Plan(Size(4, 5, 1, 1, 1), steps=3, harm=1.0, quiet=0.0)
_REPLAY = """
import json
from tests.simulation.run import simulate
from tests.simulation.test_simulation import SOON
print(json.dumps(simulate({seed}, SOON).digest))
"""


def assert_well(report: Report) -> None:
    assert not report.failures, (report.seed, report.failures, report.last[-40:])


def test_a_healthy_network_of_twenty_nodes() -> None:
    report = simulate(1, CALM)
    assert_well(report)
    assert report.counts["tasks done"] >= 3
    assert report.counts["rounds judged"] == report.counts["rounds"] >= 2
    assert not report.faults


def test_a_network_under_faults() -> None:
    report = simulate(11, PLAN)
    assert_well(report)
    assert report.faults
    assert report.counts["tasks done"] >= 1


def test_a_network_under_raids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FAULTS", {"raid": (1, faults.a_raid)})
    calm = Size(4, 5, 2, 1, calm=True)
    report = simulate(3, Plan(calm, steps=4, harm=1.0, quiet=0.0))
    assert_well(report)
    assert report.faults.total() >= 3
    assert report.counts["rounds judged"] == report.counts["rounds"] >= 2
    assert report.counts["tasks done"] >= 1


def test_machines_that_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only dials out is found again, told or not that all its connections lead nowhere."""
    monkeypatch.setattr(faults, "FAULTS", {"move": (1, faults.move)})
    report = simulate(7, Plan(Size(4, 5, 1, 1, 1, calm=True), steps=8, harm=1.0, quiet=0.0))
    assert_well(report)
    assert report.faults.total() >= 5
    assert report.counts["tasks done"] + report.counts["array tasks done"] >= 5


def test_arrays_that_outlive_their_researchers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laptops are closed; researchers and workers die with something half on the disk."""
    kills = {"crash": (1, faults.crash), "crash at the disk": (3, faults.crash_at_disk)}
    monkeypatch.setattr(faults, "FAULTS", kills)
    report = simulate(22, Plan(Size(4, 6, 2, 0, 2, calm=True), steps=8, harm=0.9, quiet=0.0))
    assert_well(report)
    assert report.counts["crashed at the disk"] >= 1
    assert report.counts["detached"] >= 1
    assert report.counts["came back to held sessions"] >= 1
    assert report.counts["array tasks done"] >= 10


def test_people_pay_each_other_whatever_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wallets, authorities and an old ledger among them, one authority lies, somebody cheats."""
    harm = {
        "crash": (2, faults.crash),
        "crash at the disk": (4, faults.crash_at_disk),
        "old ledgers": (2, faults.old_ledgers),
    }
    monkeypatch.setattr(faults, "FAULTS", harm)
    carry, carried = Talk.carry, 0

    async def counting(*arguments: Any, **options: Any) -> Carried:
        nonlocal carried
        answer = await carry(*arguments, **options)
        carried += 1
        return answer

    monkeypatch.setattr(Talk, "carry", counting)
    size = Size(4, 5, 0, 0, people=3, liar="late")
    report = simulate(3, Plan(size, steps=10, harm=0.9, quiet=0.0))
    assert_well(report)
    assert report.counts["crashed at the disk"] >= 1
    assert report.faults["old ledgers"] >= 1
    assert report.counts["cheques"] >= 3
    assert report.counts["cheated"] >= 1
    assert carried >= 10
    assert report.checks["no token lost"] == 1


def test_all_that_was_used_is_given_back() -> None:
    report = simulate(5, Plan(Size(4, 5, 1, 1), steps=2, quiet=1.0))
    assert_well(report)
    assert report.checks["nothing leaks"] == 1


def test_a_seed_replays_exactly_whatever_the_order_of_hashes() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _REPLAY.format(seed=5)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        stdout=subprocess.PIPE,
    ) as other:
        here = simulate(5, SOON)
        answer, _ = other.communicate(timeout=120)
    assert json.loads(answer) == here.digest
    assert here.faults
    short = Plan(Size(4, 1, 0, 0), steps=1, harm=0.0, quiet=0.0)
    assert simulate(1, short).digest != simulate(2, short).digest


@pytest.mark.parametrize(
    ("mutant", "invariant", "plan"),
    [
        ("families are not kept apart", "path limits", FAMILIES),
        ("results are forgotten before they are kept", "each result comes once", ARRAYS),
        ("a serial is locked to any request", "no input in two certificates", CHEATS),
        ("a wallet forgets a token", "no token lost", PEOPLE),
        ("votes are not journaled", "journaled before it is sent", ROUNDS),
        ("signatures are not journaled", "journaled before it is sent", ROUNDS),
    ],
)
def test_what_is_broken_on_purpose_is_found(mutant: str, invariant: str, plan: Plan) -> None:
    count, failures = caught(mutant, range(1, 3), plan)
    assert count
    assert all(each.startswith(invariant) for each in failures), failures


def test_a_denied_round_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = AuthorityShell._carry_out

    def deaf(self: AuthorityShell, effects: list[Effect]) -> None:
        real(self, [each for each in effects if not isinstance(each, SendSignature)])

    monkeypatch.setattr(AuthorityShell, "_carry_out", deaf)
    failures = simulate(1, ROUNDS).failures
    assert any(each.startswith("no round denied") for each in failures), failures
