"""A task's descriptors, its two outputs, and what they are bounded by (spec/07 §7.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from fogbank.sandbox.data import PORTION, Data
from fogbank.sandbox.wasi.abi import (
    RIGHT_ADVISE,
    RIGHT_ALLOCATE,
    RIGHT_READ,
    RIGHT_SEEK,
    RIGHT_TELL,
    RIGHT_WRITE,
    RIGHTS_ALL,
    RIGHTS_ANY,
    RIGHTS_DIRECTORY,
    Errno,
    FileType,
    GuestError,
)
from fogbank.sandbox.wasi.files import Directory, File, FileSystem

DESCRIPTORS = 256
"""The most descriptors that are open at once."""
PREOPENED = 3
"""The descriptor of the root directory."""
ROOT_NAME = b"/"
_POSITION = RIGHT_SEEK | RIGHT_TELL | RIGHT_ADVISE | RIGHT_ALLOCATE


class OutputLimit(Exception):
    """The program wrote more than it may."""


Drain: TypeAlias = Callable[[int, bytearray], None]
"""Takes `PORTION` bytes of what a program has written to 1, stdout, or 2, stderr."""


class Output:
    """stdout and stderr, bounded together; `room`: bytes that may still be written.

    With a `drain` they are passed on in portions, and what is left here is their ends.
    """

    def __init__(self, limit: int, drain: Drain | None = None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.room = limit
        self._drain = drain

    def write(self, stream: bytearray, data: memoryview) -> None:
        """Append to one of the streams; raise `OutputLimit` after what still fits."""
        fits = data[: self.room]
        self.room -= len(fits)
        if self._drain is None or len(stream) + len(fits) < PORTION:
            stream += fits
        else:
            self._pass_on(self._drain, stream, fits)
        if len(data) > len(fits):
            raise OutputLimit

    def _pass_on(self, drain: Drain, stream: bytearray, data: memoryview) -> None:
        while data:
            room = PORTION - len(stream)
            stream += data[:room]
            data = data[room:]
            if len(stream) == PORTION:
                drain(1 if stream is self.stdout else 2, stream)
                stream.clear()


@dataclass(slots=True, eq=False, kw_only=True)
class Descriptor:
    """What every descriptor has. Its rights are those that mean something for its kind."""

    rights: int
    inheriting: int = 0
    flags: int = 0
    kind: ClassVar[FileType] = FileType.UNKNOWN


@dataclass(slots=True, eq=False, kw_only=True)
class Sink(Descriptor):
    """A descriptor of stdout or stderr."""

    rights: int = RIGHTS_ANY | RIGHT_WRITE
    stream: bytearray


@dataclass(slots=True, eq=False, kw_only=True)
class OpenFile(Descriptor):
    """A descriptor of a file."""

    node: File
    offset: int = 0
    kind: ClassVar[FileType] = FileType.REGULAR_FILE


@dataclass(slots=True, eq=False, kw_only=True)
class Source(Descriptor):
    """The descriptor of stdin, which is read once, from its beginning to its end."""

    rights: int = RIGHTS_ANY | RIGHT_READ
    data: Data
    offset: int = 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self.data) - self.offset

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes, none at the end alone."""
        start = self.offset
        if isinstance(self.data, bytes):
            part = self.data[start : start + size]
        else:
            part = self.data.read(start, min(size, self.left))
        self.offset += len(part)
        return part


@dataclass(slots=True, eq=False, kw_only=True)
class OpenDirectory(Descriptor):
    """A descriptor of a directory; `name` is set on the one that is open from the start."""

    node: Directory
    name: bytes | None = None
    kind: ClassVar[FileType] = FileType.DIRECTORY


