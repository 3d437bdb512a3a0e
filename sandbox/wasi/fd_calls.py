"""Calls on open descriptors."""

import struct

from fogbank.sandbox.wasi.abi import (
    FD_APPEND,
    FD_FLAGS,
    RIGHT_ADVISE,
    RIGHT_ALLOCATE,
    RIGHT_DATASYNC,
    RIGHT_READ,
    RIGHT_READDIR,
    RIGHT_SEEK,
    RIGHT_SET_FLAGS,
    RIGHT_SET_SIZE,
    RIGHT_SET_TIMES,
    RIGHT_STAT,
    RIGHT_SYNC,
    RIGHT_TELL,
    RIGHT_WRITE,
    WHENCE_CUR,
    WHENCE_END,
    WHENCE_SET,
    Errno,
    FileType,
    GuestError,
)
from fogbank.sandbox.wasi.clock import EPOCH
from fogbank.sandbox.wasi.descriptors import (
    Descriptor,
    Descriptors,
    OpenDirectory,
    OpenFile,
    Output,
    Sink,
    Source,
)
from fogbank.sandbox.wasi.files import File, FileSystem, Link, Node
from fogbank.sandbox.wasi.memory import GuestMemory

_FDSTAT = struct.Struct("<BxH4xQQ")
_FILESTAT = struct.Struct("<QQB7xQQQQQ")
_DIRENT = struct.Struct("<QQIB3x")
_PRESTAT = struct.Struct("<II")
_SIGN = 1 << 63
_MOST_ADVICE = 5
_DEVICE = 1


