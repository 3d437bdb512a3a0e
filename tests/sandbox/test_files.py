"""The in-memory file system (spec/07 §7.3)."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.wasi.abi import Errno, GuestError
from fogbank.sandbox.wasi.files import NODES, Directory, File, FileSystem


def make(capacity: int = 1000) -> FileSystem:
    return FileSystem(capacity, (("top", b"0123456789"), ("a/b/deep", b"xyz")))


def failing(errno: Errno) -> "pytest.RaisesExc[GuestError]":
    return pytest.RaisesExc(GuestError, check=lambda error: error.errno is errno)


def read(files: FileSystem, path: bytes) -> bytes:
    node = files.find(files.root, path)
    assert isinstance(node, File)
    return bytes(node.data)


def test_the_tasks_files_are_there() -> None:
    files = make()
    assert read(files, b"top") == b"0123456789"
    assert read(files, b"a/b/../b/./deep") == b"xyz"
    assert isinstance(files.find(files.root, b"a/b/"), Directory)
    assert files.find(files.root, b".") is files.root


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        (b"", Errno.NOENT),
        (b"none", Errno.NOENT),
        (b"none/x", Errno.NOENT),
        (b"top/x", Errno.NOTDIR),
        (b"top/", Errno.NOTDIR),
        (b"..", Errno.NOTCAPABLE),
        (b"a/../../top", Errno.NOTCAPABLE),
        (b"/top", Errno.NOTCAPABLE),
        (b"to\0p", Errno.INVAL),
        (b"x" * 256, Errno.NAMETOOLONG),
        (b"a/" * 3000, Errno.NAMETOOLONG),
    ],
)
def test_paths_that_lead_nowhere(path: bytes, errno: Errno) -> None:
    files = make()
    with failing(errno):
        files.find(files.root, path)


def test_an_open_directory_is_a_root_of_its_own() -> None:
    files = make()
    inner = files.find(files.root, b"a/b")
    assert isinstance(inner, Directory)
    assert isinstance(files.find(inner, b"deep"), File)
    with failing(Errno.NOTCAPABLE):
        files.find(inner, b"../b/deep")


def test_capacity_counts_every_byte_and_comes_back() -> None:
    files = make(100)
    top = files.find(files.root, b"top")
    assert isinstance(top, File)
    files.write(top, 0, b"ab")
    files.write(top, 90, b"1234567")
    assert bytes(top.data[:12]) == b"ab23456789\0\0"
    with failing(Errno.NOSPC):
        files.write(top, 97, b"x")
    with failing(Errno.NOSPC):
        files.resize(top, 1 << 62)
    files.unlink(files.root, b"top")
    fresh = files.create(files.root, b"fresh", exclusive=True)
    files.write(fresh, 0, bytes(97))
    with failing(Errno.NOSPC):
        files.write(fresh, 97, b"x")


def test_an_open_file_outlives_its_name_and_keeps_its_bytes_counted() -> None:
    files = make(13)
    top = files.find(files.root, b"top")
    assert isinstance(top, File)
    files.hold(top)
    files.unlink(files.root, b"top")
    assert top.data == b"0123456789"
    other = files.create(files.root, b"other", exclusive=False)
    with failing(Errno.NOSPC):
        files.write(other, 0, b"x")
    files.release(top)
    files.write(other, 0, bytes(10))


def test_the_number_of_nodes_is_bounded() -> None:
    files = FileSystem(10)
    for number in range(NODES - 1):
        files.make_directory(files.root, b"%d" % number)
    with failing(Errno.NOSPC):
        files.make_directory(files.root, b"more")
    with failing(Errno.NOSPC):
        files.create(files.root, b"more", exclusive=False)
    files.remove_directory(files.root, b"0")
    files.create(files.root, b"more", exclusive=False)


def test_creating_and_removing() -> None:
    files = make()
    with failing(Errno.EXIST):
        files.create(files.root, b"top", exclusive=True)
    with failing(Errno.ISDIR):
        files.create(files.root, b"a", exclusive=False)
    with failing(Errno.ISDIR):
        files.create(files.root, b"new/", exclusive=False)
    with failing(Errno.EXIST):
        files.make_directory(files.root, b"a")
    with failing(Errno.EXIST):
        files.make_directory(files.root, b".")
    with failing(Errno.ISDIR):
        files.unlink(files.root, b"a")
    with failing(Errno.NOTDIR):
        files.unlink(files.root, b"top/")
    with failing(Errno.NOENT):
        files.unlink(files.root, b"none")
    with failing(Errno.NOTEMPTY):
        files.remove_directory(files.root, b"a")
    with failing(Errno.NOTDIR):
        files.remove_directory(files.root, b"top")
    with failing(Errno.INVAL):
        files.remove_directory(files.root, b"a/..")
    files.unlink(files.root, b"a/b/deep")
    files.remove_directory(files.root, b"a/b")
    files.remove_directory(files.root, b"a")
    assert [name for name, _ in files.listing(files.root)] == [b".", b"..", b"top"]


def test_renaming() -> None:
    files = make()
    root = files.root
    files.make_directory(root, b"empty")
    files.rename(root, b"top", root, b"a/moved")
    assert read(files, b"a/moved") == b"0123456789"
    files.rename(root, b"a/moved", root, b"a/b/deep")
    assert read(files, b"a/b/deep") == b"0123456789"
    files.rename(root, b"a/b", root, b"empty")
    assert read(files, b"empty/deep") == b"0123456789"
    files.rename(root, b"a", root, b"a")
    for old, new, errno in (
        (b"none", b"x", Errno.NOENT),
        (b"empty", b"empty/inside", Errno.INVAL),
        (b"empty/deep", b"a", Errno.ISDIR),
        (b"a", b"empty/deep", Errno.NOTDIR),
        (b"a", b"empty", Errno.NOTEMPTY),
        (b"empty/deep", b"x/", Errno.NOTDIR),
        (b".", b"x", Errno.INVAL),
    ):
        with failing(errno):
            files.rename(root, old, root, new)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["find", "create", "mkdir", "unlink", "rmdir", "rename", "write"]),
            st.sampled_from([b"a", b"a/b", b"a/b/c", b"../a", b"d", b"./d/", b"a/..", b"."]),
            st.sampled_from([b"a", b"a/b", b"d", b"e/f", b"a/b/c"]),
            st.integers(0, 60),
        ),
        max_size=40,
    )
)
def test_no_sequence_of_calls_escapes_or_outgrows(
    steps: list[tuple[str, bytes, bytes, int]],
) -> None:
    files = FileSystem(50)
    for kind, path, other, size in steps:
        with contextlib.suppress(GuestError):
            act(files, kind, path, other, size)
        sizes, nodes, pending = 0, 0, [files.root]
        while pending:
            for name, node in list(files.listing(pending.pop()))[2:]:
                assert b"/" not in name
                nodes += 1
                if isinstance(node, File):
                    sizes += len(node.data)
                else:
                    pending.append(node)
        assert sizes <= 50
        assert nodes <= len(steps) + 1


def act(files: FileSystem, kind: str, path: bytes, other: bytes, size: int) -> None:
    root = files.root
    actions: dict[str, Callable[[], object]] = {
        "find": lambda: files.find(root, path),
        "create": lambda: files.create(root, path, exclusive=bool(size % 2)),
        "mkdir": lambda: files.make_directory(root, path),
        "unlink": lambda: files.unlink(root, path),
        "rmdir": lambda: files.remove_directory(root, path),
        "rename": lambda: files.rename(root, path, root, other),
        "write": lambda: files.write(files.create(root, path, exclusive=False), size, b"x" * size),
    }
    actions[kind]()
