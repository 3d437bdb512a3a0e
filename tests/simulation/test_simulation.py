"""Whole networks from seeds: a handful of runs, and that runs replay and can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fogbank.client import paths
from fogbank.directory.authority_shell import AuthorityShell
from fogbank.directory.effects import Effect, SendSignature
from tests.simulation.run import Plan, Report, simulate
from tests.simulation.world import Size

SMALL = Size(4, 5, 2, 1)
CALM = Plan(Size(4, 8, 5, 3, calm=True), steps=2, harm=0.0, quiet=0.0)
PLAN = Plan(SMALL, steps=5, harm=0.9, quiet=0.0)
_REPLAY = """
import json
from tests.simulation.run import simulate
from tests.simulation.test_simulation import PLAN
print(json.dumps(simulate({seed}, PLAN).digest))
"""


def assert_well(report: Report) -> None:
    assert not report.failures, (report.seed, report.failures, report.last[-40:])


def test_a_healthy_network_of_twenty_nodes() -> None:
    report = simulate(1, CALM)
    assert_well(report)
    assert report.counts["tasks done"] >= 3
    assert report.counts["rounds judged"] == report.counts["rounds"] >= 2
    assert not report.faults


@pytest.mark.parametrize("seed", [9, 10])
def test_a_network_under_faults(seed: int) -> None:
    report = simulate(seed, PLAN)
    assert_well(report)
    assert report.faults
    assert report.counts["tasks done"] >= 1


def test_all_that_was_used_is_given_back() -> None:
    report = simulate(5, Plan(SMALL, steps=3, quiet=1.0))
    assert_well(report)
    assert report.checks["nothing leaks"] == 1


def test_a_seed_replays_exactly_whatever_the_order_of_hashes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    answer = subprocess.run(
        [sys.executable, "-c", _REPLAY.format(seed=9)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert json.loads(answer.stdout) == simulate(9, PLAN).digest
    assert simulate(10, PLAN).digest != simulate(9, PLAN).digest


def test_a_path_against_the_limits_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_apart", lambda *_: True)
    failures = simulate(1, CALM).failures
    assert failures
    assert all(each.startswith("path limits") for each in failures), failures


def test_a_denied_round_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = AuthorityShell._carry_out

    def deaf(self: AuthorityShell, effects: list[Effect]) -> None:
        real(self, [each for each in effects if not isinstance(each, SendSignature)])

    monkeypatch.setattr(AuthorityShell, "_carry_out", deaf)
    plan = Plan(Size(4, 5, 2, 1, calm=True), steps=4, harm=0.0, quiet=0.0)
    failures = simulate(1, plan).failures
    assert any(each.startswith("no round denied") for each in failures), failures
