"""The in-memory file system (spec/07 §7.3)."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.wasi.abi import Errno, GuestError
from fogbank.sandbox.wasi.clock import EPOCH
from fogbank.sandbox.wasi.files import NODES, Directory, File, FileSystem, Link, Node


def make(capacity: int = 1000) -> FileSystem:
    files = FileSystem(capacity)
    files.place((("top", b"0123456789"), ("a/b/deep", b"xyz")))
    return files


def failing(errno: Errno) -> "pytest.RaisesExc[GuestError]":
    return pytest.RaisesExc(GuestError, check=lambda error: error.errno is errno)


def read(files: FileSystem, path: bytes) -> bytes:
    node = files.find(files.root, path)
    assert isinstance(node, File)
    return bytes(node.data)


def names(directory: Directory) -> list[bytes]:
    return [name for _, name, _ in directory.listing()]


def opened(files: FileSystem, path: bytes) -> File:
    node = files.find(files.root, path)
    assert isinstance(node, File)
    return node


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
    files.create(files.root, b"fresh", exclusive=True)
    fresh = opened(files, b"fresh")
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
    files.create(files.root, b"other", exclusive=False)
    other = opened(files, b"other")
    with failing(Errno.NOSPC):
        files.write(other, 0, b"x")
    files.release(top)
    files.write(other, 0, bytes(10))


def test_the_number_of_nodes_is_bounded() -> None:
    files = FileSystem(10)
    for number in range(NODES):
        files.make_directory(files.root, b"%d" % number)
    with failing(Errno.NOSPC):
        files.make_directory(files.root, b"more")
    with failing(Errno.NOSPC):
        files.create(files.root, b"more", exclusive=False)
    files.remove_directory(files.root, b"0")
    files.create(files.root, b"more", exclusive=False)
    with failing(Errno.NOSPC):
        files.link(files.root, b"more", files.root, b"less", follow=False)
    with failing(Errno.NOSPC):
        files.make_link(b"more", files.root, b"less")


def test_tmp_is_there_unless_the_task_has_a_file_of_that_name() -> None:
    files = make()
    assert isinstance(files.find(files.root, b"tmp"), Directory)
    files.place((("tmp", b"file"),))
    assert read(files, b"tmp") == b"file"
    with failing(Errno.EXIST):
        files.place((("top", b"again"),))
    with failing(Errno.NOSPC):
        files.place((("big", bytes(1001)),))


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
    assert names(files.root) == [b".", b"..", b"tmp", b"top"]


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


def test_a_listing_goes_on_where_it_stood() -> None:
    files = FileSystem(10)
    for name in (b"a", b"b", b"c", b"d"):
        files.make_directory(files.root, name)
    cookies = {name: cookie for cookie, name, _ in files.root.listing()}
    files.remove_directory(files.root, b"a")
    files.remove_directory(files.root, b"c")
    files.make_directory(files.root, b"e")
    files.make_directory(files.root, b"a")
    after = [name for _, name, _ in files.root.listing(cookies[b"b"])]
    assert after == [b"d", b"e", b"a"]
    assert [name for _, name, _ in files.root.listing(1)] == [b"..", b"tmp", b"b", *after]


def test_what_was_removed_takes_nothing_in() -> None:
    files = make()
    files.make_directory(files.root, b"gone")
    gone = files.find(files.root, b"gone")
    assert isinstance(gone, Directory)
    files.remove_directory(files.root, b"gone")
    with failing(Errno.NOENT):
        files.create(gone, b"x", exclusive=False)
    with failing(Errno.NOENT):
        files.rename(files.root, b"top", gone, b"x")
    with failing(Errno.NOENT):
        files.link(files.root, b"top", gone, b"x", follow=False)
    with failing(Errno.NOTCAPABLE):
        files.find(gone, b"..")
    assert names(gone) == [b".", b".."]


def test_hard_links_are_one_file_with_several_names() -> None:
    files = make(20)
    files.link(files.root, b"top", files.root, b"a/again", follow=False)
    top = opened(files, b"top")
    assert opened(files, b"a/again") is top
    assert top.names == 2
    files.rename(files.root, b"top", files.root, b"a/again")
    assert read(files, b"top") == b"0123456789"
    files.unlink(files.root, b"top")
    files.create(files.root, b"other", exclusive=False)
    with failing(Errno.NOSPC):
        files.write(opened(files, b"other"), 0, bytes(8))
    files.unlink(files.root, b"a/again")
    files.write(opened(files, b"other"), 0, bytes(17))
    for old, new, errno in (
        (b"none", b"x", Errno.NOENT),
        (b"a", b"x", Errno.PERM),
        (b"other/", b"x", Errno.NOTDIR),
        (b"other", b"a", Errno.EXIST),
        (b"other", b"other", Errno.EXIST),
        (b"other", b"x/", Errno.NOENT),
        (b"other", b"other/", Errno.NOTDIR),
    ):
        with failing(errno):
            files.link(files.root, old, files.root, new, follow=False)


def test_symbolic_links_are_followed_from_where_they_stand() -> None:
    files = make()
    root = files.root
    files.make_link(b"b/../b/deep", root, b"a/to_file")
    files.make_link(b"a/./b/", root, b"to_directory")
    assert read(files, b"a/to_file") == b"xyz"
    assert read(files, b"to_directory/deep") == b"xyz"
    assert read(files, b"to_directory/../to_file") == b"xyz"
    assert isinstance(files.find(root, b"to_directory", follow=False), Link)
    assert isinstance(files.find(root, b"to_directory/", follow=False), Directory)
    assert files.readlink(root, b"to_directory") == b"a/./b/"
    files.make_link(b"top/", root, b"to_no_directory")
    with failing(Errno.NOTDIR):
        files.find(root, b"to_no_directory")
    with failing(Errno.INVAL):
        files.readlink(root, b"top")
    with failing(Errno.NOTDIR):
        files.find(root, b"a/to_file/")
    with failing(Errno.NOTDIR):
        files.remove_directory(root, b"to_directory")
    with failing(Errno.NOTDIR):
        files.unlink(root, b"to_directory/")
    files.link(root, b"to_directory", root, b"both", follow=False)
    assert files.readlink(root, b"both") == b"a/./b/"
    files.link(root, b"a/to_file", root, b"hard", follow=True)
    assert read(files, b"hard") == b"xyz"
    files.rename(root, b"to_directory", root, b"top")
    assert files.readlink(root, b"top") == b"a/./b/"
    with failing(Errno.INVAL):
        files.remove_directory(root, b"top/.")
    with failing(Errno.ISDIR):
        files.unlink(root, b"top/.")
    files.unlink(root, b"top")
    assert read(files, b"both/deep") == b"xyz"


def test_a_link_of_several_names_counts_once() -> None:
    files = FileSystem(10)
    files.make_link(b"12345678", files.root, b"l")
    files.link(files.root, b"l", files.root, b"m", follow=False)
    files.unlink(files.root, b"l")
    files.create(files.root, b"file", exclusive=True)
    with failing(Errno.NOSPC):
        files.resize(opened(files, b"file"), 3)
    files.unlink(files.root, b"m")
    files.resize(opened(files, b"file"), 10)
    with failing(Errno.NOSPC):
        files.resize(opened(files, b"file"), 11)


def test_links_that_lead_nowhere() -> None:
    files = make()
    root = files.root
    files.make_link(b"fresh", root, b"dangling")
    files.make_link(b"loop", root, b"loop")
    files.make_link(b"../top", root, b"a/up")
    files.make_link(b"../../top", root, b"a/too_far")
    with failing(Errno.NOENT):
        files.find(root, b"dangling")
    with failing(Errno.LOOP):
        files.find(root, b"loop")
    with failing(Errno.LOOP):
        files.find(root, b"loop/x")
    assert read(files, b"a/up") == b"0123456789"
    with failing(Errno.NOTCAPABLE):
        files.find(root, b"a/too_far")
    inner = files.find(root, b"a")
    assert isinstance(inner, Directory)
    with failing(Errno.NOTCAPABLE):
        files.find(inner, b"up")
    with failing(Errno.EXIST):
        files.create(root, b"dangling", exclusive=True)
    assert isinstance(files.create(root, b"dangling", exclusive=False, follow=False), Link)
    files.create(root, b"dangling", exclusive=False)
    assert read(files, b"fresh") == b""
    for target, path, errno in (
        (b"", b"x", Errno.NOENT),
        (b"/", b"x", Errno.NOTCAPABLE),
        (b"/top", b"x", Errno.NOTCAPABLE),
        (b"a\0", b"x", Errno.INVAL),
        (b"x" * 5000, b"x", Errno.NAMETOOLONG),
        (b"y", b"top", Errno.EXIST),
        (b"y", b"top/", Errno.NOTDIR),
        (b"y", b"x/", Errno.NOENT),
    ):
        with failing(errno):
            files.make_link(target, root, path)


def test_chains_of_links_are_bounded_and_their_bytes_counted() -> None:
    moved: list[int] = []
    files = FileSystem(1000, moved.append)
    files.create(files.root, b"l0", exclusive=True)
    for number in range(41):
        files.make_link(b"l%d" % number, files.root, b"l%d" % (number + 1))
    assert files.find(files.root, b"l40") is files.find(files.root, b"l0")
    assert sum(moved) == sum(len(b"l%d" % number) for number in range(40))
    with failing(Errno.LOOP):
        files.find(files.root, b"l41")
    with failing(Errno.NOSPC):
        files.make_link(b"/".join([b"x" * 250] * 4), files.root, b"big")


def test_times_are_those_of_the_tasks_clock() -> None:
    clock = [EPOCH + 5]
    files = FileSystem(1000, now=lambda: clock[0])
    files.place((("top", b"x"),))
    top = opened(files, b"top")
    assert (top.accessed, top.modified, top.changed) == (EPOCH, EPOCH, EPOCH)
    files.write(top, 0, b"y")
    assert (top.accessed, top.modified, top.changed) == (EPOCH, EPOCH + 5, EPOCH + 5)
    clock[0] = EPOCH + 9
    files.set_times(top, 1, 2, 1 | 4)
    assert (top.accessed, top.modified, top.changed) == (1, 2, EPOCH + 9)
    files.set_times(top, 1, 2, 2 | 8)
    assert (top.accessed, top.modified) == (EPOCH + 9, EPOCH + 9)
    files.set_times(top, 1, 2, 4)
    assert (top.accessed, top.modified) == (EPOCH + 9, 2)
    for flags in (1 | 2, 4 | 8, 16):
        with failing(Errno.INVAL):
            files.set_times(top, 0, 0, flags)
    clock[0] = EPOCH + 11
    files.unlink(files.root, b"top")
    assert files.root.modified == EPOCH + 11


PATHS = [b"a", b"a/b", b"a/b/c", b"d", b"./d/", b"a/..", b".", b"..", b"../secret", b"l", b"l/x"]
TARGETS = [b"a", b"l", b"../l", b"..", b"../..", b"../secret", b"b/../..", b"d/", b"a/l"]
ACTIONS = [
    "find", "stat", "create", "mkdir", "unlink", "rmdir", "rename", "write", "cut", "link",
    "symlink", "hold", "release", "times",
]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTIONS),
            st.sampled_from(PATHS),
            st.sampled_from(PATHS),
            st.sampled_from(TARGETS),
            st.integers(0, 60),
        ),
        max_size=40,
    )
)
def test_no_sequence_of_calls_escapes_or_outgrows(
    steps: list[tuple[str, bytes, bytes, bytes, int]],
) -> None:
    capacity = 50
    files = FileSystem(capacity)
    files.place((("secret", b"own"), ("inner/file", b"1")))
    inner = files.find(files.root, b"inner")
    assert isinstance(inner, Directory)
    held: list[File] = []
    for step in steps:
        found = None
        with contextlib.suppress(GuestError):
            found = act(files, inner, held, step)
        nodes, entries = everything(inner)
        # Whatever a path leads to lies below the directory that it started from.
        assert found is None or found in nodes
        assert names(files.root) == [b".", b"..", b"tmp", b"secret", b"inner"]
        assert read(files, b"secret") == b"own"
        assert opened(files, b"secret").names == 1
        for node in nodes:
            assert node.names == entries.count(node) or node is inner
        # What is used is what has a name or is open, and all the rest can be had.
        kept = nodes | set(held)
        used = sum(size(node) for node in kept) + len(b"own")
        assert used <= capacity
        check_room(files, capacity - used)


def act(
    files: FileSystem,
    inner: Directory,
    held: list[File],
    step: tuple[str, bytes, bytes, bytes, int],
) -> Node | None:
    kind, path, other, target, number = step
    found: Node | None = None
    if kind in {"find", "stat"}:
        found = files.find(inner, path, follow=kind == "find")
    elif kind in {"create", "write", "cut", "hold"}:
        exclusive = bool(number % 2) and kind == "create"
        found = files.create(inner, path, exclusive=exclusive, follow=bool(number % 3))
        if isinstance(found, File) and kind == "write":
            files.write(found, number, b"x" * number)
        elif isinstance(found, File) and kind == "cut":
            files.resize(found, number)
        elif isinstance(found, File) and kind == "hold":
            files.hold(found)
            held.append(found)
    elif kind == "release" and held:
        files.release(held.pop(number % len(held)))
    elif kind == "times":
        files.set_times(files.find(inner, path), number, number, number % 16)
    changes: dict[str, Callable[[], None]] = {
        "mkdir": lambda: files.make_directory(inner, path),
        "unlink": lambda: files.unlink(inner, path),
        "rmdir": lambda: files.remove_directory(inner, path),
        "rename": lambda: files.rename(inner, path, inner, other),
        "link": lambda: files.link(inner, path, inner, other, follow=bool(number % 2)),
        "symlink": lambda: files.make_link(target, inner, path),
    }
    if kind in changes:
        changes[kind]()
    return found


def everything(start: Directory) -> tuple[set[Node], list[Node]]:
    """All nodes from `start` down, it included, and the node of each entry."""
    nodes: set[Node] = {start}
    entries: list[Node] = []
    pending = [start]
    while pending:
        for name, node in pending.pop().entries.items():
            assert b"/" not in name
            assert name not in {b"", b".", b".."}
            entries.append(node)
            if isinstance(node, Directory):
                pending.append(node)
            nodes.add(node)
    return nodes, entries


def size(node: Node) -> int:
    if isinstance(node, File):
        return len(node.data)
    return len(node.target) if isinstance(node, Link) else 0


def check_room(files: FileSystem, room: int) -> None:
    files.create(files.root, b"probe", exclusive=True)
    probe = opened(files, b"probe")
    with failing(Errno.NOSPC):
        files.resize(probe, room + 1)
    files.resize(probe, room)
    files.unlink(files.root, b"probe")
