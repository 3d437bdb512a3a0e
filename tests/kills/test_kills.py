"""What is promised holds while clients, workers and relays are killed at random (spec/13 §5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.arrays import Array
from tests.kills.run import CLIENT, WORKER, Run
from tests.system.networks import start_network, stop_network


@pytest.mark.network
def test_arrays_outlive_whoever_is_killed(tmp_path: Path) -> None:
    """Each array finishes, each result comes once, nothing that was fetched is computed again."""
    network = start_network(tmp_path / "network")
    said: list[str] = []
    try:
        report = Run(network.folder, tmp_path, 7, said.append, 1.0).run(kills=6, tasks=8)
    finally:
        stop_network(network)
    assert not report.faults, "\n".join(report.faults + said)
    assert report.kills.total() >= 6
    assert {CLIENT, WORKER} <= set(report.kills)


def test_what_was_noted_is_judged(tmp_path: Path) -> None:
    """The test itself sees what it looks for."""
    array = Array(tmp_path, tmp_path / "array", 3, 1, leave=False)
    notes = tmp_path / "array" / "notes"
    notes.write_text("way a b c\nsent 1\nsent 2\nsent 1\nended 1\nended 2\n")
    assert array.ways() == [["a", "b", "c"]]
    assert array.computed_again() == []
    notes.write_text("sent 1\nended 1\nsent 2\nsent 1\n")
    assert array.computed_again() == ["task 1 was sent although its result was here"]
    notes.write_text("sent 1\nended 1\nended 1\n")
    assert array.computed_again() == ["task 1 was ended although its result was here"]
