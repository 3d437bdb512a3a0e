"""Where the launcher's memory lies, which all that it forks shares until it writes to it.

Python's small objects are put into the C heap, so that there is one long piece of memory, which
huge pages can hold (`huge_shell`): forking copies what maps each page.

A process that was forked copies each page that it writes to. The C heap of a program that has
loaded much is full of small holes, and whoever takes them writes all over it: a compiler of a small
job to a hundred pages. Once the holes are taken, memory comes from the heap's end alone.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ARENA = 1 << 20
"""Bytes in which Python takes memory for small objects."""
_LARGE = 4 << 20
"""Bytes from which on the C library takes memory from outside the heap: more than two arenas."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_BLOCK = 64 << 10
"""More than any hole that matters, and less than what is taken from outside the heap."""
_SMALL = 1024
_STEP = 16
_SIZES = (*(_BLOCK >> shift for shift in range(1, 6)), *range(_SMALL, _STEP, -_STEP))
"""Bytes, falling: what is left of a large hole is a small one."""
_MOST = 1 << 16
"""Blocks of one size that are taken at most."""
_libc = ctypes.CDLL(None)
_word = ctypes.c_size_t


class _Arenas(ctypes.Structure):
    """How Python gets memory for small objects: functions of `context` and a size, or a place."""

    _fields_ = (
        ("context", ctypes.c_size_t),
        ("take", ctypes.c_void_p),
        ("give_back", ctypes.c_void_p),
    )


@contextmanager
def arenas_in_heap() -> Iterator[None]:
    """Have the small objects that are made meanwhile put into the C heap.

    Raises AttributeError where the C library has no such heap.
    """
    _libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    _libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
    own = _Arenas()
    ctypes.pythonapi.PyObject_GetArenaAllocator(ctypes.byref(own))
    # The context stands for the alignment. What is given back is unmapped as ever: the C library
    # keeps nothing of its own between the first and the last byte, and believes them taken.
    take = ctypes.cast(_libc.aligned_alloc, ctypes.c_void_p).value
    heap = _Arenas(_ARENA, take, own.give_back)
    ctypes.pythonapi.PyObject_SetArenaAllocator(ctypes.byref(heap))
    try:
        yield
    finally:
        ctypes.pythonapi.PyObject_SetArenaAllocator(ctypes.byref(own))


def _function(name: str, parameter: type, result: type | None) -> Callable[..., int]:
    function = _libc[name]
    function.argtypes, function.restype = (parameter,), result
    return function


def fill_holes() -> int:
    """Take all that is free within this process's heap, for good; return how many bytes.

    Raises AttributeError where the C library has no such heap.
    """
    take = _function("malloc", _word, _word)
    give_back = _function("free", _word, None)
    end_of_heap = _function("sbrk", ctypes.c_ssize_t, _word)
    before, taken = end_of_heap(0), 0
    # While there is a hole it is taken first: so what makes the heap grow is behind all of them.
    for _ in range(_MOST):
        behind = take(_BLOCK)
        if end_of_heap(0) != before:
            break
        taken += _BLOCK
    for size in _SIZES:
        for _ in range(_MOST):
            # A block has a header of 8 bytes.
            block = take(size - 8)
            if block >= behind:
                give_back(block)
                break
            taken += size
    return taken
