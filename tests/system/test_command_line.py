"""What the `fog` command does with its outputs, its inputs and its user's mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fogbank.testnet.lock_shell import LOCK_FILE
from tests.system import programs
from tests.system.networks import Network, command, environment, fog

ENDLESS = Path("/dev/zero")
FULL = Path("/dev/full")


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("run", "--timeout", "x", "p.wat"), ("run", "--nothing"), ("nothing",), ()],
)
def test_a_wrong_command_line_has_a_code_that_is_no_programs(arguments: tuple[str, ...]) -> None:
    answer = fog(*arguments)
    assert answer.returncode == 125
    assert b"Usage:" in answer.stderr
    assert answer.stdout == b""


@pytest.mark.parametrize(
    ("text", "options", "outcome", "code"),
    [
        ("(module (func", (), "invalid_module", 126),
        (programs.COPY, ("--fuel", "0"), "error", 125),
        (programs.COPY, ("--file", "missing"), "error", 125),
        (programs.COPY, (), "error", 125),
    ],
)
def test_json_tells_errors_too(
    tmp_path: Path, text: str, options: tuple[str, ...], outcome: str, code: int
) -> None:
    path = tmp_path / "program.wat"
    path.write_text(text)
    answer = fog("run", "--json", *options, path, home=tmp_path / "home")
    report = json.loads(answer.stdout)
    assert (report["outcome"], report["exit_code"], answer.returncode) == (outcome, code, code)
    assert answer.stderr.decode() == f"fog: {report['reason']}\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", ENDLESS), 126),
        (("run", "program.wat", "--file", ENDLESS), 125),
        (("join", ENDLESS), 125),
    ],
)
def test_a_file_without_end_is_not_read_to_its_end(
    tmp_path: Path, arguments: tuple[str | Path, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.wat").write_text(programs.COPY)
    answer = fog(*arguments, home=tmp_path / "home")
    assert answer.returncode == code
    assert b"has more than" in answer.stderr


def test_an_input_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "program.wat"
    path.write_text(programs.COPY)
    with ENDLESS.open("rb") as stdin:
        answer = subprocess.run(
            command(("run", path)),
            stdin=stdin,
            stderr=subprocess.PIPE,
            env=environment(tmp_path / "home"),
            timeout=60,
            check=False,
        )
    assert answer.returncode == 125
    assert b"standard input has more than" in answer.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_output_that_takes_nothing_gives_a_sentence_at_most(tmp_path: Path, stream: str) -> None:
    files = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with FULL.open("wb") as full:
        answer = subprocess.run(
            command(("run", "--json", tmp_path / "missing.wat")),
            **(files | {stream: full}),  # type: ignore[call-overload] # two streams, by name
            stdin=subprocess.DEVNULL,
            env=environment(tmp_path),
            timeout=60,
            check=False,
        )
    assert answer.returncode == 125
    assert b"Traceback" not in (answer.stderr or b"")
    assert len((answer.stderr or b"").splitlines()) <= 1


def test_a_closed_output_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m fogbank worker init --dir w --nickname w >&-', sys.executable],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        timeout=60,
        check=False,
    )
    assert done.returncode == 125
    assert b"standard output is closed" in done.stderr


def test_an_early_interruption_is_silent(tmp_path: Path) -> None:
    # The interruption comes from within, while the command's modules load.
    program = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'fogbank.cli.app':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from fogbank.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env=environment(tmp_path),
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == b""


def test_a_folder_with_spaces_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    answer = fog("testnet", "status", "--dir", folder)
    assert f"--dir '{folder}'" in answer.stderr.decode()


def test_a_file_holds_no_network(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    up = fog("testnet", "up", "--dir", path)
    assert up.returncode == 125
    assert b"is a file" in up.stderr
    for name in ("status", "down"):
        answer = fog("testnet", name, "--dir", path)
        assert answer.returncode == 125
        assert b"no test network" in answer.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_network_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    # No file may have more than 100 bytes, as if the disk were full.
    folder = tmp_path / "network"
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from fogbank.cli import main\n"
        "main()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "testnet", "up", "--dir", folder],
        capture_output=True,
        env=environment(tmp_path),
        timeout=60,
        check=False,
    )
    assert answer.returncode == 125
    assert b"cannot be written" in answer.stderr
    assert b"Traceback" not in answer.stderr
    # But for the lock, which is never removed: two could each hold a file of its name.
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]


@pytest.mark.network
def test_what_the_user_should_know_of_his_home_is_told_without_asking(
    network: Network, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "network.toml").write_bytes((network.folder / "client/network.toml").read_bytes())
    (home / "guards").write_bytes(b"no guards")
    path = tmp_path / "program.wat"
    path.write_text(programs.COPY)
    answer = fog("run", path, stdin=b"hello", home=home)
    assert (answer.returncode, answer.stdout) == (7, b"hello")
    assert b"guards.corrupt" in answer.stderr


def test_a_standard_input_that_does_not_end_is_spoken_of(tmp_path: Path) -> None:
    path = tmp_path / "program.wat"
    path.write_text(programs.COPY)
    process = subprocess.Popen(
        command(("run", path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path / "home"),
    )
    assert process.stderr is not None
    assert b"</dev/null" in process.stderr.readline()
    process.communicate(timeout=60)
    assert process.returncode == 125
