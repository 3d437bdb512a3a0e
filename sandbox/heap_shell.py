"""Has what is forked take its memory from one fresh place, not from the holes of what it shares.

A process that was forked copies each page that it writes to. The C heap of a program that has
loaded much is full of small holes, and whoever takes them writes all over it: a compiler of a small
job to a hundred pages. Once the holes are taken, memory comes from the heap's end alone.
"""

import ctypes
from collections.abc import Callable

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
