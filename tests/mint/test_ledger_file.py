"""The ledger's file: commits that many share, kills, full disks, copies, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from typer.testing import CliRunner

from fogbank.cli.app import app
from fogbank.directory.mint.ledger import Locked, issue, lock
from fogbank.directory.mint.ledger_shell import SeriesFile
from fogbank.directory.mint.ledgers_shell import RESTORED, Ledgers, mark_restored
from fogbank.directory.store_shell import StoreError
from tests.mint.test_ledger import VOTES, entry, find, given, shares

_T = TypeVar("_T")
NOW = 1_000_000.0
LOCK_AND_TELL = """
import sys, trio
from pathlib import Path
from fogbank.directory.mint.ledger import issue, lock
from fogbank.directory.mint.ledger_shell import SeriesFile
from tests.mint.test_ledger import VOTES, entry, shares

async def main():
    file = SeriesFile(Path(sys.argv[1]), 0.0)
    async def client(name):
        for number in range(1000):
            each = entry("a", f"{name} {number}")
            each = entry(f"{name}{number}")
            each = type(each)(each.digest, each.signed, (each.digest,), each.outputs[:1])
            await file.write(lambda book: lock(book, each))
            print(f"locked {name}{number}\\n", end="", flush=True)
            await file.write(lambda book: issue(book, each, VOTES, shares(each)))
            print(f"issued {name}{number}\\n", end="", flush=True)
    async with trio.open_nursery() as nursery:
        for name in "pqrs":
            nursery.start_soon(client, name)

