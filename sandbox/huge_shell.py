"""Puts code and memory into huge pages, which what is forked shares from the start.

A process that is forked maps the pages of a file anew, a fault for each few of them: the compiler
of a small job runs through a hundred such places. Memory that is no file's is mapped already, and
in pages of 2 MiB there is nearly nothing to copy. Only the launcher does this, which has no other
thread, before it forks; where it cannot be done, all works as before.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

_HUGE = 2 << 20
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x02, 0x20, 0x4000
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_FAILED = ctypes.c_size_t(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_word = ctypes.c_size_t
_number = ctypes.c_int


def _function(name: str, *parameters: type) -> Callable[..., int]:
    function = _libc[name]
    function.argtypes, function.restype = parameters, _word
    return function


_mmap = _function("mmap", _word, _word, _number, _number, _number, _word)
_munmap = _function("munmap", _word, _word)
_mremap = _function("mremap", _word, _word, _word, _number, _word)
_mprotect = _function("mprotect", _word, _word, _number)
_madvise = _function("madvise", _word, _word, _number)


def hold_code(library: str) -> int:
    """Put the code of a library, which is loaded, into huge pages; return how many bytes of it.

    `library` is its path. Raises OSError where /proc cannot be read.
    """
    return sum(_move(begin, end) for begin, end in _code(library))


def memory() -> list[tuple[int, int]]:
    """Return where whole huge pages of this process's own memory would begin and end.

    Raises OSError where /proc cannot be read.
    """
    return _places("rw-p", "", "[heap]")


def whole_pages(begin: int, end: int) -> tuple[int, int]:
    """Return where the whole huge pages between these addresses begin and end."""
    return -(-begin // _HUGE) * _HUGE, end // _HUGE * _HUGE


def hold_memory(places: list[tuple[int, int]]) -> int:
    """Put what is there into huge pages as it is; return how many bytes of it.

    The kernel does it, from Linux 6.1 on, and only there nothing can be written meanwhile.
    """
    return sum(
        end - begin
        for begin, end in places
        if begin < end and _madvise(begin, end - begin, _MADV_COLLAPSE) == 0
    )


def _code(library: str) -> list[tuple[int, int]]:
    """Return where the whole huge pages of the library's code begin and end."""
    return _places("r-xp", library)


def _places(wanted: str, *names: str) -> list[tuple[int, int]]:
    """Return where the whole huge pages begin and end that are mapped so, for one of `names`."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        where, access, _offset, _device, _inode, *rest = line.split(maxsplit=5)
        if access == wanted and (rest[0] if rest else "") in names:
            found.append(whole_pages(*(int(item, 16) for item in where.split("-"))))
    return [(begin, end) for begin, end in found if begin < end]


def _move(begin: int, end: int) -> int:
    """Copy what is there, and put the copy in its place; return how many bytes, 0 if it cannot."""
    size = end - begin
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    room = _mmap(0, size + _HUGE, _PROT_READ | _PROT_WRITE, flags, -1, 0)
    if room == _FAILED:
        return 0
    copy = -(-room // _HUGE) * _HUGE
    _madvise(copy, size, _MADV_HUGEPAGE)
    ctypes.memmove(copy, begin, size)
    # In small pages the copy would cost more than the file: forks would copy what maps them.
    moved = 0
    if _is_huge(copy, size) and _mprotect(copy, size, _PROT_READ | _PROT_EXEC) == 0:
        flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
        moved = size if _mremap(copy, size, size, flags, begin) == begin else 0
    if not moved:
        _munmap(copy, size)
    _munmap(room, copy - room)
    _munmap(copy + size, room + _HUGE - copy)
    return moved


def _is_huge(begin: int, size: int) -> bool:
    """Whether all of this memory is in huge pages."""
    words = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    inside, huge = False, 0
    for line in words:
        where, _, rest = line.partition(" ")
        if "-" in where:
            first, last = (int(item, 16) for item in where.split("-"))
            inside = first < begin + size and begin < last
        elif inside and where == "AnonHugePages:":
            huge += int(rest.split()[0]) << 10
    return huge >= size
