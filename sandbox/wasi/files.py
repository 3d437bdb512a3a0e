"""A file system that lives in memory and ends with its task (spec/07 §7.3).

Names are bytes. There are no links of any kind, so a path means one thing, and nothing outside a
directory can be reached through it. Sizes and the number of nodes are bounded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fogbank.sandbox.wasi.abi import Errno, FileType, GuestError

NODES = 4096
"""The most files and directories."""
PATH_SIZE = 4096
NAME_SIZE = 255


@dataclass(slots=True, eq=False)
class File:
    """A regular file; its bytes last while it has a name or a descriptor (`users`)."""

    inode: int
    data: bytearray = field(default_factory=bytearray)
    users: int = 1
    kind: FileType = FileType.REGULAR_FILE


@dataclass(slots=True, eq=False)
class Directory:
    """A directory; `parent` is None for the root."""

    inode: int
    parent: "Directory | None" = None
    entries: "dict[bytes, Node]" = field(default_factory=dict)
    kind: FileType = FileType.DIRECTORY


Node = File | Directory


class FileSystem:
    """All files of one task. Every method raises `GuestError` with what WASI says."""

    def __init__(
        self,
        capacity: int,
        files: tuple[tuple[str, bytes], ...] = (),
        grown: Callable[[int], None] | None = None,
    ) -> None:
        """Make a file system that holds at most `capacity` bytes, beginning with `files`.

        `grown` is told by how many bytes files are about to grow from then on; it may raise.
        """
        self._grown: Callable[[int], None] | None = None
        self._capacity = capacity
        self._used = 0
        self._inodes = 1
        self._nodes = 1
        self.root = Directory(inode=1)
        for path, data in files:
            *folders, name = path.encode().split(b"/")
            directory = self.root
            for folder in folders:
                directory = self._folder(directory, folder)
            self.write(self._add_file(directory, name), 0, data)
        self._grown = grown

    def find(self, start: Directory, path: bytes) -> Node:
        """Return the node at `path` below `start`."""
        directory, name = self._walk(start, path)
        if name is None:
            return directory
        node = directory.entries.get(name)
        if node is None:
            raise GuestError(Errno.NOENT)
        return self._as_directory(node) if path.endswith(b"/") else node

    def create(self, start: Directory, path: bytes, *, exclusive: bool) -> File:
        """Return the file at `path`, made if it is missing."""
        directory, name = self._walk(start, path)
        if name is None or path.endswith(b"/"):
            raise GuestError(Errno.ISDIR)
        node = directory.entries.get(name)
        if node is None:
            return self._add_file(directory, name)
        if exclusive:
            raise GuestError(Errno.EXIST)
        if isinstance(node, Directory):
            raise GuestError(Errno.ISDIR)
        return node

    def make_directory(self, start: Directory, path: bytes) -> None:
        """Make an empty directory."""
        directory, name = self._walk(start, path)
        if name is None or name in directory.entries:
            raise GuestError(Errno.EXIST)
        self._folder(directory, name)

    def unlink(self, start: Directory, path: bytes) -> None:
        """Remove a file's name; who has it open still reads and writes it."""
        directory, name = self._walk(start, path)
        if name is None:
            raise GuestError(Errno.ISDIR)
        node = directory.entries.get(name)
        if node is None:
            raise GuestError(Errno.NOENT)
        if isinstance(node, Directory):
            raise GuestError(Errno.ISDIR)
        if path.endswith(b"/"):
            raise GuestError(Errno.NOTDIR)
        self._forget(directory, name)

    def remove_directory(self, start: Directory, path: bytes) -> None:
        """Remove an empty directory."""
        directory, name = self._walk(start, path)
        if name is None:
            raise GuestError(Errno.INVAL)
        node = directory.entries.get(name)
        if node is None:
            raise GuestError(Errno.NOENT)
        if self._as_directory(node).entries:
            raise GuestError(Errno.NOTEMPTY)
        self._forget(directory, name)

    def rename(self, source: Directory, old: bytes, target: Directory, new: bytes) -> None:
        """Give a node another name, in place of a file or an empty directory if there is one."""
        directory, name = self._walk(source, old)
        other, goal = self._walk(target, new)
        if name is None or goal is None:
            raise GuestError(Errno.INVAL)
        node = directory.entries.get(name)
        if node is None:
            raise GuestError(Errno.NOENT)
        there = other.entries.get(goal)
        if node is there:
            return
        if isinstance(node, Directory):
            self._check_move(node, other, there)
        elif isinstance(there, Directory):
            raise GuestError(Errno.ISDIR)
        elif old.endswith(b"/") or new.endswith(b"/"):
            raise GuestError(Errno.NOTDIR)
        if there is not None:
            self._forget(other, goal)
        del directory.entries[name]
        other.entries[goal] = node
        if isinstance(node, Directory):
            node.parent = other

    def write(self, file: File, offset: int, data: bytes) -> None:
        """Write `data` at `offset`, filling a gap with zeros."""
        if data:
            self._reserve(file, offset + len(data))
            file.data[offset : offset + len(data)] = data

    def resize(self, file: File, size: int) -> None:
        """Cut the file, or fill it up with zeros."""
        if size < len(file.data):
            self._used -= len(file.data) - size
            del file.data[size:]
        else:
            self._reserve(file, size)

    @staticmethod
    def hold(file: File) -> None:
        """Count a descriptor on `file`."""
        file.users += 1

    def release(self, file: File) -> None:
        """Undo one `hold`, or the file's name; the last one frees its bytes."""
        file.users -= 1
        if file.users == 0:
            self.resize(file, 0)

    @staticmethod
    def listing(directory: Directory) -> Iterator[tuple[bytes, Node]]:
        """Yield every entry with its name, "." and ".." first, in the order of creation."""
        yield b".", directory
        yield b"..", directory.parent or directory
        yield from directory.entries.items()

    def _reserve(self, file: File, size: int) -> None:
        more = size - len(file.data)
        if more > 0:
            if self._used + more > self._capacity:
                raise GuestError(Errno.NOSPC)
            if self._grown is not None:
                self._grown(more)
            self._used += more
            file.data.extend(bytes(more))

    def _walk(self, start: Directory, path: bytes) -> tuple[Directory, bytes | None]:
        """Return the directory that holds the last part of `path`, and that part's name.

        The name is None where the path ends in "." or ".." and so names the directory itself.
        """
        parts = _split(path)
        directory, depth = start, 0
        for index, part in enumerate(parts):
            if part == b"..":
                depth -= 1
                if depth < 0 or directory.parent is None:
                    raise GuestError(Errno.NOTCAPABLE)
                directory = directory.parent
            elif index == len(parts) - 1:
                return directory, part
            else:
                depth += 1
                node = directory.entries.get(part)
                if node is None:
                    raise GuestError(Errno.NOENT)
                directory = self._as_directory(node)
        return directory, None

    def _add_file(self, directory: Directory, name: bytes) -> File:
        file = File(inode=self._next_inode())
        directory.entries[name] = file
        return file

    def _folder(self, directory: Directory, name: bytes) -> Directory:
        node = directory.entries.get(name)
        if node is None:
            node = Directory(inode=self._next_inode(), parent=directory)
            directory.entries[name] = node
        return self._as_directory(node)

    def _next_inode(self) -> int:
        if self._nodes >= NODES:
            raise GuestError(Errno.NOSPC)
        self._nodes += 1
        self._inodes += 1
        return self._inodes

    def _forget(self, directory: Directory, name: bytes) -> None:
        node = directory.entries.pop(name)
        self._nodes -= 1
        if isinstance(node, Directory):
            node.parent = None
        else:
            self.release(node)

    @staticmethod
    def _check_move(node: Directory, into: Directory, there: Node | None) -> None:
        if isinstance(there, File):
            raise GuestError(Errno.NOTDIR)
        if there is not None and there.entries:
            raise GuestError(Errno.NOTEMPTY)
        above: Directory | None = into
        while above is not None:
            if above is node:
                raise GuestError(Errno.INVAL)
            above = above.parent

    @staticmethod
    def _as_directory(node: Node) -> Directory:
        if isinstance(node, File):
            raise GuestError(Errno.NOTDIR)
        return node


def _split(path: bytes) -> list[bytes]:
    """Take a relative path apart, dropping "." and empty parts."""
    if not path:
        raise GuestError(Errno.NOENT)
    if b"\0" in path:
        raise GuestError(Errno.INVAL)
    if path.startswith(b"/"):
        raise GuestError(Errno.NOTCAPABLE)
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if len(path) > PATH_SIZE or any(len(part) > NAME_SIZE for part in parts):
        raise GuestError(Errno.NAMETOOLONG)
    return parts
