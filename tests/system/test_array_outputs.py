"""Where the results of `fog map` go, and that each goes there once (spec/11 §2, spec/13 §3)."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fogbank.cli import array_outputs
from fogbank.cli.array_outputs import AsJson, InOrder, Logged, OfRun, ToFolder
from fogbank.cli.joblog import JobLog, Recorded
from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import Kept, Origin
from fogbank.client.journal.store_shell import Store
from fogbank.client.patterns import Pattern
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.nodes.delivery import Delivery, Output, deliver_all
from fogbank.relay.job.client_session import TaskResult
from fogbank.sandbox.data import Data
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task

PATTERN = Pattern("p", bytes(32), ("-x",))


def end_of(number: int, stdout: bytes = b"", code: int = 0) -> TaskEnd:
    result = TaskResult(Outcome.COMPLETED, code, 5, 1, stdout, b"err %d\n" % number)
    return TaskEnd(number, Task(("p", "a")), Ending.DONE, result, worker="w", seconds=0.5)


@asynccontextmanager
async def job_of(folder: Path, count: int) -> AsyncIterator[Job]:
    store = Store(folder / "jobs")
    name = store.create("p", "{}", {})
    with store.drive(name) as job:
        await job.take_in([Kept(Origin(place + 1, "a"), place) for place in range(count)])
        yield job
    store.close()


async def deliver(job: Job, output: Output, ends: list[TaskEnd]) -> None:
    """Have tasks end one after the other, each delivered before the next if it can be."""
    delivery = Delivery(job, output)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.run)
        for end in ends:
            await job.journal().ended([end])
            delivery.wake()
            await trio.testing.wait_all_tasks_blocked()
        delivery.finish()


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 5)))[::3])
async def test_outputs_are_printed_in_the_order_of_their_tasks(
    order: tuple[int, ...], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    texts = {1: b"one\n", 2: bytes(10_000), 3: b"", 4: b"four"}
    async with job_of(tmp_path, 4) as job:
        await deliver(job, InOrder(), [end_of(number, texts[number]) for number in order])
        assert not list(job.undelivered())
    out, err = capfdbinary.readouterr()
    assert out == b"".join(texts.values())
    assert err == b"err 1\nerr 2\nerr 3\nerr 4\n"


async def test_a_task_without_a_result_does_not_stop_the_others(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with job_of(tmp_path, 2) as job:
        await deliver(job, InOrder(), [end_of(2, b"two"), TaskEnd(1, Task(), Ending.EXPIRED)])
    assert capfdbinary.readouterr()[0] == b"two"


async def test_each_task_has_a_folder_that_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # What a client that was killed left is replaced.
    (out / "3").mkdir(parents=True)
    (out / "3" / "stdout").write_bytes(b"half")
    (out / ".3.tmp").mkdir()
    ends = [end_of(1, b"three", 7), TaskEnd(2, Task(), Ending.FAILED), end_of(3, b"five")]
    async with job_of(tmp_path, 3) as job:
        await deliver(job, ToFolder(out, PATTERN), ends)
    assert sorted(path.name for path in out.iterdir()) == ["1", "3"]
    assert (out / "1" / "stdout").read_bytes() == b"three"
    assert (out / "1" / "stderr").read_bytes() == b"err 1\n"
    assert (out / "3" / "stdout").read_bytes() == b"five"
    report = json.loads((out / "1" / "task.json").read_text())
    assert (report["task"], report["exit_code"], report["outcome"]) == (1, 7, "completed")
    assert report["arguments"] == ["-x", "a"]


async def test_json_is_a_line_for_each_task(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with job_of(tmp_path, 2) as job:
        await deliver(
            job, AsJson(PATTERN), [end_of(2, b"\xff"), TaskEnd(1, Task(), Ending.EXPIRED)]
        )
    first, second = map(json.loads, capfd.readouterr()[0].splitlines())
    assert first["schema"] == second["schema"] == "fogbank.task/1"
    assert (first["task"], first["stdout"], first["stdout_base64"]) == (2, None, "/w==")
    assert (second["task"], second["outcome"], second["exit_code"]) == (1, "expired", 124)
    assert second["reason"]
    assert "stdout" not in second


async def test_a_run_is_one_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = OfRun(lambda worker: ("a", "b", worker), as_json=True)
    async with job_of(tmp_path, 1) as job:
        await deliver(job, output, [end_of(1, b"hello", 3)])
    shown = json.loads(capfd.readouterr()[0])
    assert (shown["schema"], shown["exit_code"], shown["stdout"]) == ("fogbank.run/1", 3, "hello")
    assert shown["path"] == ["a", "b", "w"]


class Failing:
    """Takes two results and then no more, as a disk that is full."""

    in_order = False

    def __init__(self) -> None:
        self.taken: list[int] = []

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        del stdout, stderr
        if len(self.taken) == 2:
            raise OSError(28, "No space left on device")
        self.taken.append(task.number)

    def settle(self) -> None:
        pass


class Recording:
    """A log that tells what happens to it."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def has(self, task: Kept) -> bool:
        return task.number < 0

    def record(self, task: Kept, began: float) -> None:
        del began
        self._events.append(f"line {task.number}")

    def settle(self) -> None:
        self._events.append("log on the disk")


