"""What one remote address may do, however many links it opens (spec/02 §6)."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from fogbank.relay.limits import Limits
from fogbank.relay.link.sources_shell import Source, Sources

LIMITS = Limits(creates_per_second=10, creates_burst=20)


async def test_links_of_one_source_read_in_turns_and_a_lone_one_does_not_wait(
    autojump_clock: MockClock,
) -> None:
    crowd, lone = Source(LIMITS, 0), Source(LIMITS, 0)
    crowd.links, lone.links = 8, 1
    reads = {"crowd": 0, "lone": 0}

    async def read(source: Source, name: str) -> None:
        while True:
            await source.turn()
            reads[name] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(crowd.links):
            nursery.start_soon(read, crowd, "crowd")
        nursery.start_soon(read, lone, "lone")
        while reads["lone"] < 100:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert 0 < reads["crowd"] <= reads["lone"]


def test_an_allowance_outlives_the_links_that_used_it() -> None:
    now = [1000.0]
    sources = Sources(LIMITS, lambda: now[0])
    first = sources.get("127.0.0.1", proved=False)
    assert [first.creates.take(now[0]) for _ in range(21)] == [True] * 20 + [False]
    sources.forget()
    again = sources.get("127.0.0.1", proved=False)
    assert not again.creates.take(now[0])
    assert sources.get("127.0.0.2", proved=False).creates.take(now[0])
    assert sources.get("127.0.0.1", proved=True).creates.take(now[0])


def test_a_source_is_forgotten_when_its_allowances_are_whole_again() -> None:
    now = [1000.0]
    sources = Sources(LIMITS, lambda: now[0])
    sources.get("127.0.0.1", proved=False).links = 1
    sources.get("127.0.0.2", proved=False)
    now[0] += 3
    sources.forget()
    assert len(sources) == 2
    now[0] += 10
    sources.forget()
    assert len(sources) == 1
