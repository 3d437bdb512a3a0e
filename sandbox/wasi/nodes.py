"""What a file system holds: files, directories, symbolic links; and how a path is taken apart."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from fogbank.sandbox.wasi.abi import Errno, FileType, GuestError

PATH_SIZE = 4096
NAME_SIZE = 255
_EMPTY = frozenset({b"", b"."})
_FIRST_COOKIE = 3
"""The cookies 1 and 2 are those of "." and ".."."""


@dataclass(slots=True, eq=False)
class Node:
    """What all nodes have in common. `names`: in how many places it stands; times: nanoseconds."""

    inode: int
    accessed: int
    modified: int
    changed: int
    names: int = 0
    kind: ClassVar[FileType]


@dataclass(slots=True, eq=False)
class File(Node):
    """A regular file; its bytes last while it has a name or a descriptor (`users`)."""

    data: bytearray = field(default_factory=bytearray)
    users: int = 0
    kind: ClassVar[FileType] = FileType.REGULAR_FILE


@dataclass(slots=True, eq=False)
class Link(Node):
    """A symbolic link: a path, from the directory that the link stands in."""

    target: bytes = b""
    kind: ClassVar[FileType] = FileType.SYMBOLIC_LINK


@dataclass(slots=True, eq=False)
class Directory(Node):
    """A directory; `parent` is None for the root and for what was removed.

    `cookies` has the same keys in the same order as `entries`. A cookie is never used again, so
    that a listing goes on where it stood, whatever was made or removed meanwhile.
    """

    parent: "Directory | None" = None
    entries: dict[bytes, Node] = field(default_factory=dict)
    cookies: dict[bytes, int] = field(default_factory=dict)
    next_cookie: int = _FIRST_COOKIE
    removed: bool = False
    kind: ClassVar[FileType] = FileType.DIRECTORY

    def attach(self, name: bytes, node: Node) -> None:
        """Put `node` here under a name that is free."""
        self.entries[name] = node
        self.cookies[name] = self.next_cookie
        self.next_cookie += 1
        node.names += 1

    def detach(self, name: bytes) -> Node:
        """Take the node of that name away."""
        del self.cookies[name]
        node = self.entries.pop(name)
        node.names -= 1
        return node

    def listing(self, cookie: int = 0) -> Iterator[tuple[int, bytes, Node]]:
        """Yield cookie, name and node of every entry after `cookie`, in the order of creation."""
        if cookie < 1:
            yield 1, b".", self
        if cookie < _FIRST_COOKIE - 1:
            yield 2, b"..", self.parent or self
        for (name, at), node in zip(self.cookies.items(), self.entries.values(), strict=True):
            if at > cookie:
                yield at, name, node


class Place(NamedTuple):
    """Where a path leads: to `name` in `directory`, and what stands there.

    `name` is None where the path ends in "." or ".." and so names the directory itself, which is
    then the node too. `slash`: the path says that it names a directory.
    """

    directory: Directory
    name: bytes | None
    node: Node | None
    slash: bool


def split(path: bytes) -> tuple[list[bytes], bool]:
    """Take a relative path apart, without "." and empty parts; and say whether it ended in one."""
    if not path:
        raise GuestError(Errno.NOENT)
    if path.isalnum() and len(path) <= NAME_SIZE:
        return [path], False
    if b"\0" in path:
        raise GuestError(Errno.INVAL)
    if path.startswith(b"/"):
        raise GuestError(Errno.NOTCAPABLE)
    if len(path) > PATH_SIZE:
        raise GuestError(Errno.NAMETOOLONG)
    raw = path.split(b"/")
    parts = [part for part in raw if part not in _EMPTY]
    if parts and len(max(parts, key=len)) > NAME_SIZE:
        raise GuestError(Errno.NAMETOOLONG)
    return parts, raw[-1] in _EMPTY


def as_directory(node: Node | None) -> Directory:
    """Return a node that must be a directory."""
    if node is None:
        raise GuestError(Errno.NOENT)
    if not isinstance(node, Directory):
        raise GuestError(Errno.NOTDIR)
    return node
