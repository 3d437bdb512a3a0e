"""Jobs that outlive their command, on a network of real processes (spec/13)."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.system import programs
from tests.system.networks import Network, command, environment

pytestmark = pytest.mark.network
PATIENCE = 60.0


def slow(millions: int) -> str:
    """A program that goes round so often, then copies standard input."""
    return programs.COPY.replace(
        '(func (export "_start")',
        '(func (export "_start") (local $n i32)\n'
        f"    (local.set $n (i32.const {millions}000000))\n"
        "    (loop $spin (br_if $spin (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
    ).replace("(call $exit (i32.const 7))", "")


LINES = b"".join(b"line %d\n" % number for number in range(1, 41))


class User:
    """A user with a home of his own, so that his jobs are his."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        network_file = network.folder / "client" / "network.toml"
        (self.home / "network.toml").write_bytes(network_file.read_bytes())
        self.slow = folder / "slow.wat"
        self.slow.write_text(slow(60))
        self.long = folder / "long.wat"
        self.long.write_text(slow(400))
        self.lines = folder / "lines"
        self.lines.write_bytes(LINES)

    def fog(self, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self._network.fog(*arguments, stdin=stdin, home=self.home)

    @contextmanager
    def start(self, *arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; it is killed at the end of the block if it is still there."""
        process = subprocess.Popen(
            command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(self.home),
            **options,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def job(self) -> dict[str, Any]:
        """The one job that there is."""
        (row,) = map(json.loads, self.fog("ps", "--all", "--json").stdout.splitlines())
        return dict(row)

    def has(self, least: int) -> bool:
        """Whether so many tasks have succeeded."""
        return len(self.ended()) >= least

    def ended(self) -> dict[int, tuple[Any, ...]]:
        """What the journal has of tasks that have ended, by their numbers."""
        path = self.home / "jobs" / "jobs.db"
        if not path.exists():
            return {}
        db = sqlite3.connect(path, timeout=PATIENCE)
        try:
            rows = db.execute(
                "SELECT number, seq, worker, seconds, output FROM task WHERE over AND code = 0"
            ).fetchall()
        except sqlite3.OperationalError:
            # Its tables are not there yet.
            return {}
        finally:
            db.close()
        return {row[0]: row for row in rows}


@pytest.fixture
def user(network: Network, tmp_path: Path) -> User:
    return User(network, tmp_path)


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def test_what_ctrl_c_detaches_comes_back_in_another_process(user: User) -> None:
    with user.start("map", user.slow, "--lines", user.lines, "-j", "4") as first:
        wait_for(lambda: user.has(1), "the first result")
        # What the user does to his files meanwhile is no matter.
        user.lines.write_bytes(b"")
        user.slow.unlink()
        first.send_signal(signal.SIGINT)
        printed, said = first.communicate(timeout=PATIENCE)
    job = user.job()
    assert first.returncode == 130, said
    assert f"fog attach {job['job']}".encode() in said
    assert (job["state"], job["tasks"]) == ("detached", 40)
    known = user.ended()
    assert 1 <= len(known) < 40
    answer = user.fog("attach", job["job"])
    assert answer.returncode == 0, answer.stderr
    assert printed + answer.stdout == LINES
    assert known.items() <= user.ended().items()
    job = user.job()
    assert (job["state"], job["undelivered"]) == ("done", 0)
    assert user.fog("get", job["job"]).stdout == LINES


def test_a_client_killed_in_the_middle_costs_no_result_that_it_had(user: User) -> None:
    out = user.folder / "out"
    arguments: tuple[str | Path, ...]
    arguments = ("map", user.slow, "--lines", user.lines, "-j", "4", "-o", out)
    known: dict[int, tuple[Any, ...]] = {}
    for least in (1, 8):
        with user.start(*arguments) as process:
            wait_for(partial(user.has, least), "results")
            process.kill()
        found = user.ended()
        assert known.items() <= found.items()
        known = found
        arguments = ("attach", user.job()["job"])
    job = user.job()
    assert job["state"] == "detached"
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*/stdout")}
    answer = user.fog("wait", job["job"], "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["state"] == "done"
    assert known.items() <= user.ended().items()
    for number, line in enumerate(LINES.splitlines(keepends=True), 1):
        assert (out / str(number) / "stdout").read_bytes() == line
    assert len((out / "joblog").read_text().splitlines()) == 41
    assert stamps


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_is_detached_by_signals_and_fetched_later(
    user: User, number: signal.Signals, code: int
) -> None:
    with user.start("run", user.long, "--json") as process:
        wait_for((user.home / "jobs" / "jobs.db").exists, "the journal")
        wait_for(lambda: b"open" in open_states(user), "the job")
        process.send_signal(number)
        printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    shown = json.loads(printed)
    assert (shown["schema"], shown["state"]) == ("fogbank.job/1", "detached")
    assert signal.Signals(number).name in shown["reason"]
    answer = user.fog("get", shown["job"], "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["outcome"] == "completed"


def open_states(user: User) -> bytes:
    db = sqlite3.connect(user.home / "jobs" / "jobs.db", timeout=PATIENCE)
    try:
        return b" ".join(row[0].encode() for row in db.execute("SELECT state FROM job"))
    except sqlite3.OperationalError:
        return b""
    finally:
        db.close()


def test_a_command_that_is_to_outlive_its_terminal_does(user: User) -> None:
    with user.start("run", user.slow, preexec_fn=ignore_hangup) as process:
        wait_for((user.home / "jobs" / "jobs.db").exists, "the journal")
        wait_for(lambda: b"open" in open_states(user), "the job")
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_a_tail_goes_on_where_the_command_that_worked_is_killed(user: User) -> None:
    """It shows every task once, to the last, and its exit code says so."""
    with user.start("map", user.slow, "--lines", user.lines, "-j", "4") as first:
        wait_for(lambda: user.has(1), "the first result")
        with user.start("logs", "-f", user.job()["job"]) as tail:
            wait_for(lambda: user.has(5), "more results")
            first.kill()
            printed, said = tail.communicate(timeout=PATIENCE)
    assert tail.returncode == 0, said
    assert sorted(printed.splitlines()) == sorted(LINES.splitlines())


def test_a_tail_that_is_told_to_end_does_not_end_as_if_all_was_there(user: User) -> None:
    with user.start("map", user.slow, "--array", "1-999", "-j", "2") as first:
        wait_for(lambda: user.has(1), "the first result")
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=PATIENCE)
    with user.start("logs", "-f", user.job()["job"]) as tail:
        wait_for(lambda: user.job()["state"] != "detached", "the tail to work")
        tail.send_signal(signal.SIGTERM)
        tail.communicate(timeout=PATIENCE)
    assert tail.returncode == 143
    assert user.job()["state"] == "detached"
    assert user.fog("cancel", user.job()["job"]).returncode == 0


def test_what_is_handed_over_is_there_when_its_user_comes_back(user: User) -> None:
    left = user.fog("map", "-d", user.slow, "--lines", user.lines)
    assert left.returncode == 0, left.stderr
    job = user.job()
    assert left.stdout.decode() == job["job"] + "\n"
    assert job["state"] == "detached"
    assert handed_over(user) == 40 - len(user.ended())
    waited = user.fog("wait", job["job"])
    assert (waited.returncode, waited.stdout) == (0, b""), waited.stderr
    assert user.fog("get", job["job"]).stdout == LINES
    again = user.fog("run", "-d", "--json", user.slow, stdin=b"hello")
    shown = json.loads(again.stdout)
    assert (again.returncode, shown["state"]) == (0, "detached")
    assert user.fog("get", shown["job"]).stdout == b"hello"


def handed_over(user: User) -> int:
    db = sqlite3.connect(user.home / "jobs" / "jobs.db", timeout=PATIENCE)
    try:
        (count,) = db.execute("SELECT count(DISTINCT number) FROM sent").fetchone()
    finally:
        db.close()
    return int(count)


def test_what_failed_is_tried_again_with_other_limits(user: User) -> None:
    first = user.fog("map", user.slow, "--fuel", "1M", "--lines", user.lines, "-j", "8")
    assert (first.returncode, first.stdout) == (120, b"")
    job = user.job()
    assert (job["state"], job["failed"]) == ("failed", 40)
    assert "used up its fuel" in job["reason"]
    answer = user.fog("retry", job["job"], "--failed", "--fuel", "10G")
    assert (answer.returncode, answer.stdout) == (0, LINES)
    assert user.job()["state"] == "done"


def test_a_job_at_work_is_ended_from_elsewhere(user: User) -> None:
    forever = user.folder / "forever.wat"
    forever.write_text(programs.FOREVER)
    with user.start("map", forever, ":::", "a", "b") as process:
        wait_for(
            lambda: b"open" in open_states(user) if (user.home / "jobs").exists() else False,
            "the job",
        )
        answer = user.fog("cancel", user.job()["job"])
        assert answer.returncode == 0, answer.stderr
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    job = user.job()
    assert (job["state"], job["stages"]) == ("cancelled", {"cancelled": 2})
    assert (user.home / "jobs" / job["job"]).is_dir()
    assert user.fog("rm", job["job"]).returncode == 0
    assert user.fog("ps", "--all", "--json").stdout == b""


def test_a_folder_goes_on_with_resume_where_its_job_was_killed(user: User) -> None:
    out = user.folder / "out"
    arguments = ("map", user.slow, "--lines", user.lines, "-j", "4", "-o", out)
    with user.start(*arguments) as process:
        wait_for(lambda: user.has(5), "results")
        process.kill()
    known = set(user.ended())
    answer = user.fog(*arguments, "--resume")
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(row) for row in user.fog("ps", "--all", "--json").stdout.splitlines()]
    assert [row["state"] for row in rows] == ["cancelled", "done"]
    # What the first one had is not among what the second one computed.
    computed = {number for number, row in second_job(user, rows[1]["job"]).items() if row}
    assert not known & computed
    assert len(list(out.glob("*/stdout"))) == 40


def second_job(user: User, name: str) -> dict[int, bool]:
    db = sqlite3.connect(user.home / "jobs" / "jobs.db", timeout=PATIENCE)
    try:
        rows = db.execute("SELECT number, output FROM task WHERE job = ?", (name,)).fetchall()
    finally:
        db.close()
    return {number: output is not None for number, output in rows}
