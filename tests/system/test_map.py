"""`fog map` as its users use it (spec/11)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fogbank.cli.app import app
from tests.system import programs
from tests.system.networks import Network, command, environment

PATIENCE = 60.0


def program(folder: Path, text: str) -> Path:
    path = folder / "program.wat"
    path.write_text(text)
    return path


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "say where the tasks come from"),
        (("--array", "1", ":::", "a"), "by one of"),
        ((":::",), "no inputs follow"),
        ((":::", "a", ":::", "b"), "once only"),
        (("--array", "x"), "write it as 0-999"),
        (("--array", "0-9%5", "-j", "5"), "give one of them"),
        (("-j", "0", ":::", "a"), "from 1 to"),
        (("--resume", ":::", "a"), "needs the log"),
        (("--json", "-o", "results", ":::", "a"), "give one of them"),
        (("-o", ".", ":::", "a"), "is not empty"),
        (("--chunk", "1M", "--", "{}"), "leave {} out"),
        (("--deadline", "-1", ":::", "a"), "positive"),
        (("--retries", "-1", ":::", "a"), "--retries"),
        (("--reduce", "p.wat", "--json", ":::", "a"), "leave --json out"),
    ],
)
def test_mistakes_get_a_sentence(
    options: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["map", str(program(tmp_path, programs.COPY)), *options]
    answer = CliRunner().invoke(app, arguments, env={"FOGBANK_HOME": str(tmp_path / "home")})
    assert answer.exit_code == 125
    assert words in answer.stderr


@pytest.mark.network
def test_lines_go_out_and_come_back_in_order(network: Network, tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(50))
    answer = network.fog("map", program(tmp_path, programs.COPY), "--lines", "-", stdin=text)
    # The program exits with 7, as the first failed task does.
    assert answer.returncode == 7
    assert answer.stdout == text
    assert b"50/50 done" in answer.stderr


@pytest.mark.network
def test_what_happens_is_told_on_standard_error(network: Network, tmp_path: Path) -> None:
    answer = network.fog("map", "-v", program(tmp_path, programs.COPY), "--lines", "-", stdin=b"a")
    assert answer.stdout == b"a"
    said = answer.stderr.decode()
    assert re.search(r"a session at (\S+), over the circuit \S+ → \S+ → \S+ → \1", said)
    assert re.search(r"task 1 runs at \S+\n", said)
    assert "task 1 has ended, with exit code 7\n" in said


@pytest.mark.network
def test_outputs_are_folded_on_workers(network: Network, tmp_path: Path) -> None:
    path = program(tmp_path, programs.COPY.replace("(i32.const 7)", "(i32.const 0)"))
    text = b"".join(b"line %d\n" % number for number in range(40))
    results = tmp_path / "results"
    options = ("map", path, "--lines", "-", "--reduce", path)
    answer = network.fog(*options, stdin=text)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, text, b"")
    answer = network.fog(*options, "-o", results, stdin=text)
    assert (answer.returncode, answer.stdout) == (0, b"")
    assert (results / "reduced").read_bytes() == text
    trap = tmp_path / "trap.wat"
    trap.write_text(programs.TRAP)
    failed = network.fog(*options[:-1], trap, stdin=text)
    assert (failed.returncode, failed.stdout) == (122, b"")
    assert b"the program that folds failed" in failed.stderr


@pytest.mark.network
def test_json_tells_each_task(network: Network, tmp_path: Path) -> None:
    path = program(tmp_path, programs.TRAP)
    answer = network.fog("map", path, "--json", "-j", "2", ":::", "-a", "b")
    assert answer.returncode == 122
    rows = {row["task"]: row for row in map(json.loads, answer.stdout.splitlines())}
    assert [rows[n]["arguments"] for n in (1, 2)] == [["-a"], ["b"]]
    assert {row["outcome"] for row in rows.values()} == {"trap"}


def recorded(log: Path) -> list[int]:
    lines = log.read_text().splitlines()[1:] if log.exists() else []
    return [int(line.split("\t")[0]) for line in lines]


@pytest.mark.network
def test_a_worker_and_the_client_killed_in_the_middle_lose_nothing(
    own_network: Network, tmp_path: Path
) -> None:
    """Each result arrives once; what was recorded before the client was killed is not run again."""
    count = 400
    results = tmp_path / "results"
    lines = tmp_path / "lines"
    lines.write_bytes(b"".join(b"%d\n" % number for number in range(1, count + 1)))
    path = program(tmp_path, programs.COPY)
    arguments = ("map", path, "-j", "4", "-o", results, "--lines", lines)
    home = own_network.folder / "client"
    first = subprocess.Popen(
        command(arguments), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(home)
    )
    log = results / "joblog"
    try:
        wait_for(lambda: len(recorded(log)) >= 20, "the first results")
        worker = next(node for node in own_network.nodes() if node["role"] == "worker")
        os.kill(worker["pid"], signal.SIGKILL)
        before = len(recorded(log))
        wait_for(lambda: len(recorded(log)) >= min(before + 40, count), "results of others")
    finally:
        first.kill()
        first.communicate()
    known = recorded(log)
    written = {number: (results / str(number)).stat().st_mtime_ns for number in known}
    answer = own_network.fog(*arguments, "--resume")
    assert answer.returncode == 7, answer.stderr
    assert sorted(recorded(log)) == list(range(1, count + 1))
    for number in range(1, count + 1):
        assert (results / str(number) / "stdout").read_bytes() == b"%d\n" % number
    assert written == {number: (results / str(number)).stat().st_mtime_ns for number in known}
    other = own_network.fog(*arguments[:-1], path, "--resume")
    assert other.returncode == 125
    assert b"another array" in other.stderr


@pytest.mark.network
def test_an_interruption_detaches_it(network: Network, tmp_path: Path) -> None:
    arguments = ("map", program(tmp_path, programs.FOREVER), "-o", tmp_path / "out", ":::", "a")
    process = subprocess.Popen(
        command(arguments),
        stderr=subprocess.PIPE,
        env=environment(network.folder / "client"),
    )
    wait_for((tmp_path / "out" / "joblog").exists, "the log")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert b"fog attach" in said
    assert b"Traceback" not in said
