"""The decoders of what a guest brings to the sandbox: its module, and the calls it makes."""

from __future__ import annotations

import struct
from functools import cache

import wasmtime

from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import ModuleRefused, Outcome
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import SIGNATURES
from fogbank.sandbox.wasi.descriptors import OutputLimit
from fogbank.sandbox.wasi.process import ProcExit
from fogbank.sandbox.wasi.system import System
from fogbank.sandbox.wat import module_from_file
from tests.fuzz.kinds import Decoder, Form
from tests.sandbox import programs

TEXT = b"""(module
 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
 (memory (export "memory") 1)
 (func (export "_start") i32.const 0 call $exit))
"""
MODULE = bytes(wasmtime.wat2wasm(TEXT))

SAMPLES = (
    programs.ECHO,
    programs.SAMPLER,
    programs.TABLE_GROW,
    programs.RECURSION,
    programs.GROW_AND_EXIT,
    programs.TRAP,
    programs.HUGE,
)


@cache
def engine() -> wasmtime.Engine:
    """The engine that a worker compiles with."""
    return make_engine()


@cache
def runner() -> Runner:
    """What runs a program in a job's process."""
    return Runner(engine())


def ran(data: bytes) -> Outcome:
    """Take a client's bytes all the way: compile them, run what they are, return how it ended."""
    runner().load(compile_module(engine(), data))
    result = runner().run(TASK)
    assert result.outcome not in {Outcome.HOST_FAILURE, Outcome.INVALID_MODULE}, result.reason
    assert result.fuel <= TASK.limits.fuel
    assert len(result.stdout) + len(result.stderr) <= TASK.limits.output
    # In another instance it is the same.
    assert runner().run(TASK) == result
    return result.outcome


def compiled(data: bytes) -> int:
    """Compile a client's module, and judge what it imports and exports."""
    return len(compile_module(engine(), data))


# A guest's calls. Its memory begins with what the input brings; then come calls, one after another.

_MEMORY = 4096
_NAMES = sorted(SIGNATURES)
_FUEL = 1 << 22
TASK = Task(
    args=("prog", "one"),
    env=(("KEY", "value"),),
    files=(("file", b"0123456789"), ("dir/inner", b"x")),
    stdin=b"input",
    limits=Limits(fuel=_FUEL, output=1000, memory=1 << 16),
)


class GuestEnded(Exception):
    """The guest has ended in one of the ways in which it may."""


class Guest:
    """A guest made of a bytearray, with little fuel."""

    def __init__(self, content: bytes) -> None:
        self._bytes = bytearray(content.ljust(_MEMORY, b"\0")[:_MEMORY])
        self._used = 0

    def memory(self) -> memoryview:
        return memoryview(self._bytes)

    def fuel_used(self) -> int:
        return self._used

    def charge(self, fuel: int) -> None:
        assert fuel >= 0
        self._used += fuel
        if self._used > _FUEL:
            raise GuestEnded


def guest_calls(data: bytes) -> int:
    """Make the calls of an input; return how many there were.

    Numbers are short: of two bytes, signed, for an i32, and of eight for an i64.
    """
    at = 2 + int.from_bytes(data[:2], "big")
    guest = Guest(data[2:at])
    system = System(TASK, guest)
    number = 0
    try:
        while at < len(data):
            name = _NAMES[data[at] % len(_NAMES)]
            layout = struct.Struct("<" + SIGNATURES[name].replace("i", "h").replace("I", "q"))
            part = data[at + 1 : at + 1 + layout.size].ljust(layout.size, b"\0")
            at += 1 + layout.size
            number += 1
            numbers = layout.unpack(part)
            sizes = [1 << (64 if kind == "I" else 32) for kind in SIGNATURES[name]]
            system.call(name, [number % size for number, size in zip(numbers, sizes, strict=True)])
    except (ProcExit, OutputLimit):
        raise GuestEnded from None
    assert len(system.output.stdout) + len(system.output.stderr) <= TASK.limits.output
    return number


def called(memory: bytes, *calls: tuple[str, tuple[int, ...]]) -> bytes:
    """Encode a guest's memory and calls."""
    parts = [len(memory).to_bytes(2, "big") + memory]
    for name, arguments in calls:
        layout = "<" + SIGNATURES[name].replace("i", "h").replace("I", "q")
        parts.append(bytes([_NAMES.index(name)]) + struct.pack(layout, *arguments))
    return b"".join(parts)


_RIGHTS = (1 << 30) - 1
# A vector of 10 bytes at 64, and two paths.
_CONTENT = struct.pack("<II", 64, 10) + b"dir/inner" + b"file"
CALLS = called(
    _CONTENT,
    ("path_open", (3, 0, 8, 9, 1, _RIGHTS, 0, 0, 128)),
    ("fd_write", (4, 0, 1, 136)),
    ("fd_seek", (4, 0, 0, 144)),
    ("fd_read", (4, 0, 1, 136)),
    ("fd_readdir", (3, 256, 200, 0, 136)),
    ("path_rename", (3, 8, 9, 3, 17, 4)),
    ("path_create_directory", (3, 8, 3)),
    ("path_unlink_file", (3, 17, 4)),
    ("fd_filestat_get", (4, 256)),
    ("fd_write", (1, 0, 1, 136)),
)
# A path of a link, a link that leads out, and two names.
_LINKS = struct.pack("<II", 64, 10) + b"dir/../file" + b"../out" + b"l" + b"dir/m"
LINKS = called(
    _LINKS,
    ("path_symlink", (8, 11, 3, 25, 1)),
    ("path_open", (3, 1, 25, 1, 0, 0x42, 0, 0, 128)),
    ("fd_write", (4, 0, 1, 136)),
    ("path_link", (3, 1, 25, 1, 3, 26, 5)),
    ("path_readlink", (3, 25, 1, 256, 20, 136)),
    ("path_filestat_set_times", (3, 0, 25, 1, 5, 6, 5)),
    ("path_unlink_file", (3, 25, 1)),
    ("path_symlink", (19, 6, 3, 25, 1)),
    ("path_filestat_get", (3, 1, 25, 1, 256)),
    ("fd_renumber", (4, 0)),
    ("sock_recv", (0, 0, 1, 0, 256, 260)),
)
# Two subscriptions, for a clock and for standard input.
_SUBSCRIPTIONS = struct.pack("<QB7xI4xQQH6x", 1, 0, 1, 1000, 1, 0) + struct.pack(
    "<QB7xI28x", 2, 1, 0
)
POLL = called(
    _SUBSCRIPTIONS,
    ("poll_oneoff", (0, 256, 2, 512)),
    ("clock_time_get", (1, 0, 512)),
    ("args_get", (256, 300)),
    ("environ_get", (256, 300)),
    ("random_get", (256, 16)),
    ("fd_prestat_dir_name", (3, 256, 1)),
    ("path_filestat_get", (3, 1, 0, 1, 300)),
)

GUESTS = [
    Decoder("guest's calls", guest_calls, CALLS, GuestEnded, False, (POLL, LINKS), form=Form.BYTES),
    Decoder("guest's module", compiled, MODULE, ModuleRefused, False, form=Form.BYTES),
    Decoder("guest's run", ran, SAMPLES[0], ModuleRefused, False, SAMPLES[1:], form=Form.WASM),
    Decoder(
        "module of a user",
        module_from_file,
        TEXT,
        ModuleRefused,
        exact=False,
        more=(MODULE,),
        form=Form.BYTES,
    ),
]
