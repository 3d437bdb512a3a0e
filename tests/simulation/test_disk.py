"""The simulated disk: it harms what was not synced, and nothing that was."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fogbank.directory.store_shell import Store
from tests.simulation.chance import Chance
from tests.simulation.disk import Disk, Platter
from tests.simulation.mutants import MUTANTS

ROUNDS = range(0, 1500, 30)


def machine(seed: int = 0) -> Platter:
    return Platter(Chance(seed))


def disk(platter: Platter, *, full: bool = False) -> Disk:
    return Disk(lambda: full, platter)


def fill(store: Store, rounds: range = ROUNDS) -> None:
    for valid_after in rounds:
        store.journal_vote(valid_after, b"vote %d" % valid_after * 500)


def votes(platter: Platter, path: Path) -> list[int]:
    store = disk(platter).store(path)
    known = sorted(store.restore().journals)
    store.close()
    return known


def test_committed_journals_outlive_a_power_loss_with_torn_pages(tmp_path: Path) -> None:
    half, torn = len(ROUNDS) // 2, 0
    for seed in range(5):
        path, platter = tmp_path / f"{seed}.sqlite", machine(seed)
        before = disk(platter).store(path)
        fill(before, ROUNDS[:half])
        before.close()
        now = disk(platter)
        store = now.store(path)
        fill(store, ROUNDS[half:])
        intact = path.read_bytes()
        now.die(power=True)
        torn += platter.left[path][""] != intact
        store.close()
        assert votes(platter, path) == list(ROUNDS)
    assert torn


def test_a_killed_process_writes_nothing_any_more(tmp_path: Path) -> None:
    path, platter = tmp_path / "authority.sqlite", machine()
    now = disk(platter)
    store = now.store(path)
    fill(store)
    now.die(power=False)
    with pytest.raises(OSError, match="No space") as error:
        now.write(tmp_path / "state", b"new")
    assert error.value.errno == errno.ENOSPC
    store.close()
    assert votes(platter, path) == list(ROUNDS)


def test_commits_that_were_not_synced_are_lost(tmp_path: Path) -> None:
    path, platter = tmp_path / "authority.sqlite", machine()
    with MUTANTS["commits are not synced"][1]():
        now = disk(platter)
        store = now.store(path)
        fill(store)
        now.die(power=True)
        store.close()
        assert votes(platter, path) == []


def test_a_file_is_whole_after_a_power_loss_if_it_was_synced(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for seed in range(8):
        now = disk(machine(seed))
        now.write(path, b"old" * 1000)
        now.write(path, b"new" * 1000)
        now.die(power=True)
        assert path.read_bytes() == b"new" * 1000


def test_a_file_is_torn_after_a_power_loss_if_it_was_not_synced(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with MUTANTS["files are not synced"][1]():
        now = disk(machine())
        now.write(path, b"new" * 1000)
        now.die(power=True)
    assert len(path.read_bytes()) < 3000
