"""The journal of jobs: what it keeps outlives the end of the client at any moment (spec/13)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import time

import pytest
import trio

from fogbank.client.journal.errors import JobBusy, JobUnknown, JournalError
from fogbank.client.journal.records import JobState, Kept, Origin, Stage
from fogbank.client.journal.schema import MIGRATIONS
from fogbank.client.journal.store_shell import Store
from fogbank.client.journal.words import Hold, Journal
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.job.kinds import State
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task
from tests.client.networks import identity

HOLD = Hold(bytes(32), bytes(range(32)))
PROGRAM = {"program": b"the module"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "jobs")
    yield opened
    opened.close()


def result(number: int, code: int = 0) -> TaskResult:
    return TaskResult(Outcome.COMPLETED, code, 100, 8, b"out %d" % number, b"err")


def end(number: int, code: int = 0) -> TaskEnd:
    return TaskEnd(number, Task(), Ending.DONE, result(number, code), worker="frank", seconds=0.5)


def tasks(count: int, first: int = 1) -> list[Kept]:
    return [Kept(Origin(first + place, f"value {place}"), place) for place in range(count)]


async def test_what_a_task_was_made_of_and_came_to_is_there_afterwards(store: Store) -> None:
    name = store.create("copy.wasm a", "{}", PROGRAM)
    with store.drive(name) as job:
        span, other = job.inputs.append(b"its input"), job.inputs.append(b"a file")
        origin = Origin(7, "a", span, (("data.csv", other),))
        await job.take_in([Kept(origin, 0, digest="abc"), *[replace(tasks(2)[1], place=1)]])
        await job.taken_in(2)
        await job.journal().ended([end(7, code=3)])
    again = Store(store.folder)
    record = again.job(name)
    assert (record.total, record.over, record.failed, record.undelivered) == (2, 1, 1, 1)
    assert record.state is JobState.DETACHED
    with again.drive(name) as job:
        kept = job.task(7)
        assert kept is not None
        assert (kept.stage, kept.code, kept.outcome, kept.fuel) == (Stage.DONE, 3, "completed", 100)
        assert (kept.worker, kept.seconds, kept.digest) == ("frank", 0.5, "abc")
        assert job.outputs.read(kept.stdout) == b"out 7"
        assert job.outputs.read(kept.stderr) == b"err"
        assert kept.origin == origin
        assert job.inputs.read(span) == b"its input"
        assert job.inputs.read(other) == b"a file"
        assert job.file("program") == b"the module"
        assert [each.number for each in job.unfinished()] == [2]
        assert [each.number for each in job.undelivered()] == [7]
        await job.delivered([7])
        assert not list(job.undelivered())
    again.close()


async def test_the_first_result_that_is_kept_stands(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(1))
        journal = job.journal()
        await journal.ended([end(1)])
        await journal.ended([end(1, code=5)])
        await journal.ended([TaskEnd(1, Task(), Ending.EXPIRED)])
        journal.told(1, 1, State.RUNNING, "too late", 5)
        await job.flush()
        kept = job.task(1)
        assert kept is not None
        assert (kept.stage, kept.code) == (Stage.DONE, 0)


async def test_every_end_has_its_code_and_reason(store: Store) -> None:
    refused = JobRefused(Cause.BUSY, "it is full")
    ends = [
        TaskEnd(1, Task(), Ending.EXPIRED),
        TaskEnd(2, Task(), Ending.CANCELLED),
        TaskEnd(3, Task(), Ending.FAILED, error=refused),
        TaskEnd(4, Task(), Ending.FAILED),
        TaskEnd(5, Task(), Ending.DONE, TaskResult(Outcome.TRAP, reason="unreachable")),
    ]
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(5))
        await job.journal().ended(ends)
        found = list(job.tasks())
    assert [each.code for each in found] == [124, 130, 126, 125, 122]
    assert all(each.reason for each in found)
    assert "it is full" in found[2].reason
    assert store.job(name).failed == 5


async def test_sessions_that_workers_hold_are_known_until_they_are_over(store: Store) -> None:
    worker = identity("worker")
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(3))
        journal: Journal = job.journal()
        await journal.lane_opening(4, worker, HOLD)
        await journal.sent(4, {1: 1, 2: 2})
        await journal.sent(4, {3: 3})
        await journal.ended([end(2)])
        assert [each.stage for each in job.tasks()] == [Stage.SENT, Stage.DONE, Stage.SENT]
    with store.drive(name) as job:
        (lane,) = job.journal().held()
        assert (lane.lane, lane.worker, lane.hold) == (4, worker, HOLD)
        assert (lane.tasks, lane.last_id) == ({1: 1, 3: 3}, 3)
        assert job.journal(level=1).held() == ()
        await job.journal().lane_over(4)
        assert job.journal().held() == ()
        await job.settle("detached")
        assert {each.stage for each in job.unfinished()} == {Stage.QUEUED}


async def test_a_session_that_no_worker_holds_any_more_is_not_gone_back_to(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.journal().lane_opening(1, identity("worker"), HOLD)
        await job.journal().sent(1, {7: 7})
        store.database.write_now(
            lambda each: each.db.execute("UPDATE lane SET seen = ?", (time() - 26 * 3600,))
        )
        assert job.journal().held() == ()
        # Its number may be given to another one.
        await job.journal().lane_opening(1, identity("other"), HOLD)
        (lane,) = job.journal().held()
        assert (lane.worker, lane.tasks, lane.last_id) == (identity("other"), {}, 0)


async def test_calls_that_come_at_once_share_a_commit(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(200))
        commits = 0

        def count(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        store.database._writer.set_trace_callback(count)
        async with trio.open_nursery() as nursery:
            for number in range(1, 201):
                nursery.start_soon(job.journal().ended, [end(number)])
        store.database._writer.set_trace_callback(None)
        assert not list(job.unfinished())
    assert 1 <= commits < 20


async def test_a_cancelled_caller_leaves_nothing_half_written(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(50))
        async with trio.open_nursery() as nursery:
            for number in range(1, 51):
                nursery.start_soon(job.journal().ended, [end(number)])
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await job.flush()
        for kept in job.tasks():
            assert kept.is_over == (kept.stdout is not None)
            if kept.is_over:
                assert job.outputs.read(kept.stdout) == b"out %d" % kept.number


async def test_ten_thousand_tasks_are_written_and_read_in_portions(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(10_000))
        await job.taken_in(10_000)
        for first in range(1, 10_001, 500):
            await job.journal().ended([end(number) for number in range(first, first + 500)])
        assert [each.number for each in job.undelivered()] == list(range(1, 10_001))
        await job.delivered(range(1, 10_001))
    assert store.job(name).over == 10_000
    assert store.job(name).undelivered == 0


async def test_one_process_at_a_time_drives_a_job(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    assert not store.is_driven(name)
    with store.drive(name):
        assert store.is_driven(name)
        other = Store(store.folder)
        with pytest.raises(JobBusy, match=f"process {os.getpid()}"), other.drive(name):
            pass
        with pytest.raises(JobBusy):
            other.remove(name)
        assert other.job(name).state is JobState.QUEUED
        assert str(os.getpid()) in other.job(name).reason
        assert other.job(name, is_left=True).state is JobState.DETACHED
        other.close()
    assert store.job(name).state is JobState.DETACHED


async def test_a_wish_is_heard_once(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        assert job.take_wish() is None
        store.wish(name, "cancel")
        assert job.take_wish() == "cancel"
        await job.flush()
        assert job.take_wish() is None


async def test_a_job_that_is_over_says_why_and_can_be_tried_again(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(3))
        await job.journal().ended([end(1), end(2, code=9)])
        await job.journal(1).ended([end(1)])
        await job.over(JobState.CANCELLED, "its user cancelled it", 130)
    record = store.job(name)
    assert (record.state, record.code, record.is_over) == (JobState.CANCELLED, 130, True)
    assert record.reason == "its user cancelled it"
    assert [each.text for each in store.events(name)] == ["cancelled: its user cancelled it"]
    with store.drive(name) as job:
        assert job.task(1, level=1) is not None
        assert await job.again('{"new": 1}') == 2
        assert [each.number for each in job.unfinished()] == [2, 3]
        assert job.task(1, level=1) is None
    assert store.job(name).spec == '{"new": 1}'
    assert not store.job(name).is_over


async def test_what_happened_is_told_in_order_and_bounded(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        for count in range(100):
            job.note(f"try {count}", 1)
        job.note("of the job")
        await job.flush()
    assert [each.text for each in store.events(name, 1)] == [f"try {n}" for n in range(40)]
    assert store.events(name)[-1].text == "of the job"


def test_a_job_is_found_by_the_beginning_of_its_name(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    assert store.job(name[:7].upper()).id == name
    for unknown in ("", "%", "nosuchjb", name + "a"):
        with pytest.raises(JobUnknown, match="fog ps --all"):
            store.job(unknown)


def test_what_is_removed_is_gone(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    other = store.create("q", "{}", PROGRAM)
    store.remove(name)
    assert not (store.folder / name).exists()
    assert [each.id for each in store.jobs()] == [other]
    with pytest.raises(JobUnknown):
        store.remove(name)


async def test_old_jobs_are_forgotten_and_others_are_not(store: Store) -> None:
    names = [store.create("p", "{}", PROGRAM) for _ in range(3)]
    for name in names[:2]:
        with store.drive(name) as job:
            await job.take_in(tasks(1))
            await job.journal().ended([end(1)])
            await job.over(JobState.DONE, "", 0)
    with store.drive(names[0]) as job:
        await job.delivered([1])
    long_ago = time() - 30 * 86400
    store.database.write_now(lambda each: each.db.execute("UPDATE job SET ended = ?", (long_ago,)))
    orphan = store.folder / "aaaaaaaa"
    orphan.mkdir()
    os.utime(orphan, (long_ago, long_ago))
    store.prune()
    # The second one's result was not delivered, the third is not over.
    assert {each.id for each in store.jobs()} == set(names[1:])
    assert not orphan.exists()
    assert not (store.folder / names[0]).exists()


def test_files_are_the_users_alone(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name):
        paths = [store.folder, *store.folder.rglob("*")]
    assert len(paths) > 5
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "jobs.db")
    db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(JournalError, match="upgrade"):
        Store(tmp_path)


def test_a_file_that_is_no_journal_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match="move it away"):
        Store(tmp_path)


async def test_a_disk_that_takes_no_more_loses_nothing(store: Store) -> None:
    name = store.create("p", "{}", PROGRAM)
    with store.drive(name) as job:
        await job.take_in(tasks(2))

        def full() -> None:
            raise OSError(28, "No space left on device")

        sync, job.outputs.sync = job.outputs.sync, full  # type: ignore[method-assign]
        with pytest.raises(JournalError, match="make room"):
            await job.journal().ended([end(1)])
        job.outputs.sync = sync  # type: ignore[method-assign]
        assert len(list(job.unfinished())) == 2
        await job.journal().ended([end(1)])
        kept = job.task(1)
        assert kept is not None
        assert job.outputs.read(kept.stdout) == b"out 1"


WRITER = """
import sys, trio
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.client.test_journal import end, tasks, HOLD
from tests.client.networks import identity
from fogbank.client.journal.store_shell import Store

