"""Calls on open descriptors."""

import struct

from fogbank.sandbox.wasi.abi import (
    FD_APPEND,
    FD_FLAGS,
    RIGHT_READ,
    RIGHT_SEEK,
    RIGHT_TELL,
    RIGHT_WRITE,
    Errno,
    FileType,
    GuestError,
    Whence,
)
from fogbank.sandbox.wasi.descriptors import (
    Descriptor,
    Descriptors,
    OpenDirectory,
    OpenFile,
    Output,
    Stream,
)
from fogbank.sandbox.wasi.files import Directory, FileSystem, Node
from fogbank.sandbox.wasi.memory import GuestMemory
from fogbank.sandbox.wasi.process import EPOCH

_FDSTAT = struct.Struct("<BxH4xQQ")
_FILESTAT = struct.Struct("<QQB7xQQQQQ")
_DIRENT = struct.Struct("<QQIB3x")
_SIGN = 1 << 63


def filestat(node: Node | None) -> bytes:
    """Encode what is known of a node, or of a stream (None). Every time is the task's start."""
    if node is None:
        return _FILESTAT.pack(0, 0, FileType.UNKNOWN, 1, 0, EPOCH, EPOCH, EPOCH)
    size = 0 if isinstance(node, Directory) else len(node.data)
    return _FILESTAT.pack(1, node.inode, node.kind, 1, size, EPOCH, EPOCH, EPOCH)


