"""Any sequence of calls on files and descriptors: nothing leaks, nothing outgrows (spec/07 §7)."""

import contextlib
import struct
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import Errno
from fogbank.sandbox.wasi.descriptors import DESCRIPTORS, OutputLimit
from tests.sandbox.test_wasi import ALL, CREAT, DIRECTORY, FOLLOW, READ, TRUNC, Machine

CAPACITY = 1000
TASK = Task(
    files=(("a", b"0123456789"), ("d/b", b"x")),
    stdin=b"input",
    limits=replace(Limits(), memory=CAPACITY, output=300),
)
NAMES = [b"a", b"b", b"d", b"d/b", b"d/a", b"l", b"l/b", b"tmp/t", b"..", b"d/../../a"]
STEP = st.tuples(
    st.sampled_from([
        "open", "open", "open", "close", "renumber", "write", "write", "read", "cut",
        "allocate", "unlink", "rename", "link", "symlink", "mkdir", "rmdir", "list",
    ]),
    st.integers(0, 7),
    st.integers(0, 7),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 700),
)  # fmt: skip
PATH, OTHER, BUFFER, RESULT = 1000, 1100, 2000, 900


def step(machine: Machine, call: tuple[str, int, int, bytes, bytes, int]) -> Errno:
    kind, fd, target, path, other, size = call
    one, two = machine.put(PATH, path), machine.put(OTHER, other)
    machine.put(0, struct.pack("<II", BUFFER, size))
    flags = CREAT * (size % 2) | TRUNC * (size % 3 == 0) | DIRECTORY * (size % 7 == 0)
    rights = READ if flags & DIRECTORY else ALL
    calls: dict[str, tuple[str, tuple[int, ...]]] = {
        "open": ("path_open", (3, size % 5 and FOLLOW, *one, flags, rights, 0, 0, RESULT)),
        "close": ("fd_close", (fd,)),
        "renumber": ("fd_renumber", (fd, target)),
        "write": ("fd_write", (fd, 0, 1, RESULT)),
        "read": ("fd_read", (fd, 0, 1, RESULT)),
        "cut": ("fd_filestat_set_size", (fd, size)),
        "allocate": ("fd_allocate", (fd, target, size)),
        "unlink": ("path_unlink_file", (3, *one)),
        "rename": ("path_rename", (3, *one, 3, *two)),
        "link": ("path_link", (3, size % 2, *one, 3, *two)),
        "symlink": ("path_symlink", (*one, 3, *two)),
        "mkdir": ("path_create_directory", (3, *one)),
        "rmdir": ("path_remove_directory", (3, *one)),
        "list": ("fd_readdir", (fd, BUFFER, size, target, RESULT)),
    }
    name, arguments = calls[kind]
    return machine(name, *arguments)


def empty(machine: Machine, base: bytes = b"") -> None:
    """Remove all that has a name, and no more: what a link points to has a name of its own."""
    listed = base or b"."
    machine.ok("path_open", 3, 0, *machine.put(PATH, listed), DIRECTORY, 1 << 14, 0, 0, RESULT)
    fd = machine.u32(RESULT)
    machine.ok("fd_readdir", fd, BUFFER, 2000, 2, RESULT)
    at, end, found = BUFFER, BUFFER + machine.u32(RESULT), []
    while at < end:
        _, _, length, kind = struct.unpack_from("<QQIB", machine.bytes, at)
        found.append((bytes(machine.bytes[at + 24 : at + 24 + length]), kind))
        at += 24 + length
    machine.ok("fd_close", fd)
    for name, kind in found:
        path = base + b"/" + name if base else name
        if kind == 3:
            empty(machine, path)
            machine.ok("path_remove_directory", 3, *machine.put(PATH, path))
        else:
            machine.ok("path_unlink_file", 3, *machine.put(PATH, path))


@given(st.lists(STEP, min_size=10, max_size=60))
def test_whatever_was_called_all_room_comes_back(
    calls: list[tuple[str, int, int, bytes, bytes, int]],
) -> None:
    machine = Machine(TASK)
    with contextlib.suppress(OutputLimit):
        for call in calls:
            # Descriptor 3 stays what it is, so that all can be found again at the end.
            if call[0] not in {"close", "renumber"} or 3 not in call[1:3]:
                step(machine, call)
    assert len(machine.system.output.stdout) + len(machine.system.output.stderr) <= 300
    for fd in range(DESCRIPTORS):
        if fd != 3:
            machine("fd_close", fd)
    empty(machine)
    fds = [machine.open(b"new", flags=CREAT) for _ in range(DESCRIPTORS - 1)]
    assert fds == [fd for fd in range(DESCRIPTORS) if fd != 3]
    assert machine("fd_filestat_set_size", 0, CAPACITY + 1) is Errno.NOSPC
    machine.ok("fd_filestat_set_size", 0, CAPACITY)
