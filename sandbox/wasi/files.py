"""A file system that lives in memory and ends with its task (spec/07 §7.3).

Names are bytes. A path is walked with the chain of directories that it went through: ".." goes
back along the chain, the parts of a symbolic link's path go on from where the link stands, and
nothing goes back beyond the directory that the walk began in. So no path leaves it, whatever
links there are. Sizes and the number of names are bounded.
"""

from collections.abc import Callable, Iterable

from fogbank.sandbox.data import Data, fill
from fogbank.sandbox.wasi.abi import (
    SET_ATIM,
    SET_ATIM_NOW,
    SET_MTIM,
    SET_MTIM_NOW,
    Errno,
    GuestError,
)
from fogbank.sandbox.wasi.clock import EPOCH
from fogbank.sandbox.wasi.nodes import (
    NAME_SIZE,
    PATH_SIZE,
    Directory,
    File,
    Link,
    Node,
    Place,
    as_directory,
    split,
)

__all__ = ["NAME_SIZE", "NODES", "PATH_SIZE", "Directory", "File", "FileSystem", "Link", "Node"]

NODES = 4096
"""The most names of files, directories and links, the root and /tmp not counted."""
LINKS = 40
"""The most symbolic links that one path goes through."""
TMP = b"tmp"
_PIECE = 1 << 20


