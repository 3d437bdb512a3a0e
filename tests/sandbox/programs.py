"""Small programs for the tests, as WebAssembly text."""

from fogbank.sandbox.wasi.abi import MODULE, NO_RESULT, SIGNATURES
from fogbank.sandbox.wat import module_from_file

TYPES = {"i": "i32", "I": "i64"}


def imported(name: str) -> str:
    """The text that imports one of WASI's functions under its own name."""
    params = " ".join(TYPES[kind] for kind in SIGNATURES[name])
    result = "" if name in NO_RESULT else "(result i32)"
    return f'(import "{MODULE}" "{name}" (func ${name} (param {params}) {result}))'


def command(body: str, *imports: str, memory: str = "1", more: str = "") -> bytes:
    """A module whose `_start` does `body`."""
    return text(
        f"{' '.join(imported(name) for name in imports)}"
        f' (memory (export "memory") {memory}) {more} (func (export "_start") {body})'
    )


def text(inside: str) -> bytes:
    """A module from the text inside (module ...)."""
    return module_from_file(f"(module {inside})".encode())


def data(address: int, content: bytes) -> str:
    """A data segment."""
    escaped = "".join(f"\\{byte:02x}" for byte in content)
    return f'(data (i32.const {address}) "{escaped}")'


def vector(at: int, address: int, length: int) -> str:
    """Instructions that write a buffer's address and length to `at`."""
    return (
        f"(i32.store (i32.const {at}) (i32.const {address}))"
        f"(i32.store (i32.const {at + 4}) (i32.const {length}))"
    )


def printing(content: bytes, then: str = "", stream: int = 1) -> bytes:
    """A program that prints `content`, then does something else."""
    return command(
        vector(0, 64, len(content))
        + f"(drop (call $fd_write (i32.const {stream}) (i32.const 0) (i32.const 1) (i32.const 8)))"
        + then,
        "fd_write",
        more=data(64, content),
    )


HELLO = printing(b"hello\n")
LOOP = command("(loop (br 0))")
NOTHING = command("")
TRAP = printing(b"before\n", "unreachable")
RECURSION = text('(memory (export "memory") 1) (func $f (export "_start") (call $f) (call $f))')
FLOOD = command(
    vector(0, 0, 65536)
    + "(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    "(br 0))",
    "fd_write",
)
GROW_AND_FAIL = command(
    "(loop (br_if 0 (i32.ne (memory.grow (i32.const 4)) (i32.const -1)))) unreachable"
)
GROW_AND_EXIT = command(
    "(loop (br_if 0 (i32.ne (memory.grow (i32.const 4)) (i32.const -1))))"
    "(call $proc_exit (i32.const 3))",
    "proc_exit",
)
GROW_IN_PEACE = command("(loop (br_if 0 (i32.ne (memory.grow (i32.const 4)) (i32.const -1))))")
HUGE = command("", memory="16384")
TABLE_GROW = command(
    "(loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 4096)) (i32.const -1))))",
    more="(table 1 funcref)",
)
ECHO = command(
    "(loop $more"
    + vector(0, 64, 65536)
    + "(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
    "(i32.store (i32.const 4) (i32.load (i32.const 8)))"
    "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))"
    "(br_if $more (i32.load (i32.const 8))))",
    "fd_read",
    "fd_write",
    memory="2",
)
"""Copies stdin to stdout."""
SAMPLER = command(
    "(drop (call $random_get (i32.const 64) (i32.const 32)))"
    "(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 96)))"
    "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 104)))"
    + vector(0, 64, 48)
    + "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
    "random_get",
    "clock_time_get",
    "fd_write",
)
"""Prints random bytes and two clocks."""


def exiting(code: int) -> bytes:
    """A program that exits with `code`."""
    return command(f"(call $proc_exit (i32.const {code}))", "proc_exit")


def padded(module: bytes, size: int) -> bytes:
    """The same program, with `size` (1 to 2^28 - 6) bytes of nothing in a section of its own."""
    leb = bytes(((size + 5) >> 7 * at) & 0x7F | (0x80 if at < 3 else 0) for at in range(4))
    return module + b"\0" + leb + b"\4none" + bytes(size)
