"""A task's descriptors, its two outputs, and what they are bounded by (spec/07 §7.2)."""

from dataclasses import dataclass

from fogbank.sandbox.wasi.abi import (
    RIGHT_READ,
    RIGHT_SEEK,
    RIGHT_TELL,
    RIGHT_WRITE,
    RIGHTS_ALL,
    Errno,
    GuestError,
)
from fogbank.sandbox.wasi.files import Directory, File, FileSystem

DESCRIPTORS = 256
"""The most descriptors that are open at once."""
PREOPENED = 3
"""The descriptor of the root directory."""
ROOT_NAME = b"/"


class OutputLimit(Exception):
    """The program wrote more than it may."""


class Output:
    """stdout and stderr, bounded together."""

    def __init__(self, limit: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._limit = limit

    @property
    def room(self) -> int:
        """Bytes that may still be written."""
        return self._limit - len(self.stdout) - len(self.stderr)

    def write(self, stream: bytearray, data: bytes) -> None:
        """Append to one of the streams; raise `OutputLimit` after what still fits."""
        room = self.room
        stream += data[:room]
        if len(data) > room:
            raise OutputLimit


@dataclass(slots=True, eq=False)
class Stream:
    """A descriptor of stdout or stderr."""

    sink: bytearray
    rights: int = RIGHT_WRITE


@dataclass(slots=True, eq=False)
class OpenFile:
    """A descriptor of a file, and of stdin, which is a file without a name or a position to set."""

    node: File
    rights: int
    offset: int = 0
    flags: int = 0
    inheriting: int = 0


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """A descriptor of a directory; `name` is set on the one that is open from the start."""

    node: Directory
    rights: int = RIGHTS_ALL
    inheriting: int = RIGHTS_ALL
    name: bytes | None = None


Descriptor = Stream | OpenFile | OpenDirectory


class Descriptors:
    """The table of descriptors: 0 stdin, 1 stdout, 2 stderr, 3 the root directory."""

    def __init__(self, files: FileSystem, stdin: bytes, output: Output) -> None:
        self._files = files
        self._table: dict[int, Descriptor] = {
            0: OpenFile(File(inode=0, data=bytearray(stdin)), RIGHT_READ),
            1: Stream(output.stdout),
            2: Stream(output.stderr),
            PREOPENED: OpenDirectory(files.root, name=ROOT_NAME),
        }

    def get(self, number: int) -> Descriptor:
        """Return an open descriptor, or raise `GuestError` (BADF)."""
        descriptor = self._table.get(number)
        if descriptor is None:
            raise GuestError(Errno.BADF)
        return descriptor

    def file(self, number: int, right: int = 0) -> OpenFile:
        """Return the descriptor of a file that was opened with `right`."""
        descriptor = self.get(number)
        if isinstance(descriptor, OpenDirectory):
            raise GuestError(Errno.ISDIR if right else Errno.BADF)
        if isinstance(descriptor, Stream):
            raise GuestError(Errno.BADF if right == RIGHT_READ else Errno.SPIPE)
        if descriptor.rights & right != right:
            seeking = right & (RIGHT_SEEK | RIGHT_TELL)
            raise GuestError(Errno.SPIPE if seeking else Errno.BADF)
        return descriptor

    def directory(self, number: int) -> OpenDirectory:
        """Return the descriptor of a directory."""
        descriptor = self.get(number)
        if not isinstance(descriptor, OpenDirectory):
            raise GuestError(Errno.NOTDIR)
        return descriptor

    def add(self, descriptor: OpenFile | OpenDirectory) -> int:
        """Give `descriptor` the lowest free number."""
        if len(self._table) >= DESCRIPTORS:
            raise GuestError(Errno.MFILE)
        number = next(n for n in range(DESCRIPTORS) if n not in self._table)
        if isinstance(descriptor, OpenFile):
            self._files.hold(descriptor.node)
        self._table[number] = descriptor
        return number

    def close(self, number: int) -> None:
        """Close a descriptor."""
        descriptor = self.get(number)
        del self._table[number]
        if isinstance(descriptor, OpenFile) and descriptor.node.inode:
            self._files.release(descriptor.node)

    def renumber(self, source: int, target: int) -> None:
        """Move a descriptor over another open one."""
        descriptor = self.get(source)
        self.get(target)
        if source != target:
            self.close(target)
            self._table[target] = descriptor
            del self._table[source]