class FileSystem:
    """All files of one task. Every method raises `GuestError` with what WASI says."""

    def __init__(
        self,
        capacity: int,
        moved: Callable[[int], None] = lambda _: None,
        now: Callable[[], int] = lambda: EPOCH,
    ) -> None:
        """Make a file system with nothing but /tmp, which holds at most `capacity` bytes.

        `moved` is told by how many bytes files are about to grow, and how many of links' paths
        are followed; it may raise. `now` is the time that nodes are marked with.
        """
        self._capacity = capacity
        self._moved = moved
        self._now = now
        self._used = 0
        self._inodes = 2
        self._nodes = 0
        self.root = Directory(1, EPOCH, EPOCH, EPOCH, names=1)
        self.root.attach(TMP, Directory(2, EPOCH, EPOCH, EPOCH, parent=self.root))

    def place(self, files: Iterable[tuple[str, Data]]) -> None:
        """Put a task's files there, as they stand when it begins: for no fuel, at its first time.

        Raises `GuestError` if they are more than a task's limits allow.
        """
        for path, data in files:
            *folders, name = path.encode().split(b"/")
            directory = self.root
            for folder in folders:
                if folder not in directory.entries:
                    self._count_name()
                    node = Directory(self._inode(), EPOCH, EPOCH, EPOCH, parent=directory)
                    directory.attach(folder, node)
                directory = as_directory(directory.entries[folder])
            if directory is self.root and name == TMP:
                self.root.detach(TMP)
            if name in directory.entries:
                raise GuestError(Errno.EXIST)
            self._count_name()
            self._take(len(data))
            file = File(self._inode(), EPOCH, EPOCH, EPOCH, data=fill(data))
            directory.attach(name, file)

    def resolve(self, start: Directory, path: bytes, *, follow: bool) -> Place:
        """Walk `path` from `start`; a link in its last part only if `follow`, or for a slash."""
        parts, slash = split(path)
        chain, links = [start], 0
        parts.reverse()
        while parts:
            part = parts.pop()
            directory = chain[-1]
            if part == b"..":
                if len(chain) == 1:
                    raise GuestError(Errno.NOTCAPABLE)
                chain.pop()
                continue
            node = directory.entries.get(part)
            if isinstance(node, Link) and (parts or follow or slash):
                links += 1
                if links > LINKS:
                    raise GuestError(Errno.LOOP)
                self._moved(len(node.target))
                more, ends = split(node.target)
                slash = slash or (ends and not parts)
                parts.extend(reversed(more))
            elif parts:
                chain.append(as_directory(node))
            else:
                return Place(directory, part, node, slash)
        return Place(chain[-1], None, chain[-1], slash)

    def find(self, start: Directory, path: bytes, *, follow: bool = True) -> Node:
        """Return the node at `path` below `start`."""
        place = self.resolve(start, path, follow=follow)
        if place.node is None:
            raise GuestError(Errno.NOENT)
        return as_directory(place.node) if place.slash else place.node

    def create(
        self, start: Directory, path: bytes, *, exclusive: bool, follow: bool = True
    ) -> Node:
        """Return the file at `path`, made if it is missing; a link there if it is not followed."""
        place = self.resolve(start, path, follow=follow and not exclusive)
        if exclusive and place.node is not None:
            raise GuestError(Errno.EXIST)
        if place.slash or isinstance(place.node, Directory):
            raise GuestError(Errno.ISDIR)
        if place.node is not None:
            return place.node
        now = self._now()
        return self._add(place, File(self._inode(), now, now, now))

    def make_directory(self, start: Directory, path: bytes) -> None:
        """Make an empty directory."""
        place = self._named(start, path)
        now = self._now()
        self._add(place, Directory(self._inode(), now, now, now, parent=place.directory))

    def make_link(self, target: bytes, start: Directory, path: bytes) -> None:
        """Make a symbolic link, whose path is relative. Its bytes count as a file's do."""
        split(target)
        place = self._free(start, path)
        self._take(len(target))
        now = self._now()
        try:
            self._add(place, Link(self._inode(), now, now, now, target=target))
        except GuestError:
            self._used -= len(target)
            raise

    def link(
        self, source: Directory, old: bytes, target: Directory, new: bytes, *, follow: bool
    ) -> None:
        """Give a file or symbolic link one more name."""
        place = self.resolve(source, old, follow=follow)
        if place.node is None:
            raise GuestError(Errno.NOENT)
        if isinstance(place.node, Directory):
            raise GuestError(Errno.PERM)
        if place.slash:
            raise GuestError(Errno.NOTDIR)
        self._add(self._free(target, new), place.node)
        place.node.changed = self._now()

    def readlink(self, start: Directory, path: bytes) -> bytes:
        """Return a symbolic link's path."""
        node = self.find(start, path, follow=False)
        if not isinstance(node, Link):
            raise GuestError(Errno.INVAL)
        return node.target

    def unlink(self, start: Directory, path: bytes) -> None:
        """Remove the name of a file or link; who has it open still reads and writes it."""
        place = self._named(start, path)
        if place.node is None:
            raise GuestError(Errno.NOENT)
        if isinstance(place.node, Directory):
            raise GuestError(Errno.ISDIR)
        if path.endswith(b"/"):
            raise GuestError(Errno.NOTDIR)
        self._forget(place)

    def remove_directory(self, start: Directory, path: bytes) -> None:
        """Remove an empty directory."""
        place = self._named(start, path)
        if place.name is None:
            raise GuestError(Errno.INVAL)
        if as_directory(place.node).entries:
            raise GuestError(Errno.NOTEMPTY)
        self._forget(place)

    def rename(self, source: Directory, old: bytes, target: Directory, new: bytes) -> None:
        """Give a node another name, in place of a file or an empty directory if there is one."""
        place = self._named(source, old)
        goal = self._named(target, new)
        if place.name is None or goal.name is None:
            raise GuestError(Errno.INVAL)
        node = place.node
        if node is None or goal.directory.removed:
            raise GuestError(Errno.NOENT)
        if node is goal.node:
            return
        if isinstance(node, Directory):
            self._check_move(node, goal)
        elif isinstance(goal.node, Directory):
            raise GuestError(Errno.ISDIR)
        elif old.endswith(b"/") or new.endswith(b"/"):
            raise GuestError(Errno.NOTDIR)
        if goal.node is not None:
            self._forget(goal)
        now = self._now()
        place.directory.detach(place.name)
        goal.directory.attach(goal.name, node)
        place.directory.modified = goal.directory.modified = node.changed = now
        if isinstance(node, Directory):
            node.parent = goal.directory

    def write(self, file: File, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`, filling a gap with zeros."""
        if data:
            size, end = len(file.data), offset + len(data)
            if end > size:
                self._grow(end - size)
                _lengthen(file.data, offset)
            inside = len(file.data) - offset
            if inside:
                # A slice of the bytearray itself would make a copy of the data first.
                memoryview(file.data)[offset:end] = data[:inside]
            file.data += data[inside:]
            file.modified = file.changed = self._now()

    def resize(self, file: File, size: int) -> None:
        """Cut the file, or fill it up with zeros."""
        if size < len(file.data):
            self._used -= len(file.data) - size
            del file.data[size:]
        else:
            self._grow(size - len(file.data))
            _lengthen(file.data, size)
        file.modified = file.changed = self._now()

    def set_times(self, node: Node, accessed: int, modified: int, flags: int) -> None:
        """Set a node's times, in nanoseconds, as `flags` say."""
        both = ((SET_ATIM | SET_ATIM_NOW), (SET_MTIM | SET_MTIM_NOW))
        if flags & ~(both[0] | both[1]) or any(flags & pair == pair for pair in both):
            raise GuestError(Errno.INVAL)
        now = self._now()
        if flags & both[0]:
            node.accessed = accessed if flags & SET_ATIM else now
        if flags & both[1]:
            node.modified = modified if flags & SET_MTIM else now
        node.changed = now

    @staticmethod
    def hold(file: File) -> None:
        """Count a descriptor on `file`."""
        file.users += 1

    def release(self, file: File) -> None:
        """Undo one `hold`; the last user or name frees the bytes."""
        file.users -= 1
        self._free_bytes(file)

    def _named(self, start: Directory, path: bytes) -> Place:
        """Return the place of the name itself that a path ends in, whatever slashes follow it."""
        place = self.resolve(start, path.rstrip(b"/") or path, follow=False)
        if place.slash:
            return Place(place.directory, None, as_directory(place.node), slash=True)
        return place

    def _free(self, start: Directory, path: bytes) -> Place:
        """Return the place of a new link, which is no directory."""
        place = self._named(start, path)
        if path.endswith(b"/"):
            as_directory(place.node)
        return place

    def _add(self, place: Place, node: Node) -> Node:
        if place.name is None or place.node is not None:
            raise GuestError(Errno.EXIST)
        if place.directory.removed:
            raise GuestError(Errno.NOENT)
        self._count_name()
        place.directory.attach(place.name, node)
        place.directory.modified = place.directory.changed = self._now()
        return node

    def _forget(self, place: Place) -> None:
        if place.name is None:
            raise GuestError(Errno.INVAL)
        node = place.directory.detach(place.name)
        self._nodes -= 1
        now = self._now()
        place.directory.modified = place.directory.changed = node.changed = now
        if isinstance(node, Directory):
            node.parent, node.removed = None, True
        elif isinstance(node, File):
            self._free_bytes(node)
        elif isinstance(node, Link) and not node.names:
            self._used -= len(node.target)

    def _free_bytes(self, file: File) -> None:
        if not file.names and not file.users:
            self._used -= len(file.data)
            file.data = bytearray()

    def _grow(self, more: int) -> None:
        if self._used + more > self._capacity:
            raise GuestError(Errno.NOSPC)
        self._moved(more)
        self._used += more

    def _take(self, size: int) -> None:
        if self._used + size > self._capacity:
            raise GuestError(Errno.NOSPC)
        self._used += size

    def _count_name(self) -> None:
        if self._nodes >= NODES:
            raise GuestError(Errno.NOSPC)
        self._nodes += 1

    def _inode(self) -> int:
        self._inodes += 1
        return self._inodes

    @staticmethod
    def _check_move(node: Directory, goal: Place) -> None:
        if goal.node is not None and as_directory(goal.node).entries:
            raise GuestError(Errno.NOTEMPTY)
        above: Directory | None = goal.directory
        while above is not None:
            if above is node:
                raise GuestError(Errno.INVAL)
            above = above.parent


def _lengthen(data: bytearray, size: int) -> None:
    """Append zeros, in pieces: nothing needs twice their memory."""
    while len(data) < size:
        data += bytes(min(size - len(data), _PIECE))
