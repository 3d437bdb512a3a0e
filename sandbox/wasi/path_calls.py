"""Calls on paths below an open directory."""

from fogbank.sandbox.wasi.abi import (
    FD_FLAGS,
    RIGHT_WRITE,
    Errno,
    GuestError,
    OpenFlag,
)
from fogbank.sandbox.wasi.descriptors import Descriptors, OpenDirectory, OpenFile
from fogbank.sandbox.wasi.fd_calls import filestat
from fogbank.sandbox.wasi.files import Directory, File, FileSystem, Node
from fogbank.sandbox.wasi.memory import GuestMemory

_OPEN_FLAGS = 0xF
_LONGEST = 1 << 16


class PathCalls:
    """The calls of this module, as methods named like them."""

    def __init__(self, memory: GuestMemory, descriptors: Descriptors, files: FileSystem) -> None:
        self._memory = memory
        self._descriptors = descriptors
        self._files = files

    def path_open(  # noqa: PLR0917 -- preview 1 has it so
        self,
        fd: int,
        _lookup: int,
        path: int,
        length: int,
        open_flags: int,
        rights: int,
        inheriting: int,
        flags: int,
        result: int,
    ) -> None:
        """Open a file or directory, and write the new descriptor's number."""
        start, name = self._at(fd, path, length)
        self._memory.span(result, 4)
        if open_flags & ~_OPEN_FLAGS or flags & ~FD_FLAGS:
            raise GuestError(Errno.INVAL)
        if (rights | inheriting) & ~start.inheriting:
            raise GuestError(Errno.NOTCAPABLE)
        node = self._opened(start.node, name, OpenFlag(open_flags), rights)
        if isinstance(node, Directory):
            number = self._descriptors.add(OpenDirectory(node, rights, inheriting))
        else:
            number = self._descriptors.add(
                OpenFile(node, rights, flags=flags, inheriting=inheriting)
            )
            if open_flags & OpenFlag.TRUNC:
                self._files.resize(node, 0)
        self._memory.write_u32(result, number)

    def path_create_directory(self, fd: int, path: int, length: int) -> None:
        """Make a directory."""
        start, name = self._at(fd, path, length)
        self._files.make_directory(start.node, name)

    def path_filestat_get(self, fd: int, _lookup: int, path: int, length: int, result: int) -> None:
        """Write what is known of a path."""
        start, name = self._at(fd, path, length)
        self._memory.write(result, filestat(self._files.find(start.node, name)))

    def path_unlink_file(self, fd: int, path: int, length: int) -> None:
        """Remove a file."""
        start, name = self._at(fd, path, length)
        self._files.unlink(start.node, name)

    def path_remove_directory(self, fd: int, path: int, length: int) -> None:
        """Remove an empty directory."""
        start, name = self._at(fd, path, length)
        self._files.remove_directory(start.node, name)

    def path_rename(
        self, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
    ) -> None:
        """Move a file or directory."""
        source, old = self._at(fd, path, length)
        target, new = self._at(new_fd, new_path, new_length)
        self._files.rename(source.node, old, target.node, new)

    def _at(self, fd: int, path: int, length: int) -> tuple[OpenDirectory, bytes]:
        start = self._descriptors.directory(fd)
        if length > _LONGEST:
            raise GuestError(Errno.NAMETOOLONG)
        name = self._memory.read(path, length)
        try:
            name.decode()
        except UnicodeDecodeError:
            raise GuestError(Errno.ILSEQ) from None
        return start, name

    def _opened(self, start: Directory, name: bytes, flags: OpenFlag, rights: int) -> Node:
        if flags & OpenFlag.CREAT and flags & OpenFlag.DIRECTORY:
            raise GuestError(Errno.INVAL)
        node: Node
        if flags & OpenFlag.CREAT:
            node = self._files.create(start, name, exclusive=bool(flags & OpenFlag.EXCL))
        else:
            node = self._files.find(start, name)
        if isinstance(node, File) and flags & OpenFlag.DIRECTORY:
            raise GuestError(Errno.NOTDIR)
        if isinstance(node, Directory) and flags & OpenFlag.TRUNC:
            raise GuestError(Errno.ISDIR)
        if flags & OpenFlag.TRUNC and not rights & RIGHT_WRITE:
            raise GuestError(Errno.INVAL)
        return node
