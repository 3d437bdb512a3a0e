"""Small parts of a job's messages that several readers have: numbers, and members of an enum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fogbank.relay.errors import ProtocolError

_T = TypeVar("_T")


def member(kind: Callable[[int], _T], number: int) -> _T:
    """Return the member of the enum `kind` with that number, or raise `ProtocolError`."""
    try:
        return kind(number)
    except ValueError:
        raise ProtocolError(f"a job's message holds the unknown number {number}") from None


def number(value: Any) -> int:
    """Return `value`, an unsigned integer, or raise `ProtocolError`."""
    if type(value) is not int or value < 0:
        raise ProtocolError("a job's message holds something else than a number")
    return value
