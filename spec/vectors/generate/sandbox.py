"""Write `07-sandbox.json`: modules, what they are given, and what comes of it by spec/07.

It shares no code with the project. The calls that these programs make are written down here from
spec/07 §5 and §7, for an engine as §6 has it; the outcome of each program is stated beside it.

    python spec/vectors/generate/sandbox.py
"""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wasmtime

CALL, BYTE = 10_000, 1
EPOCH = 1_735_689_600_000_000_000
SUCCESS, BADF, FAULT, LOOP, NOENT, NOTSOCK, NOTCAPABLE = 0, 8, 21, 32, 44, 57, 76
DIRECTORY, REGULAR = 3, 4
COMPLETED, OUT_OF_FUEL, TRAP, OUT_OF_MEMORY, OUTPUT_LIMIT, UNKNOWN_IMPORT, INVALID = (
    0, 1, 2, 3, 5, 6, 7,
)  # fmt: skip


@dataclass
class Given:
    """What a program is given."""

    files: dict[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    seed: bytes = bytes(32)
    fuel: int = 1 << 38
    memory: int = 256 << 20
    output: int = 16 << 20


P1 = "wasi_snapshot_preview1"
WRITE = f'(import "{P1}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
READ = f'(import "{P1}" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))'
OPEN = (
    f'(import "{P1}" "path_open"'
    " (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"
)
RANDOM = f'(import "{P1}" "random_get" (func $random (param i32 i32) (result i32)))'
CLOCK = f'(import "{P1}" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))'
EXIT = f'(import "{P1}" "proc_exit" (func $exit (param i32)))'
SOCKET = f'(import "{P1}" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))'
SYMLINK = f'(import "{P1}" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))'
READDIR = f'(import "{P1}" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))'
STAT = f'(import "{P1}" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))'
MEMORY = '(memory (export "memory") 1)'


def module(imports: str, body: str, more: str = "") -> str:
    """A program's text."""
    return f'(module {imports} {MEMORY} {more} (func (export "_start") {body}))'


def show(address: int, length: int) -> str:
    """Instructions that write memory to stdout."""
    return (
        f"(i32.store (i32.const 0) (i32.const {address}))"
        f"(i32.store (i32.const 4) (i32.const {length}))"
        "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )


def check(call: str) -> str:
    """Instructions that exit with a call's error number if it is not 0."""
    return f"(local.set $e {call}) (if (local.get $e) (then (call $exit (local.get $e))))"


def opening(address: int, length: int, *, create: bool = False) -> str:
    """A call that opens a path to be read and written, following links; its number goes to 16."""
    return (
        f"(call $open (i32.const 3) (i32.const 1) (i32.const {address}) (i32.const {length})"
        f" (i32.const {int(create)}) (i64.const 0x200042) (i64.const 0) (i32.const 0)"
        " (i32.const 16))"
    )


def linking(target: bytes, name: bytes) -> str:
    """A call that makes a symbolic link, of texts that lie one after the other at 32."""
    return (
        f"(call $symlink (i32.const 32) (i32.const {len(target)}) (i32.const 3)"
        f" (i32.const {32 + len(target)}) (i32.const {len(name)}))"
    )


def following(target: bytes, name: bytes) -> tuple[str, str]:
    """The imports and the body of a program that makes a link and opens it."""
    made = check(linking(target, name)) + check(opening(32 + len(target), len(name)))
    return OPEN + SYMLINK + EXIT, "(local $e i32)" + made


PROGRAMS: tuple[tuple[str, int, str, Given], ...] = (
    ("does nothing", COMPLETED, module("", ""), Given()),
    (
        "prints, costs one call and six bytes and the vector's eight and the count's four",
        COMPLETED,
        module(WRITE, show(64, 6), '(data (i32.const 64) "hello\\0a")'),
        Given(),
    ),
    (
        "copies standard input once",
        COMPLETED,
        module(
            READ + WRITE,
            "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1000))"
            "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 12)))"
            "(i32.store (i32.const 4) (i32.load (i32.const 12)))"
            "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        ),
        Given(stdin=b"some input"),
    ),
    (
        "reads a file of the task",
        COMPLETED,
        module(
            OPEN + READ + WRITE + EXIT,
            "(local $e i32)"
            + check(
                "(call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 8) (i32.const 0)"
                " (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))"
            )
            + "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1000))"
            + check(
                "(call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 12))"
            )
            + "(i32.store (i32.const 4) (i32.load (i32.const 12)))"
            "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
            '(data (i32.const 32) "data/a.b")',
        ),
        Given(files={"data/a.b": b"file content"}),
    ),
    (
        "finds no file, and exits with the error's number",
        COMPLETED,
        module(
            OPEN + EXIT,
            "(call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 8)"
            " (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))",
            '(data (i32.const 32) "data/a.b")',
        ),
        Given(),
    ),
    (
        "prints random bytes of a seed of zeros",
        COMPLETED,
        module(
            RANDOM + WRITE, "(drop (call $random (i32.const 64) (i32.const 32)))" + show(64, 32)
        ),
        Given(),
    ),
    (
        "prints random bytes of another seed, in two draws",
        COMPLETED,
        module(
            RANDOM + WRITE,
            "(drop (call $random (i32.const 64) (i32.const 16)))"
            "(drop (call $random (i32.const 80) (i32.const 16)))" + show(64, 32),
        ),
        Given(seed=bytes(range(32))),
    ),
    (
        "prints the real-time clock, which counts from a fixed start, and the monotonic one",
        COMPLETED,
        module(
            CLOCK + WRITE,
            "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))"
            "(drop (call $clock (i32.const 1) (i64.const 0) (i32.const 72)))" + show(64, 16),
        ),
        Given(),
    ),
    (
        "shuts standard input down as a socket, and exits with ENOTSOCK",
        COMPLETED,
        module(SOCKET + EXIT, "(call $exit (call $shutdown (i32.const 0) (i32.const 0)))"),
        Given(),
    ),
    (
        "shuts a directory down as a socket, and exits with EBADF",
        COMPLETED,
        module(SOCKET + EXIT, "(call $exit (call $shutdown (i32.const 3) (i32.const 0)))"),
        Given(),
    ),
    (
        "reads a file through a symbolic link, whose bytes are paid when it is followed",
        COMPLETED,
        module(
            READ + WRITE + following(b"data/a.b", b"l")[0],
            following(b"data/a.b", b"l")[1]
            + "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1000))"
            + check(
                "(call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 12))"
            )
            + "(i32.store (i32.const 4) (i32.load (i32.const 12)))"
            "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
            '(data (i32.const 32) "data/a.bl")',
        ),
        Given(files={"data/a.b": b"file content"}),
    ),
    (
        "follows a link to itself, and exits with ELOOP",
        COMPLETED,
        module(*following(b"l", b"l"), '(data (i32.const 32) "ll")'),
        Given(),
    ),
    (
        "follows a link that leaves its root, and exits with ENOTCAPABLE",
        COMPLETED,
        module(*following(b"tmp/../../l", b"l"), '(data (i32.const 32) "tmp/../../ll")'),
        Given(),
    ),
    (
        "lists its root directory",
        COMPLETED,
        module(
            READDIR + WRITE,
            "(drop (call $readdir (i32.const 3) (i32.const 64) (i32.const 1000) (i64.const 0)"
            " (i32.const 16)))"
            "(i32.store (i32.const 0) (i32.const 64))"
            "(i32.store (i32.const 4) (i32.load (i32.const 16)))"
            "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        ),
        Given(files={"data/a.b": b"file content", "z": b""}),
    ),
    (
        "lists its root directory after the second entry, into a buffer that is too small",
        COMPLETED,
        module(
            READDIR + WRITE,
            "(drop (call $readdir (i32.const 3) (i32.const 64) (i32.const 30) (i64.const 2)"
            " (i32.const 16)))" + show(64, 30),
        ),
        Given(files={"z": b""}),
    ),
    (
        "makes a file, and prints what is known of it: its times are those of the calls",
        COMPLETED,
        module(
            OPEN + WRITE + STAT + EXIT,
            "(local $e i32)"
            + check(opening(32, 1, create=True))
            + "(i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 5))"
            + check(
                "(call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8))"
            )
            + check("(call $stat (i32.load (i32.const 16)) (i32.const 64))")
            + show(64, 64),
            '(data (i32.const 32) "hello")',
        ),
        Given(),
    ),
    (
        "passes an address outside its memory, and exits with EFAULT",
        COMPLETED,
        module(RANDOM + EXIT, "(call $exit (call $random (i32.const 65535) (i32.const 2)))"),
        Given(),
    ),
    ("exits with a large code", COMPLETED, module(EXIT, "(call $exit (i32.const -1))"), Given()),
    ("traps", TRAP, module("", "unreachable"), Given()),
    (
        "overflows its stack",
        TRAP,
        f'(module {MEMORY} (func $f (export "_start") (call $f) (call $f)))',
        Given(),
    ),
    ("never ends", OUT_OF_FUEL, module("", "(loop (br 0))"), Given(fuel=1_000_000)),
    (
        "cannot pay a host call",
        OUT_OF_FUEL,
        module(WRITE, show(64, 6)),
        Given(fuel=10_000),
    ),
    (
        "writes more than it may",
        OUTPUT_LIMIT,
        module(WRITE, show(64, 6), '(data (i32.const 64) "hello\\0a")'),
        Given(output=4),
    ),
    (
        "needs more memory than it may have",
        OUT_OF_MEMORY,
        '(module (memory (export "memory") 17) (func (export "_start")))',
        Given(memory=1 << 20),
    ),
    (
        "fails with its memory at the limit",
        OUT_OF_MEMORY,
        module(
            "", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"
        ),
        Given(memory=1 << 20),
    ),
    (
        "imports what is not offered",
        UNKNOWN_IMPORT,
        '(module (import "env" "now" (func)))',
        Given(),
    ),
    ("imports an unknown call", UNKNOWN_IMPORT, f'(module (import "{P1}" "fork" (func)))', Given()),
    (
        "imports a call with another type",
        UNKNOWN_IMPORT,
        f'(module (import "{P1}" "fd_write" (func)))',
        Given(),
    ),
    ("has no _start", INVALID, f"(module {MEMORY})", Given()),
    ("has no memory", INVALID, '(module (func (export "_start")))', Given()),
)


class Ended(Exception):
    """The program ended in a host call: with this outcome, and this exit code if it has one."""


class Host:
    """The few calls that these programs make."""

    def __init__(self, given: Given, store: wasmtime.Store) -> None:
        self.given, self.store = given, store
        self.open: dict[int, list[Any]] = {0: [given.stdin, 0]}
        self.links: dict[str, str] = {}
        self.draws = 0
        self.stdout = b""
        self.moved = 0

    def used(self) -> int:
        """Return the fuel used so far."""
        return self.given.fuel - self.store.get_fuel()

    def get(self, at: int, count: int) -> bytes:
        """Copy out of the program's memory."""
        self.moved += count
        return bytes(self.memory.read(self.store, at, at + count))

    def put(self, at: int, data: bytes) -> None:
        """Copy into the program's memory."""
        self.moved += len(data)
        self.memory.write(self.store, bytearray(data), at)

    def fd_write(self, fd: int, vectors: int, _count: int, result: int) -> int:
        """Write one buffer to stdout, or to the file that was made."""
        at, length = struct.unpack("<II", self.get(vectors, 8))
        if fd != 1:
            self.open[fd][0] += self.get(at, length)
            self.open[fd][2] = EPOCH + self.used()
            self.moved += length
            self.put(result, struct.pack("<I", length))
            return SUCCESS
        room = self.given.output - len(self.stdout)
        self.stdout += self.get(at, min(length, room + 1))[:room]
        if length > room:
            raise Ended(OUTPUT_LIMIT, None)
        self.put(result, struct.pack("<I", length))
        return SUCCESS

    def fd_read(self, fd: int, vectors: int, _count: int, result: int) -> int:
        """Read into one buffer."""
        at, length = struct.unpack("<II", self.get(vectors, 8))
        data, offset = self.open[fd][:2]
        part = data[offset : offset + length]
        self.open[fd][1] += len(part)
        if part:
            self.put(at, part)
        self.put(result, struct.pack("<I", len(part)))
        return SUCCESS

    def path_open(self, *arguments: int) -> int:
        """Open a file of the task below the root."""
        _, follow, at, length, create, _, _, _, result = arguments
        path = self.get(at, length).decode()
        for _ in range(41):
            if path.startswith("tmp/../../"):
                return NOTCAPABLE
            if not follow or path not in self.links:
                break
            self.moved += len(self.links[path])
            path = self.links[path]
        if path in self.links:
            self.moved -= len(path)
            return LOOP
        now = EPOCH + self.used()
        if create:
            self.open[4] = [b"", 0, now, now]
        elif path in self.given.files:
            self.open[4] = [self.given.files[path], 0, EPOCH, EPOCH]
        else:
            return NOENT
        self.put(result, struct.pack("<I", 4))
        return SUCCESS

    def path_symlink(self, target: int, size: int, _fd: int, at: int, length: int) -> int:
        """Make a symbolic link in the root."""
        path = self.get(at, length).decode()
        self.links[path] = self.get(target, size).decode()
        return SUCCESS

    def fd_readdir(self, _fd: int, at: int, size: int, cookie: int, result: int) -> int:
        """List the root: spec/07 §7.3. Nodes are numbered in the order in which they are made."""
        entries, number = [(".", 1, DIRECTORY), ("..", 1, DIRECTORY), ("tmp", 2, DIRECTORY)], 2
        for path in self.given.files:
            folder, slash, _ = path.partition("/")
            entries.append((folder, number + 1, DIRECTORY if slash else REGULAR))
            number += 2 if slash else 1
        listed = b"".join(
            struct.pack("<QQIB3x", index, inode, len(name), kind) + name.encode()
            for index, (name, inode, kind) in enumerate(entries, 1)
            if index > cookie
        )[:size]
        self.put(at, listed)
        self.put(result, struct.pack("<I", len(listed)))
        return SUCCESS

    def fd_filestat_get(self, fd: int, at: int) -> int:
        """Tell of the one file that was made, after the root and /tmp."""
        data, _, modified, accessed = self.open[fd]
        times = (accessed, modified, modified)
        self.put(at, struct.pack("<QQB7xQQQQQ", 1, 3, REGULAR, 1, len(data), *times))
        return SUCCESS

    def random_get(self, at: int, count: int) -> int:
        """Spec/07 §7.1."""
        if at + count > self.memory.data_len(self.store):
            return FAULT
        label = b"fogbank sandbox random" + self.given.seed + struct.pack("<Q", self.draws)
        self.draws += 1
        self.put(at, hashlib.shake_256(label).digest(count))
        return SUCCESS

    def clock_time_get(self, clock: int, _: int, result: int) -> int:
        """Spec/07 §7.1."""
        self.put(result, struct.pack("<Q", self.used() + (EPOCH if clock == 0 else 0)))
        return SUCCESS

    def proc_exit(self, code: int) -> None:
        """End the program."""
        raise Ended(COMPLETED, code & 0xFFFF_FFFF)

    def sock_shutdown(self, fd: int, _how: int) -> int:
        """There are no sockets."""
        return BADF if fd == 3 else NOTSOCK

    def metered(self, call: Callable[..., int | None]) -> Callable[..., int | None]:
        """Take the price of a call after it was carried out; one that ends the program is free."""

        def paid(*arguments: int) -> int | None:
            self.moved = 0
            answer = call(*arguments)
            left = self.store.get_fuel() - CALL - BYTE * self.moved
            self.store.set_fuel(max(left, 0))
            if left < 0:
                raise Ended(OUT_OF_FUEL, None)
            return answer

        return paid


def run(module: wasmtime.Module, engine: wasmtime.Engine, given: Given) -> dict[str, Any]:
    """Run one program, and tell what can be measured of it."""
    store = wasmtime.Store(engine)
    store.set_fuel(given.fuel)
    store.set_limits(memory_size=given.memory)
    host = Host(given, store)
    code: int | None = None
    linker = wasmtime.Linker(engine)
    for wanted in module.imports:
        call = host.metered(getattr(host, wanted.name))
        linker.define_func(P1, wanted.name, wanted.type, call)
    try:
        exports = linker.instantiate(store, module).exports(store)
        host.memory = exports["memory"]
        exports["_start"](store)
        code = 0
    except Ended as ended:
        code = ended.args[1]
    except (wasmtime.Trap, wasmtime.WasmtimeError):
        pass
    return {"exit_code": code, "fuel": host.used(), "stdout": host.stdout.hex()}


def vectors() -> dict[str, Any]:
    """Work the file's content out."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.max_wasm_stack = 1 << 20
    config.memory_init_cow = False
    engine = wasmtime.Engine(config)
    found = []
    for title, outcome, text, given in PROGRAMS:
        wasm = bytes(wasmtime.wat2wasm(text))
        one: dict[str, Any] = {
            "title": title,
            "text": text,
            "module": wasm.hex(),
            "files": {path: data.hex() for path, data in given.files.items()},
            "stdin": given.stdin.hex(),
            "seed": given.seed.hex(),
            "limits": {"fuel": given.fuel, "memory": given.memory, "output": given.output},
            "outcome": outcome,
        }
        if outcome not in {UNKNOWN_IMPORT, INVALID}:
            one |= run(wasmtime.Module(engine, wasm), engine, given)
        found.append(one)
    return {"section": "spec/07", "wasmtime": "50.0.1", "programs": found}


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[1] / "07-sandbox.json"
    target.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