async def test_results_are_on_the_disk_before_their_lines_are_and_these_before_their_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def settled(path: Path) -> None:
        assert path.exists()
        events.append(str(path.relative_to(tmp_path)))

    monkeypatch.setattr(array_outputs, "sync", settled)
    out = tmp_path / "out"
    async with job_of(tmp_path, 3) as job:
        await job.journal().ended([end_of(number, b"x") for number in range(1, 4)])
        log = Recording(events)
        delivery = Delivery(
            job, ToFolder(out, PATTERN), log, lambda task: events.append(f"mark {task.number}")
        )
        delivery.finish()
        await delivery.run()
    files = {
        f"out/{n}{each}" for n in range(1, 4) for each in ("", "/stdout", "/stderr", "/task.json")
    }
    assert set(events[:12]) == files
    assert events[12] == "out"
    assert events[13:17] == ["line 1", "line 2", "line 3", "log on the disk"]
    assert events[17:] == ["mark 1", "mark 2", "mark 3"]


async def test_what_was_delivered_is_marked_and_the_rest_is_not(tmp_path: Path) -> None:
    output = Failing()
    async with job_of(tmp_path, 5) as job:
        await job.journal().ended([end_of(number) for number in range(1, 6)])
        with pytest.RaisesGroup(OSError):
            await deliver(job, output, [])
        assert output.taken == [1, 2]
        assert [task.number for task in job.undelivered()] == [3, 4, 5]
        out = tmp_path / "out"
        await deliver(job, ToFolder(out, PATTERN), [])
        assert sorted(path.name for path in out.iterdir()) == ["3", "4", "5"]
        # What the log of a client that was killed has is where it belongs.
        await job.take_in([Kept(Origin(6, "a"), 5, digest="d6"), Kept(Origin(7, "a"), 6)])
        await job.journal().ended([end_of(6, code=4), end_of(7)])
        log = JobLog.open(tmp_path / "log", resume=False)
        log.recorded |= {6: Recorded(4, "d6"), 7: Recorded(9, "")}
        delivery = Delivery(job, ToFolder(out, PATTERN), Logged(log, PATTERN))
        delivery.finish()
        await delivery.run()
        log.close()
        assert sorted(path.name for path in out.iterdir()) == ["3", "4", "5", "7"]
        lines = (tmp_path / "log").read_text().splitlines()[1:]
        assert [line.split("\t")[0] for line in lines] == ["7"]
        assert not list(job.undelivered())
        # All can be had again, at any time.
        await deliver_all(job, ToFolder(out, PATTERN))
        assert len(list(out.iterdir())) == 7