def filestat(node: Node | None) -> bytes:
    """Encode what is known of a node, or of a stream (None)."""
    if node is None:
        return _FILESTAT.pack(0, 0, FileType.UNKNOWN, 1, 0, EPOCH, EPOCH, EPOCH)
    size = 0
    if isinstance(node, File):
        size = len(node.data)
    elif isinstance(node, Link):
        size = len(node.target)
    times = (node.accessed, node.modified, node.changed)
    return _FILESTAT.pack(_DEVICE, node.inode, node.kind, node.names, size, *times)


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
        self._descriptors.file(fd, RIGHT_ADVISE)
        if advice > _MOST_ADVICE:
            raise GuestError(Errno.INVAL)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        """Make sure that a file is at least so long."""
        opened = self._descriptors.file(fd, RIGHT_ALLOCATE)
        if not length:
            raise GuestError(Errno.INVAL)
        if offset + length > len(opened.node.data):
            self._files.resize(opened.node, offset + length)

    def fd_close(self, fd: int) -> None:
        """Close a descriptor."""
        self._descriptors.close(fd)

    def fd_datasync(self, fd: int) -> None:
        """Nothing is behind memory that could lag."""
        self._descriptors.get(fd, RIGHT_DATASYNC)

    def fd_sync(self, fd: int) -> None:
        """Nothing is behind memory that could lag."""
        self._descriptors.get(fd, RIGHT_SYNC)

    def fd_fdstat_get(self, fd: int, result: int) -> None:
        """Write a descriptor's type, flags and rights."""
        found = self._descriptors.get(fd)
        stat = _FDSTAT.pack(found.kind, found.flags, found.rights, found.inheriting)
        self._memory.write(result, stat)

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        """Set a descriptor's flags, of which only APPEND has an effect."""
        descriptor = self._descriptors.get(fd, RIGHT_SET_FLAGS)
        if flags & ~FD_FLAGS:
            raise GuestError(Errno.INVAL)
        descriptor.flags = flags

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> None:
        """Give up rights; none can be gained."""
        descriptor = self._descriptors.get(fd)
        if base & ~descriptor.rights or inheriting & ~descriptor.inheriting:
            raise GuestError(Errno.NOTCAPABLE)
        descriptor.rights, descriptor.inheriting = base, inheriting

    def fd_filestat_get(self, fd: int, result: int) -> None:
        """Write what is known of the open file."""
        self._memory.write(result, filestat(_node(self._descriptors.get(fd, RIGHT_STAT))))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        """Cut or lengthen a file."""
        self._files.resize(self._descriptors.file(fd, RIGHT_SET_SIZE).node, size)

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        """Set the times of an open file or directory."""
        node = _node(self._descriptors.get(fd, RIGHT_SET_TIMES))
        if node is None:
            raise GuestError(Errno.BADF)
        self._files.set_times(node, accessed, modified, flags)

    def fd_prestat_get(self, fd: int, result: int) -> None:
        """Write the length of a directory's name that is open from the start."""
        self._memory.write(result, _PRESTAT.pack(0, len(self._preopened(fd))))

    def fd_prestat_dir_name(self, fd: int, buffer: int, length: int) -> None:
        """Write that name."""
        name = self._preopened(fd)
        if length < len(name):
            raise GuestError(Errno.NAMETOOLONG)
        self._memory.write(buffer, name)

    def fd_read(self, fd: int, vectors: int, count: int, result: int) -> None:
        """Read from where the descriptor stands."""
        opened = self._descriptors.readable(fd)
        if isinstance(opened, Source):
            moved = self._draw(opened, vectors, count)
        else:
            moved = self._scatter(opened, opened.offset, vectors, count)
            opened.offset += moved
        self._memory.write_u32(result, moved)

    def fd_pread(self, fd: int, vectors: int, count: int, offset: int, result: int) -> None:
        """Read from `offset`."""
        opened = self._descriptors.file(fd, RIGHT_READ | RIGHT_SEEK)
        self._memory.write_u32(result, self._scatter(opened, offset, vectors, count))

    def fd_write(self, fd: int, vectors: int, count: int, result: int) -> None:
        """Write where the descriptor stands."""
        opened = self._descriptors.writable(fd)
        if isinstance(opened, Sink):
            self._memory.write_u32(result, self._print(opened.stream, vectors, count))
            return
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
        # To ask for the position is to tell it.
        asking = whence == WHENCE_CUR and not delta
        opened = self._descriptors.file(fd, RIGHT_TELL if asking else RIGHT_SEEK)
        if whence == WHENCE_SET:
            base = 0
        elif whence == WHENCE_CUR:
            base = opened.offset
        elif whence == WHENCE_END:
            base = len(opened.node.data)
        else:
            raise GuestError(Errno.INVAL)
        signed = delta - 2 * _SIGN if delta & _SIGN else delta
        target = base + signed
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
        """Write the entries after `cookie`, the last one cut off where the buffer ends."""
        directory = self._descriptors.directory(fd, RIGHT_READDIR).node
        self._memory.span(buffer, length)
        out = bytearray()
        for at, name, node in directory.listing(cookie):
            if len(out) >= length:
                break
            out += _DIRENT.pack(at, node.inode, len(name), node.kind) + name
        self._memory.write(buffer, bytes(out[:length]))
        self._memory.write_u32(result, min(len(out), length))

    def _preopened(self, fd: int) -> bytes:
        descriptor = self._descriptors.get(fd)
        if not isinstance(descriptor, OpenDirectory) or descriptor.name is None:
            raise GuestError(Errno.BADF)
        return descriptor.name

    def _scatter(self, opened: OpenFile, offset: int, vectors: int, count: int) -> int:
        at = offset
        with memoryview(opened.node.data) as data:
            for address, length in self._memory.vectors(vectors, count):
                chunk = data[at : at + length]
                self._memory.write(address, chunk)
                at += len(chunk)
        return at - offset

    def _draw(self, source: Source, vectors: int, count: int) -> int:
        start = source.offset
        for address, length in self._memory.vectors(vectors, count):
            at = 0
            while at < length and (part := source.read(length - at)):
                self._memory.write(address + at, part)
                at += len(part)
        return source.offset - start

    def _gather(self, opened: OpenFile, offset: int, vectors: int, count: int) -> int:
        at = offset
        for address, length in self._memory.vectors(vectors, count):
            try:
                self._files.write(opened.node, at, self._memory.part(address, length))
            except GuestError:
                if at == offset:
                    raise
                break
            at += length
        return at - offset

    def _print(self, stream: bytearray, vectors: int, count: int) -> int:
        moved = 0
        for address, length in self._memory.vectors(vectors, count):
            # One byte more than fits is enough to pass the limit.
            taken = min(length, self._output.room + 1)
            self._output.write(stream, self._memory.part(address, taken))
            moved += length
        return moved


def _node(descriptor: Descriptor) -> Node | None:
    return descriptor.node if isinstance(descriptor, (OpenFile, OpenDirectory)) else None