trio.run(main)
"""


async def at_once(function: Callable[..., _T], *args: object) -> _T:
    return function(*args)


async def test_all_that_wait_share_one_commit_and_each_commit_is_synced(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path / "0.db", NOW)
    (level,) = file._writer.execute("PRAGMA synchronous").fetchone()
    (mode,) = file._writer.execute("PRAGMA journal_mode").fetchone()
    assert (level, mode) == (2, "wal")
    answers: list[object] = []

    async def client(number: int) -> None:
        each = entry("a") if number == 0 else entry(chr(ord("a") + number))
        answers.append(await file.write(lambda book: lock(book, each)))

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(client, number)
    assert answers == [Locked()] * 200
    assert file.commits == 1
    file.close()


async def test_an_answer_leaves_only_once_it_is_in_the_file(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path / "0.db", NOW)
    beside = sqlite3.connect(tmp_path / "0.db")
    each = entry("a")
    await file.write(lambda book: lock(book, each))
    assert beside.execute("SELECT digest FROM request").fetchall() == [(each.digest,)]
    beside.close()
    file.close()


async def test_who_is_cancelled_leaves_a_whole_write_or_none(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path / "0.db", NOW)
    with trio.CancelScope() as scope:
        scope.cancel()
        await file.write(lambda book: lock(book, entry("ab")))
    assert file.head.locked in {0, 2}
    file.close()


async def test_a_full_disk_is_told_in_words_and_nothing_is_lost(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path / "0.db", NOW)
    await file.write(lambda book: lock(book, entry("a")))
    (pages,) = file._writer.execute("PRAGMA page_count").fetchone()
    file._writer.execute(f"PRAGMA max_page_count={pages + 1}")

    async def fill() -> None:
        for number in range(200):
            await file.write(partial(lock, entry=entry("b", str(number))))
            await file.write(partial(lock, entry=entry(chr(256 + number))))

    with pytest.raises(StoreError, match="make room on its disk"):
        await fill()
    (locked,) = file._writer.execute("SELECT count(*) FROM serial").fetchone()
    assert file.head.locked == locked > 1
    file._writer.execute("PRAGMA max_page_count=100000")
    # What could not be written was not answered, and can be once there is room.
    assert await file.write(lambda book: lock(book, entry("\u1000"))) == Locked()
    file.close()


@pytest.mark.parametrize("after", [1, 17, 60])
def test_killed_at_any_moment_all_that_was_answered_is_there(tmp_path: Path, after: int) -> None:
    path = tmp_path / "0.db"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK_AND_TELL, path], stdout=subprocess.PIPE, cwd=root, text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    file = SeriesFile(path, NOW, at_once)
    assert file.head.is_whole  # it is the file that was written
    for line in told:
        what, name = line.split()
        each = entry(name)
        held = find(file, each.digest)
        assert held is not None
        assert what == "locked" or (
            held.votes == VOTES and given(file, each.outputs[:1]) == shares(each)[:1]
        )
    (verdict,) = file._writer.execute("PRAGMA integrity_check").fetchone()
    assert verdict == "ok"
    file.close()


def test_a_copy_is_taken_for_an_old_one_and_leads_another_life(tmp_path: Path) -> None:
    path = tmp_path / "0.db"
    first = SeriesFile(path, NOW, at_once)
    assert (first.head.is_whole, first.head.life) == (True, 0)
    first.close()
    shutil.copy(path, tmp_path / "backup")
    (tmp_path / "backup").replace(path)
    second = SeriesFile(path, NOW + 5, at_once)
    assert (second.head.is_whole, second.head.life) == (False, NOW + 5)
    second.close()
    # Nor is it forgotten by a restart before the others' ledgers were merged.
    third = SeriesFile(path, NOW + 9, at_once)
    assert (third.head.is_whole, third.head.life) == (False, NOW + 5)
    trio.run(third.trust, 7, third.head.life)
    assert (third.head.is_whole, third.head.count) == (True, 7)
    third.close()


def test_a_file_that_is_missing_or_holds_less_than_was_named_has_lost_answers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "0.db"
    missing = SeriesFile(path, NOW, at_once, 1)
    assert (missing.head.is_whole, missing.head.life, missing.head.count) == (False, NOW, 0)
    missing.close()
    again = SeriesFile(path, NOW + 5, at_once, 1)
    assert (again.head.is_whole, again.head.life) == (False, NOW)
    trio.run(again.trust, 1, again.head.life)
    again.close()
    for named, is_whole in ((1, True), (2, False)):
        file = SeriesFile(path, NOW + 9, at_once, named)
        assert file.head.is_whole is is_whole
        file.close()


async def test_the_operators_word_makes_all_of_them_old(tmp_path: Path) -> None:
    ledgers = Ledgers(tmp_path / "mint", lambda: NOW)
    for series in range(2):
        await ledgers.open(series)
    await ledgers.doubt_if_told()
    assert all(each.head.is_whole for each in ledgers.all().values())
    said = CliRunner().invoke(app, ["authority", "restored", "--dir", str(tmp_path)])
    assert said.exit_code == 0
    await ledgers.doubt_if_told()
    assert not any(each.head.is_whole for each in ledgers.all().values())
    assert not (tmp_path / "mint" / RESTORED).exists()
    ledgers.close()


async def test_a_file_that_is_opened_after_the_operators_word_is_old_at_once(
    tmp_path: Path,
) -> None:
    ledgers = Ledgers(tmp_path / "mint", lambda: NOW)
    await ledgers.open(0)
    ledgers.close()
    mark_restored(tmp_path / "mint")
    again = Ledgers(tmp_path / "mint", lambda: NOW)
    head = (await again.open(0)).head
    assert (head.is_whole, head.life) == (False, int(NOW))
    again.close()


async def test_a_deletion_that_is_cut_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = Ledgers(tmp_path / "mint", lambda: NOW)
    await ledgers.open(0)
    unlink, left = Path.unlink, [1]

    def once(path: Path, *, missing_ok: bool = False) -> None:
        if not left:
            raise OSError(5, "it was cut off")
        left.pop()
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", once)
        await ledgers.expire(lambda _: True)
    assert (tmp_path / "mint" / "0.db").exists()
    assert await ledgers.expire(lambda _: True) == [0]
    assert not list((tmp_path / "mint").iterdir())


async def test_a_damaged_file_is_told_in_words_and_a_new_one_in_its_place_is_old(
    tmp_path: Path,
) -> None:
    ledgers = Ledgers(tmp_path / "mint", lambda: NOW)
    file = await ledgers.open(0)
    await file.write(partial(lock, entry=entry("a")))
    ledgers.close()
    damaged = tmp_path / "mint" / "0.db"
    damaged.write_bytes(b"\xff" * len(damaged.read_bytes()))
    with pytest.raises(StoreError, match=r"is damaged .* move the file away"):
        await ledgers.open(0, named=2)
    damaged.rename(tmp_path / "away")
    head = (await ledgers.open(0, named=2)).head
    assert (head.is_whole, head.life) == (False, int(NOW))
    ledgers.close()


async def test_what_is_over_leaves_no_file(tmp_path: Path) -> None:
    ledgers = Ledgers(tmp_path / "mint", lambda: NOW)
    for series in range(3):
        file = await ledgers.open(series)
        each = entry("a")
        await file.write(partial(issue, entry=each, votes=VOTES, shares=shares(each)))
    assert await ledgers.expire(lambda series: series < 2) == [0, 1]
    assert list(ledgers.counts()) == [2]
    assert {path.name.partition(".")[0] for path in (tmp_path / "mint").iterdir()} == {"2"}
    ledgers.close()
