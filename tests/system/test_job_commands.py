"""Commands on jobs that are in the journal, without a network (spec/13 §4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner, Result

from fogbank.cli.app import app
from fogbank.client.journal.records import JobState, Kept, Origin
from fogbank.client.journal.store_shell import Store
from fogbank.client.patterns import Pattern
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.nodes.job_spec import JobSpec, Program, Results, keep
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import JobInterrupted, Progress
from fogbank.relay.job.kinds import State
from fogbank.sandbox.data import Data
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task

Fog = Callable[..., Result]
Make = Callable[..., str]
RESULTS = {1: (0, b"one\n"), 2: (7, b"two\n"), 3: (0, b"three\n")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def fog(home: Path) -> Fog:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(
            app, [str(each) for each in arguments], env={"FOGBANK_HOME": str(home)}
        )

    return run


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home / "jobs")
    yield opened
    opened.close()


@pytest.fixture
def make(store: Store) -> Make:
    """Makes a job of three tasks of which some have ended, and perhaps it has too."""

    def make(
        ended: tuple[int, ...] = (1, 2, 3),
        state: JobState | None = JobState.FAILED,
        results: Results | None = None,
        kind: str = "map",
    ) -> str:
        files: dict[str, Data] = {}
        pattern = Pattern("p.wat", bytes(32), ("{}",))
        program = keep(Program(b"module", pattern), "program", files)
        spec = JobSpec(kind, program, 8, 5, results=results or Results())
        name = store.create(spec.title, spec.dump(), files)
        trio.run(fill, store, name, ended, state)
        return name

    return make


async def fill(store: Store, name: str, ended: tuple[int, ...], state: JobState | None) -> None:
    with store.drive(name) as job:
        await job.take_in([Kept(Origin(n, f"in {n}"), n - 1) for n in RESULTS])
        await job.taken_in(len(RESULTS))
        journal = job.journal()
        journal.reached(1, ("guard", "middle", "frank"))
        journal.failed_try(2, "grace", "it went away")
        journal.told(3, 1, State.RUNNING, "", 5 * 10**9)
        for number in ended:
            code, output = RESULTS[number]
            result = TaskResult(Outcome.COMPLETED, code, 9, 1, output, b"err %d\n" % number)
            await journal.ended([TaskEnd(number, Task(), Ending.DONE, result, worker="frank")])
        if state is not None:
            await job.over(state, "1 of 3 tasks failed", 7)
        await job.flush()


def lines_of(answer: Result) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in answer.stdout.splitlines()]
    assert all(row["schema"].startswith("fogbank.") for row in rows)
    return rows


def test_what_is_listed(fog: Fog, make: Make, store: Store) -> None:
    assert (fog("ps").exit_code, fog("ps").stdout) == (0, "")
    over, going = make(), make(ended=(1,), state=None)
    shown = {row["job"]: row for row in lines_of(fog("ps", "--json"))}
    assert set(shown) == {over, going}
    assert shown[going]["state"] == "detached"
    assert (shown[over]["state"], shown[over]["exit_code"]) == ("failed", 7)
    assert shown[going]["stages"] == {"done": 1, "queued": 1, "running": 1}
    assert all(row["tasks"] == 3 and row["reason"] is not None for row in shown.values())
    with store.drive(going):
        assert f"{going}  running" in fog("ps").stdout
    fog("get", over)
    rest = fog("ps")
    assert over not in rest.stdout
    assert "--all lists them too" in rest.stderr
    assert over in fog("ps", "--all").stdout


def test_results_are_printed_in_order_however_often(fog: Fog, make: Make) -> None:
    name = make(ended=(3, 1, 2))
    for _ in range(2):
        answer = fog("get", name[:6])
        assert (answer.exit_code, answer.stdout) == (7, "one\ntwo\nthree\n")
        assert "err 2" in answer.stderr
    rows = lines_of(fog("get", "--json", name))
    assert [(row["task"], row["stdout"], row["arguments"]) for row in rows] == [
        (1, "one\n", ["in 1"]),
        (2, "two\n", ["in 2"]),
        (3, "three\n", ["in 3"]),
    ]


def test_results_are_put_in_folders(fog: Fog, make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert fog("get", make(), "-o", out).exit_code == 7
    assert (out / "2" / "stdout").read_bytes() == b"two\n"
    assert json.loads((out / "2" / "task.json").read_text())["exit_code"] == 7


def test_what_is_kept_is_printed_of_a_job_that_is_not_over(
    fog: Fog, make: Make, store: Store
) -> None:
    name = make(ended=(1, 3), state=None)
    with store.drive(name):
        answer = fog("get", "--kept", name)
    assert (answer.exit_code, answer.stdout) == (125, "one\nthree\n")
    assert "1 tasks have no result yet" in answer.stderr


def test_a_log_has_outputs_in_the_order_of_their_ends(fog: Fog, make: Make) -> None:
    name = make(ended=(3, 1, 2))
    answer = fog("logs", "-f", name)
    assert (answer.exit_code, answer.stdout) == (0, "three\none\ntwo\n")
    assert "task 2: exit code 7" in answer.stderr
    one = fog("logs", name, "1")
    assert (one.stdout, "err 1" in one.stderr) == ("one\n", True)
    assert [row["task"] for row in lines_of(fog("logs", "--json", name))] == [3, 1, 2]
    assert fog("logs", name, "9").exit_code == 125


def test_a_log_of_what_is_not_there_yet_is_what_is_there(fog: Fog, make: Make) -> None:
    name = make(ended=(1,), state=None)
    answer = fog("logs", name)
    assert (answer.exit_code, answer.stdout) == (0, "one\n")


def test_why_says_the_state_and_what_happened(fog: Fog, make: Make) -> None:
    name = make(ended=(1,), state=None)
    said = fog("why", name).stdout
    assert "detached" in said
    assert "1 of 3 tasks have ended" in said
    assert f"fog attach {name}" in said
    assert "task 2: grace did not answer: it went away" in said
    assert fog("why", name, "3").stdout == "task 3 is running at frank: it runs at frank\n"
    assert fog("why", name, "1").stdout == "task 1 is done at frank: exit code 0\n"
    assert "grace did not answer: it went away" in fog("why", name, "2").stdout
    (row,) = lines_of(fog("why", name, "3", "--json"))
    assert (row["state"], row["worker"], row["fuel"]) == ("running", "frank", 5 * 10**9)
    (row,) = lines_of(fog("why", name, "--json"))
    assert [each["event"] for each in row["events"]]
    assert fog("why", name, "99").exit_code == 125


def test_what_is_over_says_how_to_try_again(fog: Fog, make: Make) -> None:
    name = make()
    assert f"fog retry {name} --failed" in fog("why", name).stdout


def test_only_what_is_over_is_forgotten(fog: Fog, make: Make, store: Store) -> None:
    over, going = make(), make(ended=(), state=None)
    answer = fog("rm", over, going)
    assert answer.exit_code == 125
    assert f"fog cancel {going}" in answer.stderr
    assert len(store.jobs()) == 2
    assert lines_of(fog("rm", "--json", over)) == [{"schema": "fogbank.removed/1", "job": over}]
    assert [each.id for each in store.jobs()] == [going]


def test_a_job_of_which_no_worker_has_anything_is_ended_here(
    fog: Fog, make: Make, store: Store
) -> None:
    name = make(ended=(1,), state=None)
    answer = fog("cancel", "--json", name)
    assert answer.exit_code == 0
    (row,) = lines_of(answer)
    assert (row["state"], row["stages"]) == ("cancelled", {"cancelled": 2, "done": 1})
    assert fog("get", name).stdout == "one\n"
    assert fog("cancel", name).exit_code == 0


def test_what_another_process_works_at_is_ended_by_it(fog: Fog, make: Make, store: Store) -> None:
    name = make(ended=(1,), state=None)

    async def other() -> None:
        with store.drive(name) as job:
            for _ in range(3000):
                if job.take_wish() == "cancel":
                    break
                await trio.sleep(0.01)
            await job.over(JobState.CANCELLED, "its user cancelled it", 130)

    async def both() -> Result:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            return await trio.to_thread.run_sync(fog, "cancel", name)

    assert trio.run(both).exit_code == 0
    assert store.job(name).state is JobState.CANCELLED


def test_waiting_for_jobs_ends_with_the_code_of_the_first_that_failed(
    fog: Fog, make: Make, store: Store
) -> None:
    good, bad = make(ended=(1, 3), state=None), make()

    async def succeed() -> None:
        with store.drive(good) as job:
            await job.over(JobState.DONE, "all is well", 0)

    trio.run(succeed)
    answer = fog("wait", "--json", good, bad)
    assert answer.exit_code == 7
    assert [row["job"] for row in lines_of(answer)] == [good, bad]
    assert fog("wait", good).exit_code == 0


def test_a_retry_needs_what_failed(fog: Fog, make: Make) -> None:
    name = make()
    assert "--failed" in fog("retry", name).stderr
    going = make(state=None)
    assert "wait for it" in fog("retry", going, "--failed").stderr
    assert fog("retry", make(ended=(1, 3), state=None), "--failed").exit_code == 125
    bad = fog("retry", name, "--failed", "--memory", "1000G")
    assert (bad.exit_code, "memory" in bad.stderr) == (125, True)


def test_attaching_to_what_is_over_delivers_what_was_not(
    fog: Fog, make: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    name = make(results=Results(folder=str(out)))
    answer = fog("attach", name)
    assert answer.exit_code == 7
    assert "failed: 1 of 3 tasks failed" in answer.stderr
    assert sorted(path.name for path in out.iterdir()) == ["1", "2", "3"]
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    fog("attach", name)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps


def test_a_job_that_is_not_there_gets_a_sentence(fog: Fog) -> None:
    for command in ("attach", "wait", "get", "cancel", "why", "rm", "logs"):
        answer = fog(command, "nosuchjb")
        assert answer.exit_code == 125
        assert "fog ps --all" in answer.stderr


def test_a_job_of_another_release_gets_a_sentence(fog: Fog, store: Store) -> None:
    name = store.create("p", '{"version": 99}', {})
    assert "another release" in fog("attach", name).stderr


def test_a_spec_outlives_its_text() -> None:
    files: dict[str, Data] = {}
    pattern = Pattern("p", bytes(32), ("a", "{}"), (("data.csv", b"1,2"),))
    program = keep(Program(b"module", pattern), "program", files)
    assert set(files.values()) == {b"module", b"1,2"}
    spec = JobSpec("map", program, 8, 5, 12.5, Results("/out", "/log"), program, ("array", "0-9"))
    assert JobSpec.load(spec.dump()) == spec
    again = spec.program.load(files.__getitem__)
    assert replace(again.pattern, program=bytes(32)) == pattern
    assert again.sent == b"module"


def test_reading_the_list_loads_no_network(home: Path) -> None:
    """`fog ps` is called often: it must not cost what a circuit does."""
    check = (
        "import sys\nfrom fogbank.cli.app import run_app\nsys.argv = ['fog', 'ps']\n"
        "code = run_app()\nassert 'fogbank.nodes.user' not in sys.modules\nsys.exit(code)"
    )
    environment = {**os.environ, "FOGBANK_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", check], env=environment, check=False)
    assert done.returncode == 0


def test_interrupted_tries_have_their_reasons(store: Store, make: Make) -> None:
    name = make(ended=(), state=None)

    async def fail() -> None:
        with store.drive(name) as job:
            error = JobInterrupted(Progress.RUNNING, "the circuit ended")
            await job.journal().ended([TaskEnd(1, Task(), Ending.FAILED, error=error)])

    trio.run(fail)
    with store.look(name) as job:
        task = job.task(1)
        assert task is not None
        assert "the circuit ended" in task.reason
