"""Host calls: what they answer, what they cost, and that no address misleads them (spec/07 §7)."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import SIGNATURES, Errno
from fogbank.sandbox.wasi.clock import EPOCH
from fogbank.sandbox.wasi.descriptors import DESCRIPTORS, OutputLimit
from fogbank.sandbox.wasi.process import ProcExit
from fogbank.sandbox.wasi.system import CALL_FUEL, System

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
FOLLOW = 1


def unsigned(name: str, arguments: tuple[int, ...]) -> list[int]:
    """Numbers as they reach the host: wrapped to the size of each parameter."""
    sizes = {"i": 1 << 32, "I": 1 << 64}
    kinds = SIGNATURES[name]
    return [value % sizes[kind] for value, kind in zip(arguments, kinds, strict=True)]


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
        return Errno(self.system.call(name, unsigned(name, arguments)))

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
    for name, kinds in SIGNATURES.items():
        if name != "proc_exit":
            assert machine(name, *([SIZE] * len(kinds))) is not Errno.NOSYS


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
    assert struct.unpack_from("<QH", machine.bytes, 1016) == (len(b"input"), 0)
    assert machine.read(0, 100) == b"input"
    file = machine.open(b"file", rights=READ)
    polled = machine.open(b"file", rights=READ | 1 << 27)
    fds = (0, file, polled, 3, 1)
    machine.put(100, b"".join(struct.pack("<QB7xI28x", 7, 1, fd) for fd in fds))
    machine.ok("poll_oneoff", 100, 1000, len(fds), 400)
    told = [struct.unpack_from("<QHB5xQH", machine.bytes, 1000 + 32 * n) for n in range(len(fds))]
    assert told == [
        (7, 0, 1, 0, 1),
        (7, Errno.NOTCAPABLE, 1, 0, 0),
        (7, 0, 1, 10, 0),
        (7, Errno.BADF, 1, 0, 0),
        (7, 0, 1, 0, 0),
    ]
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
    assert machine("fd_seek", reader, 0, 0, 16) is Errno.NOTCAPABLE
    assert machine("fd_pread", reader, 0, 1, 0, 8) is Errno.NOTCAPABLE
    assert machine("fd_filestat_get", reader, 200) is Errno.NOTCAPABLE
    assert machine("fd_sync", reader) is Errno.NOTCAPABLE
    writer = machine.open(b"new", flags=CREAT | EXCL, rights=WRITE | SEEK | TELL)
    machine.put(0, struct.pack("<II", 2000, 1))
    assert machine("fd_read", writer, 0, 1, 8) is Errno.BADF
    assert machine("fd_read", 1, 0, 1, 8) is Errno.BADF
    assert machine.write(0, b"x") is Errno.BADF
    assert machine("fd_seek", 0, 0, 0, 16) is Errno.SPIPE
    assert machine("fd_read", 3, 0, 1, 8) is Errno.ISDIR
    machine.ok("fd_fdstat_set_rights", writer, TELL, 0)
    assert machine.write(writer, b"x") is Errno.BADF
    machine.ok("fd_seek", writer, 0, 1, 16)
    assert machine("fd_seek", writer, 0, 0, 16) is Errno.NOTCAPABLE
    assert machine("fd_fdstat_set_rights", writer, WRITE, 0) is Errno.NOTCAPABLE
    assert machine("fd_advise", 1, 0, 0, 0) is Errno.SPIPE
    assert machine("fd_allocate", 0, 0, 1) is Errno.SPIPE
    assert machine("fd_filestat_set_size", 1, 0) is Errno.BADF
    for name, arguments in (
        ("fd_seek", (3, 0, 1, 16)),
        ("fd_tell", (3, 16)),
        ("fd_allocate", (3, 0, 1)),
        ("fd_filestat_set_size", (3, 0)),
        ("fd_advise", (3, 0, 0, 0)),
    ):
        assert machine(name, *arguments) is Errno.BADF
    machine.ok("fd_fdstat_set_rights", 1, 0, 0)
    assert machine.write(1, b"x") is Errno.BADF


PATH_RIGHTS = [
    ("path_create_directory", 9, (1000, 4)),
    ("path_open", 13, (0, 1000, 4, 0, 0, 0, 0, 900)),
    ("path_open", 10, (0, 1000, 4, CREAT, 0, 0, 0, 900)),
    ("path_open", 19, (0, 1000, 4, TRUNC, 0, 0, 0, 900)),
    ("path_link", 11, (0, 1000, 4, 3, 1010, 3)),
    ("path_link", 12, (0, 1000, 4, 3, 1010, 3)),
    ("fd_readdir", 14, (100, 10, 0, 16)),
    ("path_readlink", 15, (1020, 4, 100, 10, 16)),
    ("path_rename", 16, (1000, 4, 3, 1010, 3)),
    ("path_rename", 17, (1000, 4, 3, 1010, 3)),
    ("path_filestat_get", 18, (0, 1000, 4, 200)),
    ("path_filestat_set_times", 20, (0, 1000, 4, 0, 0, 2)),
    ("fd_filestat_get", 21, (200,)),
    ("fd_filestat_set_times", 23, (0, 0, 2)),
    ("path_remove_directory", 25, (1030, 3)),
    ("path_unlink_file", 26, (1000, 4)),
    ("fd_fdstat_set_flags", 3, (0,)),
    ("fd_sync", 4, ()),
    ("fd_datasync", 0, ()),
]


@pytest.mark.parametrize(("name", "bit", "arguments"), PATH_RIGHTS)
def test_a_directory_without_the_right_refuses_the_call(
    name: str, bit: int, arguments: tuple[int, ...]
) -> None:
    machine = Machine()
    machine.put(1010, b"new")
    machine.put(1030, b"tmp")
    machine.ok("path_symlink", *machine.put(1000, b"file"), 3, *machine.put(1020, b"link"))
    if name == "path_create_directory":
        machine.put(1000, b"more")
    elif name == "path_link":
        machine.put(1000, b"file")
    machine.ok("fd_fdstat_get", 3, 100)
    base, inheriting = machine.u64(108), machine.u64(116)
    machine.ok("fd_fdstat_set_rights", 3, base & ~(1 << bit), inheriting)
    assert machine(name, 3, *arguments) is Errno.NOTCAPABLE
    other = Machine()
    other.bytes[:] = machine.bytes
    other.ok("path_symlink", 1000, 4, 3, 1020, 4)
    other.ok(name, 3, *arguments)


def test_opening() -> None:
    machine = Machine()
    path = machine.put(1000, b"file")
    for flags, rights, errno in (
        (CREAT | EXCL, ALL, Errno.EXIST),
        (DIRECTORY, ALL, Errno.NOTDIR),
        (CREAT | DIRECTORY, ALL, Errno.INVAL),
        (16, ALL, Errno.INVAL),
        (0, 1 << 40, Errno.NOTCAPABLE),
    ):
        assert machine("path_open", 3, 0, *path, flags, rights, 0, 0, 900) is errno
    assert machine("path_open", 0, 0, *path, 0, ALL, 0, 0, 900) is Errno.NOTDIR
    assert machine("path_open", 3, 0, *path, 0, ALL, 0, 0, SIZE - 3) is Errno.FAULT
    assert machine("path_open", 3, 0, 1000, 1 << 20, 0, ALL, 0, 0, 900) is Errno.NAMETOOLONG
    latin = machine.put(1000, b"\xff")
    assert machine("path_open", 3, 0, *latin, 0, ALL, 0, 0, 900) is Errno.ILSEQ
    root = machine.put(1000, b".")
    assert machine("path_open", 3, 0, *root, 0, READ | WRITE, 0, 0, 900) is Errno.ISDIR
    assert machine("path_open", 3, 0, *root, TRUNC, 0, 0, 0, 900) is Errno.ISDIR
    fd = machine.open(b"file", flags=TRUNC, rights=READ)
    assert machine.read(fd, 10) == b""
    directory = machine.open(b"dir", flags=DIRECTORY, rights=ALL & ~WRITE)
    machine.ok("fd_fdstat_get", directory, 200)
    assert machine.u64(208) & (READ | SEEK | TELL | 1 << 22) == 0
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


def test_renumbering_closes_what_stood_there() -> None:
    machine = Machine(replace(TASK, limits=replace(TASK.limits, memory=11 + 30)))
    first, second = machine.open(b"new", flags=CREAT), machine.open(b"other", flags=CREAT)
    machine.ok("fd_filestat_set_size", second, 30)
    machine.ok("path_unlink_file", 3, *machine.put(1000, b"other"))
    assert machine("fd_filestat_set_size", first, 1) is Errno.NOSPC
    machine.ok("fd_renumber", first, second)
    machine.ok("fd_filestat_set_size", second, 30)
    assert machine.open(b"file") == first
    machine.ok("fd_renumber", second, second)
    machine.ok("fd_tell", second, 16)


def test_a_descriptor_has_the_rights_that_mean_something_for_it() -> None:
    machine = Machine()
    stat_right = 1 << 21
    file = machine.open(b"file", rights=ALL)
    machine.ok("fd_fdstat_get", file, 100)
    assert machine.u64(108) == ALL & ~(0x3FF << 9) & ~(7 << 18) & ~(7 << 24) & ~(3 << 28)
    machine.ok("fd_fdstat_get", 3, 100)
    assert machine.u64(116) == ALL
    machine.ok("fd_fdstat_set_rights", 3, machine.u64(108), READ | stat_right)
    path = machine.put(1000, b"dir")
    for rights, inheriting in ((READ | TELL, 0), (READ, READ | TELL)):
        errno = machine("path_open", 3, 0, *path, DIRECTORY, rights, inheriting, 0, 900)
        assert errno is Errno.NOTCAPABLE
    machine.ok("path_open", 3, 0, *path, DIRECTORY, stat_right, READ, 0, 900)
    machine.ok("fd_fdstat_get", machine.u32(900), 100)
    assert (machine.u64(108), machine.u64(116)) == (stat_right, READ)


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
    assert names == [b".", b"..", b"tmp", b"file", b"dir"]


def test_links_and_what_is_known_of_them() -> None:
    machine = Machine()
    target, link = machine.put(1000, b"dir/../file"), machine.put(1100, b"link")
    machine.ok("path_symlink", *target, 3, *link)
    machine.ok("path_filestat_get", 3, 0, *link, 200)
    assert (machine.bytes[216], machine.u64(232)) == (7, len(b"dir/../file"))
    machine.ok("path_filestat_get", 3, FOLLOW, *link, 200)
    assert (machine.bytes[216], machine.u64(224), machine.u64(232)) == (4, 1, 10)
    for flags in (0, DIRECTORY):
        assert machine("path_open", 3, 0, *link, flags, 0, 0, 0, 900) is Errno.LOOP
    assert machine("path_open", 3, FOLLOW, *link, DIRECTORY, 0, 0, 0, 900) is Errno.NOTDIR
    machine.ok("path_open", 3, FOLLOW, *link, 0, READ, 0, 0, 900)
    assert machine.read(machine.u32(900), 20) == b"0123456789"
    machine.ok("path_readlink", 3, *link, 300, 5, 16)
    assert (bytes(machine.bytes[300:306]), machine.u32(16)) == (b"dir/.\0", 5)
    machine.ok("path_readlink", 3, *link, 300, 100, 16)
    assert (bytes(machine.bytes[300:312]), machine.u32(16)) == (b"dir/../file\0", 11)
    assert machine("path_readlink", 3, *link, SIZE - 3, 5, 16) is Errno.FAULT
    again = machine.put(1200, b"dir/again")
    machine.ok("path_link", 3, FOLLOW, *link, 3, *again)
    machine.ok("path_filestat_get", 3, 0, *again, 200)
    assert (machine.bytes[216], machine.u64(224)) == (4, 2)
    latin = machine.put(1300, b"\xff")
    assert machine("path_symlink", *latin, 3, *machine.put(1400, b"new")) is Errno.ILSEQ


def test_times_are_set_and_kept() -> None:
    machine = Machine()
    path = machine.put(1000, b"file")
    machine.used = 70
    fd = machine.open(b"file")
    assert machine.write(fd, b"x") is Errno.SUCCESS
    machine.ok("fd_filestat_get", fd, 200)
    accessed, modified, changed = (machine.u64(at) for at in (240, 248, 256))
    assert accessed == EPOCH < modified == changed
    machine.ok("path_filestat_set_times", 3, 0, *path, 11, 22, 1 | 4)
    machine.ok("fd_filestat_get", fd, 200)
    assert (machine.u64(240), machine.u64(248)) == (11, 22)
    assert machine.u64(256) > changed
    machine.ok("fd_filestat_set_times", fd, 33, 44, 4)
    machine.ok("path_filestat_get", 3, 0, *path, 200)
    assert (machine.u64(240), machine.u64(248)) == (11, 44)
    assert machine("fd_filestat_set_times", fd, 0, 0, 1 | 2) is Errno.INVAL
    assert machine("path_filestat_set_times", 3, 0, *path, 0, 0, 4 | 8) is Errno.INVAL
    assert machine("fd_filestat_set_times", 1, 0, 0, 0) is Errno.NOTCAPABLE
    machine.ok("fd_filestat_set_times", 3, 5, 6, 1)
    machine.ok("fd_filestat_get", 3, 200)
    assert machine.u64(240) == 5


def test_there_are_no_sockets() -> None:
    machine = Machine()
    file = machine.open(b"file")
    for name, kinds in SIGNATURES.items():
        if name.startswith("sock_"):
            rest = [0] * (len(kinds) - 1)
            for fd, errno in (
                (0, Errno.NOTSOCK),
                (file, Errno.NOTSOCK),
                (3, Errno.BADF),
                (99, Errno.BADF),
            ):
                assert machine(name, fd, *rest) is errno


def test_a_signal_ends_the_program_or_does_nothing() -> None:
    machine = Machine()
    for signal in (0, 16, 17, 22, 27):
        machine.ok("proc_raise", signal)
    for signal in (18, 19, 20, 21):
        assert machine("proc_raise", signal) is Errno.NOTSUP
    assert machine("proc_raise", 31) is Errno.INVAL
    with pytest.raises(ProcExit) as exit_info:
        machine("proc_raise", 6)
    assert exit_info.value.code == 134


def test_a_call_that_cannot_have_a_descriptor_makes_no_file() -> None:
    machine = Machine()
    for _ in range(DESCRIPTORS - 4):
        machine.open(b"file")
    path = machine.put(1000, b"new")
    assert machine("path_open", 3, 0, *path, CREAT, ALL, 0, 0, 900) is Errno.MFILE
    assert machine("path_filestat_get", 3, 0, *path, 200) is Errno.NOENT


def test_a_write_that_does_not_fit_is_cut_between_its_buffers() -> None:
    machine = Machine(replace(TASK, limits=replace(TASK.limits, memory=11 + 30)))
    fd = machine.open(b"new", flags=CREAT)
    machine.put(0, struct.pack("<IIIIII", 2000, 20, 0, 0, 2000, 20))
    machine.ok("fd_write", fd, 0, 3, 32)
    assert machine.u32(32) == 20
    assert machine("fd_write", fd, 0, 1, 32) is Errno.NOSPC
    machine.ok("fd_seek", fd, 5, 0, 16)
    machine.put(0, struct.pack("<IIIIII", 2000, 8, 0, 0, 2100, 20))
    machine.ok("fd_read", fd, 0, 3, 32)
    assert machine.u32(32) == 15


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
        Machine()("proc_exit", -1)
    assert exit_info.value.code == 0xFFFF_FFFF


def test_calls_cost_fuel_by_call_and_byte() -> None:
    machine = Machine()
    machine.ok("sched_yield")
    assert machine.used == CALL_FUEL
    machine.used = 0
    machine.ok("random_get", 0, 1000)
    assert machine.used == CALL_FUEL + 1000
    fd = machine.open(b"file")
    machine.used = 0
    machine.ok("fd_filestat_set_size", fd, 1010)
    assert machine.used == CALL_FUEL + 1000
    machine.used = 0
    machine("sock_shutdown", 0, 0)
    assert machine.used == CALL_FUEL
    link = machine.put(1000, b"link")
    machine.ok("path_symlink", *machine.put(1100, b"file"), 3, *link)
    machine.used = 0
    machine.ok("path_filestat_get", 3, FOLLOW, *link, 200)
    assert machine.used == CALL_FUEL + (len(b"link") + len(b"file") + 64)


ADDRESS = st.sampled_from([0, 1, 8, 100, SIZE - 8, SIZE - 1, SIZE, SIZE + 1, 1 << 31]) | (
    st.integers(-(1 << 31), (1 << 31) - 1)
)
LONG = ADDRESS | st.integers(-(1 << 63), (1 << 63) - 1)


@settings(max_examples=300)
@given(st.data())
def test_no_arguments_can_mislead_a_call(data: st.DataObject) -> None:
    machine = Machine()
    machine.bytes[:] = data.draw(st.binary(min_size=64, max_size=64)) * (SIZE // 64)
    machine.ok("path_symlink", *machine.put(0, b"dir/.."), 3, *machine.put(8, b"l"))
    machine.ok("path_link", 3, 0, *machine.put(16, b"file"), 3, *machine.put(100, b"dir/again"))
    for _ in range(8):
        name = data.draw(st.sampled_from(sorted(SIGNATURES)))
        arguments = tuple(
            data.draw(st.integers(0, 4) | (LONG if kind == "I" else ADDRESS))
            for kind in SIGNATURES[name]
        )
        try:
            answer = machine(name, *arguments)
        except (ProcExit, OutputLimit):
            return
        assert answer in set(Errno)
        assert len(machine.bytes) == SIZE
