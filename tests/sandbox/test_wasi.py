"""Host calls: what they answer, what they cost, and that no address misleads them (spec/07 §7)."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import SIGNATURES, Errno
from fogbank.sandbox.wasi.descriptors import DESCRIPTORS, OutputLimit
from fogbank.sandbox.wasi.process import EPOCH, ProcExit
from fogbank.sandbox.wasi.system import BYTE_FUEL, CALL_FUEL, System

SIZE = 4096
TASK = Task(
    args=("prog", "one"),
    env=(("KEY", "value"),),
    files=(("file", b"0123456789"), ("dir/inner", b"x")),
    stdin=b"input",
    limits=Limits(output=100, memory=65536),
)
READ, WRITE, SEEK, TELL = 1 << 1, 1 << 6, 1 << 2, 1 << 5
ALL = (1 << 30) - 1
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8


class Machine:
    """A guest made of a bytearray."""

    def __init__(self, task: Task = TASK, size: int = SIZE) -> None:
        self.bytes = bytearray(size)
        self.used = 0
        self.system = System(task, self)

    def memory(self) -> memoryview:
        return memoryview(self.bytes)

    def fuel_used(self) -> int:
        return self.used

    def charge(self, fuel: int) -> None:
        self.used += fuel

    def __call__(self, name: str, *arguments: int) -> Errno:
        answer = self.system.call(name, arguments)
        assert answer is not None
        return Errno(answer)

    def ok(self, name: str, *arguments: int) -> None:
        assert self(name, *arguments) is Errno.SUCCESS

    def put(self, address: int, content: bytes) -> tuple[int, int]:
        self.bytes[address : address + len(content)] = content
        return address, len(content)

    def u32(self, address: int) -> int:
        return int.from_bytes(self.bytes[address : address + 4], "little")

    def u64(self, address: int) -> int:
        return int.from_bytes(self.bytes[address : address + 8], "little")

    def open(self, path: bytes, flags: int = 0, rights: int = ALL, fd_flags: int = 0) -> int:
        where = self.put(1000, path)
        self.ok("path_open", 3, 0, *where, flags, rights, 0, fd_flags, 900)
        return self.u32(900)

    def write(self, fd: int, content: bytes) -> Errno:
        self.put(0, struct.pack("<II", *self.put(2000, content)))
        return self("fd_write", fd, 0, 1, 8)

    def read(self, fd: int, count: int) -> bytes:
        self.put(0, struct.pack("<II", 2000, count))
        self.ok("fd_read", fd, 0, 1, 8)
        return bytes(self.bytes[2000 : 2000 + self.u32(8)])


def test_every_function_of_preview_1_is_there() -> None:
    assert len(SIGNATURES) == 46
    machine = Machine()
    missing = {
        name
        for name, kinds in SIGNATURES.items()
        if name != "proc_exit" and machine(name, *([SIZE] * len(kinds))) is Errno.NOSYS
    }
    assert missing == {
        "fd_filestat_set_times",
        "path_filestat_set_times",
        "path_link",
        "path_readlink",
        "path_symlink",
        "proc_raise",
        "sock_accept",
        "sock_recv",
        "sock_send",
        "sock_shutdown",
    }


@pytest.mark.parametrize(
    ("kind", "strings"), [("args", b"prog\0one\0"), ("environ", b"KEY=value\0")]
)
def test_arguments_and_environment(kind: str, strings: bytes) -> None:
    machine = Machine()
    machine.ok(f"{kind}_sizes_get", 0, 4)
    count, size = machine.u32(0), machine.u32(4)
    assert size == len(strings)
    machine.ok(f"{kind}_get", 100, 200)
    assert machine.bytes[200 : 200 + size] == strings
    starts = [machine.u32(100 + 4 * n) for n in range(count)]
    assert [bytes(machine.bytes[at:]).split(b"\0")[0] for at in starts] == strings.split(b"\0")[:-1]


def test_clocks_advance_with_fuel_and_sleep_alone() -> None:
    machine = Machine()
    machine.ok("clock_time_get", 0, 0, 0)
    assert machine.u64(0) == EPOCH
    machine.used = 5_000
    machine.ok("clock_time_get", 1, 0, 0)
    assert machine.u64(0) == 5_000
    subscription = struct.pack("<QB7xI4xQQH6x", 77, 0, 1, 1_000_000, 0, 0)
    machine.put(100, subscription)
    before = machine.used
    machine.ok("poll_oneoff", 100, 300, 1, 400)
    assert machine.u32(400) == 1
    assert struct.unpack_from("<QHB", machine.bytes, 300) == (77, 0, 0)
    machine.ok("clock_time_get", 1, 0, 0)
    assert machine.u64(0) >= 1_000_000 + before
    machine.ok("clock_time_get", 2, 0, 0)
    assert machine.u64(0) < 1_000_000
    assert machine("clock_time_get", 4, 0, 0) is Errno.INVAL
    machine.ok("clock_res_get", 3, 0)
    assert machine.u64(0) == 1


def test_polling_prefers_what_is_ready() -> None:
    machine = Machine()
    clock = struct.pack("<QB7xI4xQQH6x", 1, 0, 1, 1 << 63, 0, 0)
    reading = struct.pack("<QB7xI28x", 2, 1, 0)
    closed = struct.pack("<QB7xI28x", 3, 2, 99)
    machine.put(100, clock + reading + closed)
    machine.ok("poll_oneoff", 100, 1000, 3, 400)
    assert machine.u32(400) == 2
    assert struct.unpack_from("<QHB", machine.bytes, 1000) == (2, 0, 1)
    assert struct.unpack_from("<QHB", machine.bytes, 1032) == (3, Errno.BADF, 2)
    machine.ok("clock_time_get", 1, 0, 0)
    assert machine.u64(0) < 1 << 32
    assert machine("poll_oneoff", 100, 1000, 0, 400) is Errno.INVAL


def test_randomness_follows_the_seed_alone() -> None:
    def drawn(seed: bytes) -> list[bytes]:
        machine = Machine(Task(seed=seed))
        draws = []
        for _ in range(2):
            machine.ok("random_get", 100, 32)
            draws.append(bytes(machine.bytes[100:132]))
        return draws

    first, second = drawn(bytes(32))
    assert first != second
    assert drawn(bytes(32)) == [first, second]
    assert first not in drawn(bytes(31) + b"\1")


def test_the_root_directory_is_open_from_the_start() -> None:
    machine = Machine()
    machine.ok("fd_prestat_get", 3, 0)
    assert machine.u64(0) == 1 << 32
    assert machine("fd_prestat_dir_name", 3, 100, 0) is Errno.NAMETOOLONG
    machine.ok("fd_prestat_dir_name", 3, 100, 1)
    assert machine.bytes[100:101] == b"/"
    assert machine("fd_prestat_get", 4, 0) is Errno.BADF
    assert machine("fd_prestat_get", 0, 0) is Errno.BADF


def test_reading_writing_and_seeking_a_file() -> None:
    machine = Machine()
    fd = machine.open(b"file")
    assert machine.read(fd, 4) == b"0123"
    machine.ok("fd_tell", fd, 16)
    assert machine.u64(16) == 4
    assert machine.write(fd, b"ab") is Errno.SUCCESS
    machine.ok("fd_seek", fd, -3 & (1 << 64) - 1, 1, 16)
    assert machine.u64(16) == 3
    assert machine.read(fd, 100) == b"3ab6789"
    assert machine.read(fd, 100) == b""
    assert machine("fd_seek", fd, -1 & (1 << 64) - 1, 0, 16) is Errno.INVAL
    assert machine("fd_seek", fd, 0, 9, 16) is Errno.INVAL
    machine.ok("fd_seek", fd, 2, 2, 16)
    assert machine.write(fd, b"!") is Errno.SUCCESS
    machine.put(0, struct.pack("<IIII", 2000, 3, 2100, 100))
    machine.ok("fd_pread", fd, 0, 2, 8, 8)
    assert machine.u32(8) == 5
    assert machine.bytes[2000:2003] + machine.bytes[2100:2102] == b"89\0\0!"
    machine.ok("fd_pwrite", fd, 0, 1, 0, 8)
    machine.ok("fd_filestat_set_size", fd, 3)
    machine.ok("fd_filestat_get", fd, 200)
    assert machine.u64(232) == 3
    machine.ok("fd_allocate", fd, 0, 20)
    machine.ok("fd_filestat_get", fd, 200)
    assert machine.u64(232) == 20
    machine.ok("fd_sync", fd)
    machine.ok("fd_datasync", fd)
    machine.ok("fd_advise", fd, 0, 0, 0)
    machine.ok("fd_close", fd)
    assert machine("fd_close", fd) is Errno.BADF


def test_appending_ignores_the_position() -> None:
    machine = Machine()
    fd = machine.open(b"file", fd_flags=1)
    assert machine.write(fd, b"+") is Errno.SUCCESS
    machine.ok("fd_fdstat_get", fd, 100)
    assert machine.bytes[100] == 4
    assert machine.bytes[102] == 1
    machine.ok("fd_fdstat_set_flags", fd, 0)
    machine.ok("fd_seek", fd, 0, 0, 16)
    assert machine.read(fd, 20) == b"0123456789+"
    assert machine("fd_fdstat_set_flags", fd, 0xFF) is Errno.INVAL


def test_descriptors_do_only_what_they_were_opened_for() -> None:
    machine = Machine()
    reader = machine.open(b"file", rights=READ)
    assert machine.write(reader, b"x") is Errno.BADF
    assert machine("fd_seek", reader, 0, 0, 16) is Errno.SPIPE
    writer = machine.open(b"new", flags=CREAT | EXCL, rights=WRITE | SEEK | TELL)
    machine.put(0, struct.pack("<II", 2000, 1))
    assert machine("fd_read", writer, 0, 1, 8) is Errno.BADF
    assert machine("fd_read", 1, 0, 1, 8) is Errno.BADF
    assert machine.write(0, b"x") is Errno.BADF
    assert machine("fd_seek", 0, 0, 0, 16) is Errno.SPIPE
    assert machine("fd_read", 3, 0, 1, 8) is Errno.ISDIR
    machine.ok("fd_fdstat_set_rights", writer, TELL, 0)
    assert machine.write(writer, b"x") is Errno.BADF
    assert machine("fd_fdstat_set_rights", writer, WRITE, 0) is Errno.NOTCAPABLE


def test_opening() -> None:
    machine = Machine()
    path = machine.put(1000, b"file")
    for flags, rights, errno in (
        (CREAT | EXCL, ALL, Errno.EXIST),
        (DIRECTORY, ALL, Errno.NOTDIR),
        (CREAT | DIRECTORY, ALL, Errno.INVAL),
        (TRUNC, READ, Errno.INVAL),
        (16, ALL, Errno.INVAL),
        (0, 1 << 40, Errno.NOTCAPABLE),
    ):
        assert machine("path_open", 3, 0, *path, flags, rights, 0, 0, 900) is errno
    assert machine("path_open", 0, 0, *path, 0, ALL, 0, 0, 900) is Errno.NOTDIR
    assert machine("path_open", 3, 0, *path, 0, ALL, 0, 0, SIZE - 3) is Errno.FAULT
    assert machine("path_open", 3, 0, 1000, 1 << 20, 0, ALL, 0, 0, 900) is Errno.NAMETOOLONG
    latin = machine.put(1000, b"\xff")
    assert machine("path_open", 3, 0, *latin, 0, ALL, 0, 0, 900) is Errno.ILSEQ
    fd = machine.open(b"file", flags=TRUNC)
    assert machine.read(fd, 10) == b""
    directory = machine.open(b"dir", flags=DIRECTORY)
    inner = machine.put(1000, b"inner")
    assert machine("path_open", directory, 0, *inner, 0, ALL, 0, 0, 900) is Errno.NOTCAPABLE
    machine.ok("path_filestat_get", directory, 0, *inner, 200)
    assert machine.u64(232) == 1
    assert machine.bytes[216] == 4


def test_descriptors_are_bounded_and_reused() -> None:
    machine = Machine()
    fds = [machine.open(b"file") for _ in range(DESCRIPTORS - 4)]
    assert fds == list(range(4, DESCRIPTORS))
    path = machine.put(1000, b"file")
    assert machine("path_open", 3, 0, *path, 0, ALL, 0, 0, 900) is Errno.MFILE
    machine.ok("fd_close", 100)
    assert machine.open(b"dir/inner") == 100
    machine.ok("fd_renumber", 100, 50)
    assert machine.read(50, 10) == b"x"
    assert machine("fd_close", 100) is Errno.BADF
    assert machine("fd_renumber", 50, 1000) is Errno.BADF


def test_changing_directories() -> None:
    machine = Machine()
    where = machine.put(1000, b"dir/new")
    machine.ok("path_create_directory", 3, *where)
    assert machine("path_create_directory", 3, *where) is Errno.EXIST
    moved = machine.put(1100, b"moved")
    machine.ok("path_rename", 3, *where, 3, *moved)
    machine.ok("path_remove_directory", 3, *moved)
    inner = machine.put(1200, b"dir/inner")
    machine.ok("path_unlink_file", 3, *inner)
    assert machine("path_unlink_file", 3, *inner) is Errno.NOENT


def test_listing_a_directory_in_pieces() -> None:
    machine = Machine()
    names: list[bytes] = []
    cookie = 0
    while True:
        machine.ok("fd_readdir", 3, 100, 32, cookie, 0)
        size = machine.u32(0)
        cookie, _, length, _ = (
            struct.unpack_from("<QQIB3x", machine.bytes, 100)
            if size
            else (
                cookie,
                0,
                0,
                0,
            )
        )
        if not size:
            break
        names.append(bytes(machine.bytes[124 : 124 + length]))
    assert names == [b".", b"..", b"file", b"dir"]


def test_output_is_cut_at_its_limit_and_ends_the_program() -> None:
    machine = Machine()
    assert machine.write(1, b"a" * 60) is Errno.SUCCESS
    assert machine.write(2, b"b" * 40) is Errno.SUCCESS
    with pytest.raises(OutputLimit):
        machine.write(1, b"c")
    machine = Machine()
    with pytest.raises(OutputLimit):
        machine.write(2, b"d" * 101)
    assert machine.system.output.stderr == b"d" * 100


def test_exit_ends_the_program_with_the_whole_code() -> None:
    with pytest.raises(ProcExit) as exit_info:
        Machine().system.call("proc_exit", (-1,))
    assert exit_info.value.code == 0xFFFF_FFFF


def test_calls_cost_fuel_by_call_and_byte() -> None:
    machine = Machine()
    machine.ok("sched_yield")
    assert machine.used == CALL_FUEL
    machine.used = 0
    machine.ok("random_get", 0, 1000)
    assert machine.used == CALL_FUEL + 1000 * BYTE_FUEL
    fd = machine.open(b"file")
    machine.used = 0
    machine.ok("fd_filestat_set_size", fd, 1010)
    assert machine.used == CALL_FUEL + 1000 * BYTE_FUEL
    machine.used = 0
    machine("sock_shutdown", 0, 0)
    assert machine.used == CALL_FUEL


ADDRESS = st.sampled_from([0, 1, 8, 100, SIZE - 8, SIZE - 1, SIZE, SIZE + 1, 1 << 31]) | (
    st.integers(-(1 << 31), (1 << 31) - 1)
)
LONG = ADDRESS | st.integers(-(1 << 63), (1 << 63) - 1)


@settings(max_examples=300)
@given(st.data())
def test_no_arguments_can_mislead_a_call(data: st.DataObject) -> None:
    machine = Machine()
    machine.bytes[:] = data.draw(st.binary(min_size=64, max_size=64)) * (SIZE // 64)
    for _ in range(8):
        name = data.draw(st.sampled_from(sorted(SIGNATURES)))
        arguments = tuple(
            data.draw(st.integers(0, 4) | (LONG if kind == "I" else ADDRESS))
            for kind in SIGNATURES[name]
        )
        try:
            answer = machine.system.call(name, arguments)
        except (ProcExit, OutputLimit):
            return
        assert answer in set(Errno)
        assert len(machine.bytes) == SIZE
