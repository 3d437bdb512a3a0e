"""After the heap's holes are taken, memory comes from one fresh place (spec/07 §8)."""

import json
import subprocess
import sys

SCRIPT = """
import ctypes, json
from fogbank.sandbox import heap_shell

take = heap_shell._function("malloc", ctypes.c_size_t, ctypes.c_size_t)
give_back = heap_shell._function("free", ctypes.c_size_t, None)
SIZES = (24, 100, 200, 500, 1000, 2000, 5000, 20_000)
ROUNDS = 300
blocks = [take(size) for _ in range(ROUNDS) for size in SIZES]
for block in blocks[::2]:
    give_back(block)
reused = sum(take(size) in blocks[::2] for size in SIZES)
taken = heap_shell.fill_holes()
fresh = [take(size) for _ in range(ROUNDS // 10) for size in SIZES]
print(json.dumps([reused, taken, min(fresh) > max(blocks)]))
"""


def test_memory_comes_from_behind_once_the_holes_are_taken() -> None:
    command = [sys.executable, "-c", SCRIPT]
    said = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    reused, taken, is_behind = json.loads(said)
    # Without it, holes are what is taken first.
    assert reused
    assert taken > 300 * (100 + 500 + 2000 + 20_000) // 4
    assert is_behind
