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


ARENAS = """
import ctypes, json
from pathlib import Path
from fogbank.sandbox import heap_shell

def in_heap(things):
    lines = Path("/proc/self/maps").read_text().splitlines()
    where = next(line for line in lines if line.endswith("[heap]")).split()[0]
    begin, end = (int(item, 16) for item in where.split("-"))
    return sum(begin <= id(thing) < end for thing in things)

with heap_shell.arenas_in_heap():
    things = [[n] for n in range(COUNT)]
inside = in_heap(things)
total = sum(thing[0] for thing in things)
# Arenas are given back, out of the middle of the heap, which goes on around them.
del things
take = heap_shell._function("malloc", ctypes.c_size_t, ctypes.c_size_t)
for _ in range(2000):
    ctypes.memset(take(5000), 1, 5000)
more = [[n] for n in range(COUNT)]
print(json.dumps([inside, total, in_heap(more), sum(thing[0] for thing in more)]))
"""
COUNT = 200_000


def test_what_is_made_meanwhile_lies_in_the_heap_and_can_be_given_back() -> None:
    command = [sys.executable, "-c", ARENAS.replace("COUNT", str(COUNT))]
    said = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    inside, total, later, total_later = json.loads(said)
    assert inside > COUNT * 0.9
    assert later < COUNT * 0.5
    assert total == total_later == COUNT * (COUNT - 1) // 2
