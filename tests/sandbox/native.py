"""Machine code for x86-64 that makes system calls, and the place where it is planted.

A program is a row of steps, each a system call or a word written to the stack. What the last call
returned is at hand for the next, and what the very last returned is the program's answer: below 0
the kernel's error number, negated. The code can stand anywhere, and needs nothing but itself.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from tests.sandbox import programs

SUPPORTED = platform.machine() == "x86_64"
ROOM = 2048
"""Bytes that the code of one program may have."""
_FRAME = 4096
_REGISTERS = (7, 6, 2, 10, 8, 9)
_RAX = 0
SWEPT = 1024


class Value(Enum):
    """What an argument can be besides a number and the address of some bytes."""

    LAST = "what the last call returned"
    ERROR = "the same, negated"
    STACK = "the address of 4 096 bytes that can be written"
    COUNT = "1, 2, 3 and so on: the call is made for each below 1 024"


Argument: TypeAlias = int | bytes | Value


@dataclass(frozen=True)
class Call:
    """One system call. By `gate` it is made as a 32-bit program does (`int 0x80`)."""

    number: int
    arguments: tuple[Argument, ...] = ()
    gate: bool = False


@dataclass(frozen=True)
class Poke:
    """Writes a word to the stack."""

    offset: int
    value: Argument


Step: TypeAlias = Call | Poke


def call(number: int, *arguments: Argument) -> Call:
    """A system call as 64-bit programs make it."""
    return Call(number, arguments)


class _Assembler:
    def __init__(self) -> None:
        self.code = bytearray()
        self._data: list[tuple[int, bytes]] = []

    def load(self, register: int, argument: Argument) -> None:
        high = register >> 3
        match argument:
            case int():
                self.code += bytes([0x48 | high, 0xB8 | register & 7])
                self.code += struct.pack("<Q", argument & (1 << 64) - 1)
            case bytes():
                self.code += bytes([0x48 | high << 2, 0x8D, 0x05 | (register & 7) << 3, 0, 0, 0, 0])
                self._data.append((len(self.code), argument))
            case Value.STACK:
                self._move(register, 4)
            case Value.COUNT:
                self._move(register, 13)
            case Value.LAST | Value.ERROR:
                self._move(register, 12)
                if argument is Value.ERROR:
                    self.code += bytes([0x48 | high, 0xF7, 0xD8 | register & 7])

    def _move(self, register: int, source: int) -> None:
        prefix = 0x48 | (source >> 3) << 2 | register >> 3
        self.code += bytes([prefix, 0x89, 0xC0 | (source & 7) << 3 | register & 7])

    def poke(self, step: Poke) -> None:
        self.load(7, step.value)
        self.code += b"\x48\x89\xbc\x24" + struct.pack("<I", step.offset)

    def call(self, step: Call) -> None:
        sweeps = Value.COUNT in step.arguments
        if sweeps:
            self.load(12, -4095)
            self.load(13, 1)
        again = len(self.code)
        # A 32-bit program's registers are others: bx, cx, dx, si, di, bp.
        for register, argument in zip(
            (3, 1, 2, 6, 7, 5) if step.gate else _REGISTERS, step.arguments, strict=False
        ):
            self.load(register, argument)
        self.load(_RAX, step.number)
        self.code += b"\xcd\x80" if step.gate else b"\x0f\x05"
        if not sweeps:
            self._move(12, _RAX)
            return
        # The greatest of all answers counts.
        self.code += b"\x4c\x39\xe0" + b"\x4c\x0f\x4f\xe0"
        self.code += b"\x49\xff\xc5" + b"\x49\x81\xfd" + struct.pack("<I", SWEPT)
        self.code += b"\x0f\x8c" + struct.pack("<i", again - len(self.code) - 6)

    def finish(self) -> bytes:
        for place, content in self._data:
            self.code[place - 4 : place] = struct.pack("<i", len(self.code) - place)
            self.code += content
        return bytes(self.code)


def machine_code(steps: Iterable[Step]) -> bytes:
    """Translate a program into a function without parameters that returns the answer."""
    assembler = _Assembler()
    assembler.code += b"\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57\x48\x81\xec"
    assembler.code += struct.pack("<I", _FRAME)
    for step in steps:
        if isinstance(step, Call):
            assembler.call(step)
        else:
            assembler.poke(step)
    assembler.code += b"\x4c\x89\xe0\x48\x81\xc4" + struct.pack("<I", _FRAME)
    assembler.code += b"\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3"
    code = assembler.finish()
    assert len(code) <= ROOM
    return code


HOST = programs.command(
    "(i64.store (i32.const 64) (call $plant))"
    + programs.vector(0, 64, 8)
    + "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
    "fd_write",
    more="(func $plant (result i64) (local i64)"
    + "(i64.store (i32.const 128) (i64.rotl (i64.load (i32.const 136)) (local.get 0)))" * 100
    + "(local.get 0))",
)
"""A program that prints what its function `plant` returns, in 8 bytes."""


def plant(artifact: bytes, code: bytes) -> bytes:
    """Put machine code in the place of the function `plant` of a compiled `HOST`.

    Compiled code is an object file: the section `.text` has it, `.symtab` says where in it.
    """
    sections = _sections(artifact)
    text, symbols, names = (sections[name] for name in (".text", ".symtab", ".strtab"))
    for at in range(symbols[0], sum(symbols), 24):
        name, _, _, _, value, size = struct.unpack_from("<IBBHQQ", artifact, at)
        start = names[0] + name
        if artifact[start : artifact.index(b"\0", start)].endswith(b"::plant"):
            assert size >= len(code)
            place = text[0] + value
            return artifact[:place] + code + artifact[place + len(code) :]
    raise LookupError("the compiled program has no function to replace")


def _sections(artifact: bytes) -> dict[str, tuple[int, int]]:
    """The offset and size of each section."""
    (table,) = struct.unpack_from("<Q", artifact, 40)
    size, count, naming = struct.unpack_from("<HHH", artifact, 58)
    headers = [struct.unpack_from("<IIQQQQ", artifact, table + n * size) for n in range(count)]
    start = headers[naming][4]
    return {
        artifact[start + name : artifact.index(b"\0", start + name)].decode(): (offset, length)
        for name, _, _, _, offset, length in headers
    }