class FdCalls:
    """The calls of this module, as methods named like them."""

    def __init__(
        self, memory: GuestMemory, descriptors: Descriptors, files: FileSystem, output: Output
    ) -> None:
        self._memory = memory
        self._descriptors = descriptors
        self._files = files
        self._output = output

    def fd_advise(self, fd: int, _offset: int, _length: int, advice: int) -> None:
        """Take note of how a file will be used: memory has no use for it."""
        self._descriptors.file(fd)
        if advice > 5:
            raise GuestError(Errno.INVAL)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        """Make sure that a file is at least so long."""
        opened = self._descriptors.file(fd, RIGHT_WRITE)
        if offset + length > len(opened.node.data):
            self._files.resize(opened.node, offset + length)

    def fd_close(self, fd: int) -> None:
        """Close a descriptor."""
        self._descriptors.close(fd)

    def fd_datasync(self, fd: int) -> None:
        """Nothing is behind memory that could lag."""
        self._descriptors.get(fd)

    def fd_sync(self, fd: int) -> None:
        """Nothing is behind memory that could lag."""
        self._descriptors.get(fd)

    def fd_fdstat_get(self, fd: int, result: int) -> None:
        """Write a descriptor's type, flags and rights."""
        descriptor = self._descriptors.get(fd)
        kind, flags, inheriting = FileType.UNKNOWN, 0, 0
        if isinstance(descriptor, OpenDirectory):
            kind, inheriting = FileType.DIRECTORY, descriptor.inheriting
        elif isinstance(descriptor, OpenFile):
            flags = descriptor.flags
            kind = FileType.REGULAR_FILE if descriptor.node.inode else FileType.UNKNOWN
        self._memory.write(result, _FDSTAT.pack(kind, flags, descriptor.rights, inheriting))

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        """Set a descriptor's flags, of which only APPEND has an effect."""
        descriptor = self._descriptors.get(fd)
        if flags & ~FD_FLAGS:
            raise GuestError(Errno.INVAL)
        if isinstance(descriptor, OpenFile):
            descriptor.flags = flags

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> None:
        """Give up rights; none can be gained."""
        descriptor = self._descriptors.get(fd)
        if base & ~descriptor.rights:
            raise GuestError(Errno.NOTCAPABLE)
        if isinstance(descriptor, OpenDirectory):
            if inheriting & ~descriptor.inheriting:
                raise GuestError(Errno.NOTCAPABLE)
            descriptor.inheriting = inheriting
        descriptor.rights = base

    def fd_filestat_get(self, fd: int, result: int) -> None:
        """Write what is known of the open file."""
        self._memory.write(result, filestat(_node(self._descriptors.get(fd))))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        """Cut or lengthen a file."""
        self._files.resize(self._descriptors.file(fd, RIGHT_WRITE).node, size)

    def fd_prestat_get(self, fd: int, result: int) -> None:
        """Write the length of a directory's name that is open from the start."""
        self._memory.write(result, struct.pack("<II", 0, len(self._preopened(fd))))

    def fd_prestat_dir_name(self, fd: int, buffer: int, length: int) -> None:
        """Write that name."""
        name = self._preopened(fd)
        if length < len(name):
            raise GuestError(Errno.NAMETOOLONG)
        self._memory.write(buffer, name)

    def fd_read(self, fd: int, vectors: int, count: int, result: int) -> None:
        """Read from where the descriptor stands."""
        opened = self._descriptors.file(fd, RIGHT_READ)
        moved = self._scatter(opened, opened.offset, vectors, count)
        opened.offset += moved
        self._memory.write_u32(result, moved)

    def fd_pread(self, fd: int, vectors: int, count: int, offset: int, result: int) -> None:
        """Read from `offset`."""
        opened = self._descriptors.file(fd, RIGHT_READ | RIGHT_SEEK)
        self._memory.write_u32(result, self._scatter(opened, offset, vectors, count))

    def fd_write(self, fd: int, vectors: int, count: int, result: int) -> None:
        """Write where the descriptor stands."""
        descriptor = self._descriptors.get(fd)
        if isinstance(descriptor, Stream):
            self._memory.write_u32(result, self._print(descriptor, vectors, count))
            return
        opened = self._descriptors.file(fd, RIGHT_WRITE)
        append = opened.flags & FD_APPEND
        start = len(opened.node.data) if append else opened.offset
        moved = self._gather(opened, start, vectors, count)
        opened.offset = start + moved
        self._memory.write_u32(result, moved)

    def fd_pwrite(self, fd: int, vectors: int, count: int, offset: int, result: int) -> None:
        """Write at `offset`."""
        opened = self._descriptors.file(fd, RIGHT_WRITE | RIGHT_SEEK)
        self._memory.write_u32(result, self._gather(opened, offset, vectors, count))

    def fd_seek(self, fd: int, delta: int, whence: int, result: int) -> None:
        """Move the descriptor, and write where it stands."""
        opened = self._descriptors.file(fd, RIGHT_SEEK)
        bases = {
            Whence.SET: 0,
            Whence.CUR: opened.offset,
            Whence.END: len(opened.node.data),
        }
        if whence not in bases:
            raise GuestError(Errno.INVAL)
        signed = delta - 2 * _SIGN if delta & _SIGN else delta
        target = bases[Whence(whence)] + signed
        if not 0 <= target < _SIGN:
            raise GuestError(Errno.INVAL)
        opened.offset = target
        self._memory.write_u64(result, target)

    def fd_tell(self, fd: int, result: int) -> None:
        """Write where the descriptor stands."""
        self._memory.write_u64(result, self._descriptors.file(fd, RIGHT_TELL).offset)

    def fd_renumber(self, fd: int, target: int) -> None:
        """Put one descriptor in the place of another."""
        self._descriptors.renumber(fd, target)

    def fd_readdir(self, fd: int, buffer: int, length: int, cookie: int, result: int) -> None:
        """Write entries from number `cookie` on, the last one cut off where the buffer ends."""
        directory = self._descriptors.directory(fd).node
        self._memory.span(buffer, length)
        out = bytearray()
        for index, (name, node) in enumerate(self._files.listing(directory)):
            if len(out) >= length:
                break
            if index >= cookie:
                out += _DIRENT.pack(index + 1, node.inode, len(name), node.kind) + name
        self._memory.write(buffer, bytes(out[:length]))
        self._memory.write_u32(result, min(len(out), length))

    def _preopened(self, fd: int) -> bytes:
        descriptor = self._descriptors.get(fd)
        if not isinstance(descriptor, OpenDirectory) or descriptor.name is None:
            raise GuestError(Errno.BADF)
        return descriptor.name

    def _scatter(self, opened: OpenFile, offset: int, vectors: int, count: int) -> int:
        pairs = self._memory.vectors(vectors, count)
        at = offset
        for address, length in pairs:
            chunk = opened.node.data[at : at + length]
            if not chunk:
                break
            self._memory.write(address, bytes(chunk))
            at += len(chunk)
        return at - offset if at > offset else 0

    def _gather(self, opened: OpenFile, offset: int, vectors: int, count: int) -> int:
        pairs = self._memory.vectors(vectors, count)
        at = offset
        for address, length in pairs:
            self._files.write(opened.node, at, self._memory.read(address, length))
            at += length
        return at - offset

    def _print(self, stream: Stream, vectors: int, count: int) -> int:
        if not stream.rights:
            raise GuestError(Errno.BADF)
        moved = 0
        for address, length in self._memory.vectors(vectors, count):
            # One byte more than fits is enough to pass the limit.
            taken = min(length, self._output.room + 1)
            self._output.write(stream.sink, self._memory.read(address, taken))
            moved += length
        return moved


def _node(descriptor: Descriptor) -> Node | None:
    if isinstance(descriptor, Stream) or not descriptor.node.inode:
        return None
    return descriptor.node
