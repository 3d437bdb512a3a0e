"""Who gives way when there are too many: half-open handshakes, and open links (spec/02 §6)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_M = TypeVar("_M", bound=Hashable)


class Crowd(Generic[_M]):
    """Members, each from a remote address; the address with most of them is the one that pays."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[_M, None]] = {}
        self._group_of: dict[_M, str] = {}

    def __len__(self) -> int:
        return len(self._group_of)

    def enter(self, member: _M, group: str) -> None:
        """Count a new member from the address `group`."""
        self._group_of[member] = group
        self._groups.setdefault(group, {})[member] = None

    def leave(self, member: _M) -> None:
        """Forget a member, if it is one."""
        group = self._group_of.pop(member, None)
        if group is not None:
            members = self._groups[group]
            del members[member]
            if not members:
                del self._groups[group]

    def oldest(self, newcomer: str) -> _M | None:
        """Return who gives way to a newcomer from that address: the oldest where most are.

        Ties go against the newcomer's own address, then against whoever came first.
        """
        if not self._groups:
            return None
        most = max(map(len, self._groups.values()))
        own = self._groups.get(newcomer)
        if own is not None and len(own) == most:
            return next(iter(own))
        # Of the addresses with most, the one with the oldest member; members are kept by age.
        return next(
            member for member, group in self._group_of.items()
            if len(self._groups[group]) == most
        )  # fmt: skip

    def spare(self, newcomer: str, unused: Callable[[_M], bool]) -> _M | None:
        """Return who gives way to a newcomer from that address, if anyone.

        An unused member of the largest address that has one; else the newest of the largest one, if
        that has more than the newcomer's.
        """
        by_size = sorted(self._groups.values(), key=len, reverse=True)
        own = len(self._groups.get(newcomer, ()))
        for members in by_size:
            idle = next(filter(unused, members), None)
            if idle is not None:
                return idle
        if by_size and len(by_size[0]) > own + 1:
            return next(reversed(by_size[0]))
        return None
