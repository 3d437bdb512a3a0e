"""Waking up: a machine that slept, or moved to another network, finds out at once (spec/02 §6).

A suspended machine's steady clock stands still, a stopped process's does not; either way nothing
ran for a while, and one of the two clocks has jumped. Who waited by one of them must look again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

LOOK_SECONDS: Final = 2.0
JUMP_SECONDS: Final = 10.0
"""A clock that went on for so much more or less than expected has jumped."""
_ANY_PORT: Final = 9


@dataclass(frozen=True, slots=True)
class _Moment:
    wall: float
    steady: float
    place: str


class Waking:
    """Notices that this process slept, or that the machine's own address is another one.

    `clock` is the wall clock in seconds; `place` tells the local address in use, empty if unknown.
    """

    def __init__(self, clock: Callable[[], float], place: Callable[[], str] = str) -> None:
        self._clock = clock
        self._place = place
        self._woken = trio.Event()

    async def run(self, on_wake: Callable[[], None]) -> None:
        """Look now and then until cancelled; call `on_wake` each time."""
        before = self._now()
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = self._now()
            if _has_jumped(before, now):
                self._woken.set()
                self._woken = trio.Event()
                on_wake()
            before = now

    def _now(self) -> _Moment:
        return _Moment(self._clock(), trio.current_time(), self._place())

    async def wait(self) -> None:
        """Wait until it wakes next."""
        await self._woken.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds have passed by either clock: a machine may sleep meanwhile."""
        due = self._clock() + seconds
        with trio.move_on_after(seconds):
            while self._clock() < due:
                await self._woken.wait()


def _has_jumped(before: _Moment, now: _Moment) -> bool:
    steps = now.wall - before.wall, now.steady - before.steady
    late = any(step - LOOK_SECONDS > JUMP_SECONDS for step in steps)
    return late or steps[0] < -JUMP_SECONDS or now.place != before.place


def local_address(hosts: Iterable[str]) -> str:
    """Return the addresses from which this machine would go to `hosts`; no packet is sent.

    One of each family is enough to ask for; a family without a way out adds nothing.
    """
    targets = {socket.AF_INET6 if ":" in host else socket.AF_INET: host for host in hosts}
    found = []
    for family, host in sorted(targets.items()):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, _ANY_PORT))
            found.append(str(probe.getsockname()[0]))
    return " ".join(found)
