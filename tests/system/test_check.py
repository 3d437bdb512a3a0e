"""`fog check`: what a program needs and whether it runs, found out in a worker's jail."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.engine import engine_class
from tests.sandbox import programs
from tests.toolchains import kept_folder, runtime_module

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXT = b"one two\nthree\n"


@pytest.fixture
def check(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Runs `fog check` with the tests' cache, in an empty folder."""

    def run(
        *words: str | Path, data: bytes = b"", cache: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "fogbank", "check", *words],
            cwd=tmp_path,
            env={**os.environ, "FOGBANK_CACHE": str(cache or kept_folder(request, "fogbank"))},
            input=data,
            capture_output=True,
            check=False,
            timeout=120,
        )

    return run


def test_a_program_is_described_and_run(check: Any) -> None:
    words = check(EXAMPLES / "count.wat", data=TEXT)
    lines = dict(line.split(None, 1) for line in words.stdout.decode().splitlines()[:-1])
    assert (words.returncode, words.stderr) == (0, b"")
    assert lines["imports"] == "wasi_snapshot_preview1: fd_read, fd_write, proc_exit"
    assert lines["outcome"] == "completed, exit code 0"
    assert lines["output"] == "7 bytes, and 0 of errors"
    assert lines["engine"] == engine_class()
    assert words.stdout.endswith(b"\nIt runs.\n")
    found = json.loads(check(EXAMPLES / "count.wat", "--json", data=TEXT).stdout)
    assert (found["schema"], found["runs"], found["exit_code"]) == ("fogbank.check/1", True, 0)
    assert lines["fuel"] == f"{found['fuel']:,}"
    assert lines["memory"] == f"{found['memory']:,} bytes"
    assert found["memory"] == 2 << 16
    assert [item["name"] for item in found["imports"] if item["offered"]] == [
        "fd_read",
        "fd_write",
        "proc_exit",
    ]


@pytest.mark.parametrize(
    ("module", "options", "code", "said"),
    [
        (programs.exiting(7), (), 7, b""),
        (programs.LOOP, ("--fuel", "1M"), 120, b"Give it more with --fuel"),
        (programs.HUGE, ("--memory", "64M"), 121, b"does not fit its limits, 67108864 bytes"),
        (programs.TRAP, (), 122, b"unreachable"),
        (programs.text('(import "env" "cos" (func))'), (), 126, b"env.cos"),
        (b"\0asm\x0d\0\x01\0", (), 126, b"the module uses components"),
        (b"hello", (), 126, b"neither a WebAssembly module"),
        (programs.NOTHING, ("--memory", "3G"), 125, b"the most that is granted here"),
    ],
)
def test_the_exit_code_is_that_of_a_run_and_the_sentence_says_why(
    check: Any, tmp_path: Path, module: bytes, options: tuple[str, ...], code: int, said: bytes
) -> None:
    (tmp_path / "p.wasm").write_bytes(module)
    done = check("p.wasm", *options, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit_code"]) == (code, code)
    assert said in done.stderr
    assert found["runs"] is (code == 7)


def test_an_import_that_no_worker_offers_is_marked(check: Any, tmp_path: Path) -> None:
    (tmp_path / "p.wasm").write_bytes(programs.text('(import "env" "co\\1b[1ms" (func))'))
    done = check("p.wasm")
    assert b"env: co?[1ms (not offered)" in done.stdout
    assert done.stdout.endswith(b"\nA worker would refuse it.\n")


@pytest.mark.parametrize(
    ("runtime", "name", "broken", "where"),
    [
        ("python", "job.py", "print(1)\nif x\n", b"line 2"),
        ("javascript", "job.js", "print(1);\nlet b = ;\n", b"job.js:2"),
    ],
)
def test_scripts_are_run_and_their_errors_told_with_the_line(
    check: Any, tmp_path: Path, request: Any, runtime: str, name: str, broken: str, where: bytes
) -> None:
    runtime_module(runtime, request)
    script = tmp_path / name
    script.write_text("print(6 * 7)")
    found = json.loads(check(name, "--json").stdout)
    assert (found["runtime"], found["runs"], found["stdout_bytes"]) == (runtime, True, 3)
    script.write_text(broken)
    done = check(name)
    assert done.returncode == 1
    assert b"SyntaxError" in done.stdout
    assert where in done.stdout
    absent = check(name, cache=tmp_path / "empty")
    assert absent.returncode == 126
    assert b"--get-runtime" in absent.stderr