class Descriptors:
    """The table of descriptors: 0 stdin, 1 stdout, 2 stderr, 3 the root directory."""

    def __init__(self, files: FileSystem, stdin: Data, output: Output) -> None:
        self._files = files
        root = OpenDirectory(
            rights=RIGHTS_DIRECTORY, inheriting=RIGHTS_ALL, node=files.root, name=ROOT_NAME
        )
        self._table: dict[int, Descriptor] = {
            0: Source(data=stdin),
            1: Sink(stream=output.stdout),
            2: Sink(stream=output.stderr),
            PREOPENED: root,
        }
        self._free = PREOPENED + 1
        """No number below is free."""

    def get(self, number: int, right: int = 0) -> Descriptor:
        """Return an open descriptor that has `right`."""
        descriptor = self._table.get(number)
        if descriptor is None:
            raise GuestError(Errno.BADF)
        if descriptor.rights & right != right:
            raise GuestError(Errno.NOTCAPABLE)
        return descriptor

    def file(self, number: int, rights: int) -> OpenFile:
        """Return the descriptor of a file that was opened with `rights`."""
        descriptor = self._table.get(number)
        if type(descriptor) is OpenFile and descriptor.rights & rights == rights:
            return descriptor
        raise GuestError(_no_such_file(descriptor, rights))

    def readable(self, number: int) -> OpenFile | Source:
        """Return the descriptor of a file, or of stdin, that can be read."""
        descriptor = self._table.get(number)
        if isinstance(descriptor, (OpenFile, Source)) and descriptor.rights & RIGHT_READ:
            return descriptor
        raise GuestError(_no_such_file(descriptor, RIGHT_READ))

    def writable(self, number: int) -> OpenFile | Sink:
        """Return the descriptor of a file, or of an output, that can be written."""
        descriptor = self._table.get(number)
        if isinstance(descriptor, (OpenFile, Sink)) and descriptor.rights & RIGHT_WRITE:
            return descriptor
        raise GuestError(_no_such_file(descriptor, RIGHT_WRITE))

    def directory(self, number: int, right: int) -> OpenDirectory:
        """Return the descriptor of a directory that has `right`."""
        descriptor = self.get(number)
        if not isinstance(descriptor, OpenDirectory):
            raise GuestError(Errno.NOTDIR)
        if descriptor.rights & right != right:
            raise GuestError(Errno.NOTCAPABLE)
        return descriptor

    def check_room(self) -> None:
        """Raise `GuestError` if no descriptor can be added."""
        if len(self._table) >= DESCRIPTORS:
            raise GuestError(Errno.MFILE)

    def add(self, descriptor: OpenFile | OpenDirectory) -> int:
        """Give `descriptor` the lowest free number."""
        self.check_room()
        number = self._free
        while number in self._table:
            number += 1
        self._free = number + 1
        if isinstance(descriptor, OpenFile):
            self._files.hold(descriptor.node)
        self._table[number] = descriptor
        return number

    def close(self, number: int) -> None:
        """Close a descriptor."""
        descriptor = self.get(number)
        del self._table[number]
        self._free = min(self._free, number)
        if type(descriptor) is OpenFile:
            self._files.release(descriptor.node)

    def renumber(self, source: int, target: int) -> None:
        """Move a descriptor over another open one."""
        descriptor = self.get(source)
        self.get(target)
        if source != target:
            self.close(target)
            self._table[target] = descriptor
            del self._table[source]
            self._free = min(self._free, source)


def _no_such_file(descriptor: Descriptor | None, rights: int) -> Errno:
    """Tell why a descriptor, or none, cannot be used as a file with `rights`."""
    if descriptor is None:
        return Errno.BADF
    if isinstance(descriptor, OpenDirectory):
        return Errno.ISDIR if rights & (RIGHT_READ | RIGHT_WRITE) else Errno.BADF
    if type(descriptor) is OpenFile:
        transfer = (RIGHT_READ | RIGHT_WRITE) & rights & ~descriptor.rights
        return Errno.BADF if transfer else Errno.NOTCAPABLE
    return Errno.SPIPE if rights & _POSITION else Errno.BADF
