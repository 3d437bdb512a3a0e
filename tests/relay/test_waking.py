"""A machine that slept or moved finds out, and what waits by a clock looks again (spec/02 §6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from trio.testing import MockClock

from fogbank.relay.waking_shell import LOOK_SECONDS, Waking, local_address


@dataclass
class Machine:
    """Its wall clock goes with the steady one, but for `ahead`."""

    ahead: float = 1e9
    place: str = "192.0.2.1"
    wakes: int = 0
    waking: Waking = field(init=False)

    def __post_init__(self) -> None:
        self.waking = Waking(lambda: self.ahead + trio.current_time(), lambda: self.place)

    def on_wake(self) -> None:
        self.wakes += 1


@asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    here = Machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.waking.run, here.on_wake)
        await trio.sleep(10)
        assert not here.wakes
        yield here
        nursery.cancel_scope.cancel()


async def test_a_stopped_process_notices_when_it_goes_on(autojump_clock: MockClock) -> None:
    async with machine() as here:
        autojump_clock.jump(60)
        await trio.sleep(2 * LOOK_SECONDS)
        assert here.wakes == 1
        autojump_clock.jump(5)
        await trio.sleep(100)
        assert here.wakes == 1, "a busy machine is no sleeping one"


async def test_a_suspended_machine_notices_by_the_wall_clock(autojump_clock: MockClock) -> None:
    async with machine() as here:
        for step in (3600, -3600):
            here.ahead += step
            await trio.sleep(2 * LOOK_SECONDS)
        assert here.wakes == 2


async def test_another_address_is_noticed(autojump_clock: MockClock) -> None:
    async with machine() as here:
        for place in ("", "198.51.100.2"):
            here.place = place
            await trio.sleep(2 * LOOK_SECONDS)
        assert here.wakes == 2


async def test_who_waits_an_hour_waits_no_longer_than_the_wall_clock(
    autojump_clock: MockClock,
) -> None:
    async with machine() as here:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.waking.sleep, 3600)
            await trio.sleep(1)
            here.ahead += 1800
            await trio.sleep(2 * LOOK_SECONDS)
            here.ahead += 1800
        assert trio.current_time() - begun < 20
        begun = trio.current_time()
        await here.waking.sleep(3600)
        assert trio.current_time() - begun == 3600


def test_the_own_address_is_the_one_on_the_way() -> None:
    assert local_address(["127.0.0.1", "127.0.0.2"]) == "127.0.0.1"
    assert local_address([]) == ""
    # A family without a way out is no fault.
    assert local_address(["0.0.0.0x", "127.0.0.1"]) == "127.0.0.1"
