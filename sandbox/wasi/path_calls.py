"""Calls on paths below an open directory."""

from fogbank.sandbox.wasi.abi import (
    FD_FLAGS,
    LOOKUP_FOLLOW,
    OPEN_CREAT,
    OPEN_DIRECTORY,
    OPEN_EXCL,
    OPEN_FLAGS,
    OPEN_TRUNC,
    RIGHT_CREATE_DIRECTORY,
    RIGHT_CREATE_FILE,
    RIGHT_LINK_SOURCE,
    RIGHT_LINK_TARGET,
    RIGHT_OPEN,
    RIGHT_PATH_SET_SIZE,
    RIGHT_PATH_SET_TIMES,
    RIGHT_PATH_STAT,
    RIGHT_READLINK,
    RIGHT_REMOVE_DIRECTORY,
    RIGHT_RENAME_SOURCE,
    RIGHT_RENAME_TARGET,
    RIGHT_SYMLINK,
    RIGHT_UNLINK,
    RIGHT_WRITE,
    RIGHTS_DIRECTORY,
    RIGHTS_FILE,
    Errno,
    GuestError,
)
from fogbank.sandbox.wasi.descriptors import Descriptors, OpenDirectory, OpenFile
from fogbank.sandbox.wasi.fd_calls import filestat
from fogbank.sandbox.wasi.files import Directory, File, FileSystem, Node
from fogbank.sandbox.wasi.memory import GuestMemory

_LONGEST = 1 << 16


class PathCalls:
    """The calls of this module, as methods named like them."""

    def __init__(self, memory: GuestMemory, descriptors: Descriptors, files: FileSystem) -> None:
        self._memory = memory
        self._descriptors = descriptors
        self._files = files

    def path_open(  # noqa: PLR0913, PLR0917 -- preview 1 has it so
        self,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        open_flags: int,
        rights: int,
        inheriting: int,
        flags: int,
        result: int,
    ) -> None:
        """Open a file or directory, and write the new descriptor's number."""
        needed = RIGHT_OPEN
        if open_flags & OPEN_CREAT:
            needed |= RIGHT_CREATE_FILE
        if open_flags & OPEN_TRUNC:
            needed |= RIGHT_PATH_SET_SIZE
        start, name = self._at(fd, path, length, needed)
        self._memory.span(result, 4)
        if open_flags & ~OPEN_FLAGS or flags & ~FD_FLAGS:
            raise GuestError(Errno.INVAL)
        if (rights | inheriting) & ~start.inheriting:
            raise GuestError(Errno.NOTCAPABLE)
        self._descriptors.check_room()
        node = self._opened(start.node, name, open_flags, follow=bool(lookup & LOOKUP_FOLLOW))
        opened: OpenFile | OpenDirectory
        if isinstance(node, Directory):
            if rights & RIGHT_WRITE:
                raise GuestError(Errno.ISDIR)
            opened = OpenDirectory(rights=rights & RIGHTS_DIRECTORY, node=node)
        else:
            opened = OpenFile(rights=rights & RIGHTS_FILE, node=node)
            if open_flags & OPEN_TRUNC:
                self._files.resize(node, 0)
        opened.inheriting, opened.flags = inheriting, flags
        self._memory.write_u32(result, self._descriptors.add(opened))

    def path_create_directory(self, fd: int, path: int, length: int) -> None:
        """Make a directory."""
        start, name = self._at(fd, path, length, RIGHT_CREATE_DIRECTORY)
        self._files.make_directory(start.node, name)

    def path_filestat_get(self, fd: int, lookup: int, path: int, length: int, result: int) -> None:
        """Write what is known of a path."""
        start, name = self._at(fd, path, length, RIGHT_PATH_STAT)
        node = self._files.find(start.node, name, follow=bool(lookup & LOOKUP_FOLLOW))
        self._memory.write(result, filestat(node))

    def path_filestat_set_times(  # noqa: PLR0917 -- preview 1 has it so
        self,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        accessed: int,
        modified: int,
        flags: int,
    ) -> None:
        """Set the times of what a path names."""
        start, name = self._at(fd, path, length, RIGHT_PATH_SET_TIMES)
        node = self._files.find(start.node, name, follow=bool(lookup & LOOKUP_FOLLOW))
        self._files.set_times(node, accessed, modified, flags)

    def path_link(  # noqa: PLR0917 -- preview 1 has it so
        self,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        new_fd: int,
        new_path: int,
        new_length: int,
    ) -> None:
        """Give a file one more name."""
        source, old = self._at(fd, path, length, RIGHT_LINK_SOURCE)
        target, new = self._at(new_fd, new_path, new_length, RIGHT_LINK_TARGET)
        follow = bool(lookup & LOOKUP_FOLLOW)
        self._files.link(source.node, old, target.node, new, follow=follow)

    def path_symlink(self, target: int, size: int, fd: int, path: int, length: int) -> None:
        """Make a symbolic link."""
        start, name = self._at(fd, path, length, RIGHT_SYMLINK)
        self._files.make_link(self._path(target, size), start.node, name)

    def path_readlink(
        self, fd: int, path: int, length: int, buffer: int, size: int, result: int
    ) -> None:
        """Write a symbolic link's path, cut off where the buffer ends."""
        start, name = self._at(fd, path, length, RIGHT_READLINK)
        self._memory.span(buffer, size)
        target = self._files.readlink(start.node, name)[:size]
        self._memory.write(buffer, target)
        self._memory.write_u32(result, len(target))

    def path_unlink_file(self, fd: int, path: int, length: int) -> None:
        """Remove the name of a file or symbolic link."""
        start, name = self._at(fd, path, length, RIGHT_UNLINK)
        self._files.unlink(start.node, name)

    def path_remove_directory(self, fd: int, path: int, length: int) -> None:
        """Remove an empty directory."""
        start, name = self._at(fd, path, length, RIGHT_REMOVE_DIRECTORY)
        self._files.remove_directory(start.node, name)

    def path_rename(
        self, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
    ) -> None:
        """Move a file, directory or symbolic link."""
        source, old = self._at(fd, path, length, RIGHT_RENAME_SOURCE)
        target, new = self._at(new_fd, new_path, new_length, RIGHT_RENAME_TARGET)
        self._files.rename(source.node, old, target.node, new)

    def _at(self, fd: int, path: int, length: int, right: int) -> tuple[OpenDirectory, bytes]:
        return self._descriptors.directory(fd, right), self._path(path, length)

    def _path(self, path: int, length: int) -> bytes:
        if length > _LONGEST:
            raise GuestError(Errno.NAMETOOLONG)
        name = self._memory.read(path, length)
        try:
            name.decode()
        except UnicodeDecodeError:
            raise GuestError(Errno.ILSEQ) from None
        return name

    def _opened(
        self, start: Directory, name: bytes, flags: int, *, follow: bool
    ) -> File | Directory:
        if flags & OPEN_CREAT and flags & OPEN_DIRECTORY:
            raise GuestError(Errno.INVAL)
        node: Node
        if flags & OPEN_CREAT:
            exclusive = bool(flags & OPEN_EXCL)
            node = self._files.create(start, name, exclusive=exclusive, follow=follow)
        else:
            node = self._files.find(start, name, follow=follow)
        if isinstance(node, Directory):
            if flags & OPEN_TRUNC:
                raise GuestError(Errno.ISDIR)
            return node
        if not isinstance(node, File):
            raise GuestError(Errno.LOOP)
        if flags & OPEN_DIRECTORY:
            raise GuestError(Errno.NOTDIR)
        return node