async def main():
    store = Store(Path({folder!r}))
    name = store.create("p", "{{}}", {{"program": b"the module"}})
    with store.drive(name) as job:
        await job.take_in(tasks(2000))
        journal = job.journal()
        print(name, flush=True)
        for number in range(1, 2001):
            await journal.lane_opening(number, identity("w"), HOLD)
            await journal.sent(number, {{1: number}})
            await journal.ended([end(number)])
            print(number, flush=True)
            await journal.lane_over(number)

trio.run(main)
"""


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_it_has_what_it_said_it_has(tmp_path: Path, moment: int) -> None:
    """Whatever was told to be safe is; whatever is there is whole; the job goes on."""
    root = str(Path(__file__).resolve().parents[2])
    script = WRITER.format(root=root, folder=str(tmp_path / "jobs"))
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    name = writer.stdout.readline().strip()
    # The pipe holds what was said meanwhile: the kill comes at some moment of a busy writer.
    for _ in range(moment * 61):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    with writer:
        said = [int(line) for line in writer.stdout if line.endswith("\n")]
    safe = max([moment * 61, *said])
    store = Store(tmp_path / "jobs")
    with store.drive(name) as job:
        found = list(job.tasks())
        assert len(found) == 2000
        over = [each.number for each in found if each.is_over]
        assert over == list(range(1, len(over) + 1))
        assert safe <= len(over) <= safe + 1
        for kept in found[: len(over)]:
            assert job.outputs.read(kept.stdout) == b"out %d" % kept.number
        lanes = job.journal().held()
        assert len(lanes) <= 1
        assert all(set(lane.tasks.values()) <= {len(over) + 1} for lane in lanes)

        async def go_on() -> None:
            await job.journal().ended([end(number) for number in range(len(over) + 1, 2001)])

        trio.run(go_on)
        assert not list(job.unfinished())
    store.close()
