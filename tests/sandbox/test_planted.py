"""Native code planted where an escaped module would be gets nowhere (spec/07 §8).

As root and as an ordinary user; in the process that compiles, the one that runs a job, and the one
that a zygote forks for a script; in the whole jail, and with the filter taken away.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.jail import MANDATORY, OPTIONAL
from tests.sandbox import native
from tests.sandbox.attempts import Around, ended, refused

ROOT = Path(__file__).resolve().parents[2]
NOTHING = Around(0, b"", 0)
REFUSED = refused(NOTHING)
ENDED = ended(NOTHING)
KINDS = {"runner", "compiler", "zygote's fork"}
PASSING = {
    "write to any other descriptor",
    "read from any other descriptor",
    "map any descriptor",
    "map its channel",
    "ask for more than its memory",
    "map the first page",
}
"""Calls that the filter lets through: what they ask for is refused."""
KILLED = f"signal {int(signal.SIGSYS)}"
USERS = ("root", "user") if os.geteuid() == 0 else ("user",)
pytestmark = pytest.mark.skipif(not native.SUPPORTED, reason="machine code for x86-64 alone")


@pytest.fixture(scope="module", params=USERS)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.planted", request.param],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def failed(answer: str) -> bool:
    """Whether a call was refused: its answer is negative, or its process ended with an error."""
    kind, _, number = answer.partition(" ")
    return (kind == "answer" and int(number) < 0) or (kind == "status" and int(number) > 0)


@pytest.mark.parametrize("name", [*REFUSED, *ENDED])
def test_planted_code_is_ended_by_the_filter(found: dict[str, Any], name: str) -> None:
    assert set(MANDATORY) <= set(found["with"]["layers"])
    attempt = found["with"][name]
    assert set(attempt) == KINDS
    for answer in attempt.values():
        assert failed(answer) if name in PASSING else answer == KILLED


@pytest.mark.parametrize("name", REFUSED)
def test_without_the_filter_planted_code_is_refused(found: dict[str, Any], name: str) -> None:
    if missing := set(OPTIONAL) - set(found["without"]["layers"]) - {"user_namespace"}:
        pytest.skip(f"this kernel lacks {', '.join(sorted(missing))}")
    attempt = found["without"][name]
    assert set(attempt) == KINDS
    for answer in attempt.values():
        assert failed(answer)


@pytest.mark.parametrize("name", ENDED)
def test_without_the_filter_no_one_is_harmed(found: dict[str, Any], name: str) -> None:
    attempt = found["without"][name]
    if "landlock" not in found["without"]["layers"] and name == "kill all":
        pytest.skip("this kernel lacks landlock")
    assert set(attempt) == KINDS


def test_nobody_outside_heard_of_it(found: dict[str, Any]) -> None:
    assert "connected" not in found


def test_the_planted_code_works_where_it_is_not_jailed() -> None:
    """The instrument itself: what is refused in the jail is done outside."""
    script = """
import ctypes, mmap
from tests.sandbox.native import *
memory = mmap.mmap(-1, ROOM, prot=7)
code = machine_code([
    call(41, 2, 1, 0),
    call(3, Value.LAST),
    call(2, b"/etc/passwd\\0", 0),
    Poke(0, Value.LAST),
    call(1, 1, Value.STACK, 8),
    call(1, Value.COUNT, b"", 0),
])
memory[: len(code)] = code
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print(ctypes.CFUNCTYPE(ctypes.c_int64)(start)())
"""
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    descriptor, answer = said[:8], said[8:]
    assert int.from_bytes(descriptor, "little") in range(3, 64)
    assert answer.split() == [b"0"]
