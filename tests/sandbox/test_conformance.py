"""The runner of the public conformance programs, on a suite of our own: it tells pass from fail.

The suite itself is run by hand (make conformance); what it asks for is held by test_wasi.py,
test_files.py and the vectors.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.pool_shell import open_sandbox
from tests.conformance.__main__ import run_program
from tests.conformance.suite import find_suites
from tests.sandbox import programs

GOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "prints": (programs.HELLO, {"stdout": "hello\n"}),
    "exits": (programs.exiting(33), {"exit_code": 33, "args": ["x"], "env": {"a": "b"}}),
    "nothing": (programs.NOTHING, {}),
}
BAD: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "other_code": (programs.exiting(1), {}, "exit code 1, not 0"),
    "other_text": (programs.HELLO, {"stdout": "hallo"}, "stdout is b'hello\\n', not b'hallo'"),
    "trap": (programs.TRAP, {}, "TRAP"),
    "import": (programs.text('(import "env" "f" (func))'), {}, "UNKNOWN_IMPORT"),
    "world": (programs.NOTHING, {"operations": []}, "operations"),
}


def write_suite(folder: Path) -> None:
    suite = folder / "own"
    (suite / "files").mkdir(parents=True)
    (suite / "files" / "data").write_bytes(b"content")
    (suite / "manifest.json").write_text('{"name": "Own"}', encoding="utf-8")
    every = GOOD | {name: (module, words) for name, (module, words, _) in BAD.items()}
    for name, (module, words) in every.items():
        (suite / f"{name}.wasm").write_bytes(module)
        if words:
            (suite / f"{name}.json").write_text(json.dumps(words), encoding="utf-8")
    (suite / "nothing.json").write_text('{"root": "files"}', encoding="utf-8")
    (folder / "later").mkdir()
    (folder / "later" / "manifest.json").write_text('{"name": "x", "version": "wasm32-wasip3"}')
    (folder / "later" / "x.wasm").write_bytes(b"")


async def test_passes_and_failures_are_told_with_their_reasons(tmp_path: Path) -> None:
    write_suite(tmp_path)
    suites = find_suites(tmp_path)
    assert list(suites) == ["Own"]
    found = {program.path.stem: program for program in suites["Own"]}
    assert found["nothing"].task.files == (("data", b"content"),)
    assert found["exits"].task.args == ("exits.wasm", "x")
    async with open_sandbox(SandboxConfig(processes=1, spares=1)) as sandbox:
        for name, program in found.items():
            reason = await run_program(sandbox, program)
            if name in GOOD:
                assert reason == ""
            else:
                assert BAD[name][2] in reason


@pytest.mark.parametrize(("fuel", "stdout"), [(2, b""), (1, b"x")])
def test_two_runs_that_differ_are_no_pass(tmp_path: Path, fuel: int, stdout: bytes) -> None:
    write_suite(tmp_path)
    program = next(one for one in find_suites(tmp_path)["Own"] if one.path.stem == "nothing")
    first = Result(Outcome.COMPLETED, 0, 1)
    assert program.judge(first, first) == ""
    assert "in a second run" in program.judge(first, Result(Outcome.COMPLETED, 0, fuel, stdout))
