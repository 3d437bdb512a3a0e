"""The engine's code in huge pages is the same code, and runs (spec/07 §8)."""

import json
import subprocess
import sys

SCRIPT = """
import ctypes, hashlib, json
from fogbank.sandbox import huge_shell
from fogbank.sandbox.binding import LIBRARY
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.module_check import compiled
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from tests.sandbox import programs

def seen():
    engine = make_engine()
    runner = Runner(engine)
    results = []
    for module in (programs.HELLO, programs.command("unreachable")):
        runner.take(compiled(engine, module))
        result = runner.run(Task())
        results.append((result.outcome.name, result.stdout.decode(), result.fuel, result.reason))
    return results

def digest():
    return hashlib.sha256(b"".join(ctypes.string_at(a, b - a) for a, b in places)).hexdigest()

places = huge_shell._code(LIBRARY)
before, code = seen(), digest()
moved = huge_shell.hold_code(LIBRARY)
same = digest() == code
print(json.dumps([moved, sum(b - a for a, b in places), same, before == seen(), before[0][1]]))
"""


def test_code_is_the_same_in_huge_pages() -> None:
    command = [sys.executable, "-c", SCRIPT]
    said = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    moved, size, same, runs, printed = json.loads(said)
    # Nothing is moved where the kernel gives no huge pages.
    assert moved in {0, size}
    assert size > 2 << 20
    assert same
    assert runs
    assert printed == "hello\n"


def test_a_library_that_is_not_loaded_is_left_alone() -> None:
    script = "from fogbank.sandbox import huge_shell; print(huge_shell.hold_code('/no/such.so'))"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, timeout=120).stdout == b"0\n"


MEMORY = """
import json
from fogbank.sandbox import huge_shell

# More than what the C library takes from its heap, and so in a place of its own.
data = bytearray(range(256)) * (6 << 12)
places = huge_shell.memory()
held = huge_shell.hold_memory(places)
same = data == bytearray(range(256)) * (6 << 12)
data[:3] = b"new"
huge = sum(end - begin for begin, end in places if huge_shell._is_huge(begin, end - begin))
print(json.dumps([held, huge, sum(end - begin for begin, end in places), same, data[:3].decode()]))
"""


def test_memory_is_the_same_in_huge_pages() -> None:
    command = [sys.executable, "-c", MEMORY]
    said = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    held, huge, size, same, new = json.loads(said)
    # Nothing is held where the kernel does not do it, or has no huge page left.
    assert held <= huge <= size
    assert size >= 4 << 20
    assert same
    assert new == "new"
