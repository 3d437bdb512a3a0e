"""One run: a network from a seed, steps with faults, invariants after each, and an end in peace."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias, TypeVar
from unittest.mock import patch

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from fogbank.client import lane_shell
from fogbank.client.journal import store_shell
from tests.simulation.actors import PROCESS, Actor, ClientActor
from tests.simulation.chance import Chance
from tests.simulation.cheap import cheap
from tests.simulation.credit import LOST, credit_is_whole
from tests.simulation.faults import Harm
from tests.simulation.invariants import INVARIANTS, Leaks, check_path, check_quorum
from tests.simulation.people import PersonActor
from tests.simulation.researchers import ResearcherActor
from tests.simulation.trace import Trace
from tests.simulation.world import FaultLog, Size, World

T = TypeVar("T")
_User: TypeAlias = ClientActor | ResearcherActor | PersonActor
_MEMORY = Path("/dev/shm")
_PEACE_SECONDS = 240.0
_PEACE_PERIODS = 5
"""So long after the last fault everybody must have got a result."""
_WORK_SECONDS = 60.0
_REST_SECONDS = 240.0
_REST_CHECKS = 48
_IDLE_STEPS = 10
_IDLE_SECONDS = 150.0
"""Longer than any stream waits for its next request."""


@dataclass(frozen=True)
class Report:
    """What one run gave."""

    seed: int
    digest: str
    steps: int
    events: int
    failures: list[str]
    faults: Counter[str]
    checks: Counter[str]
    counts: Counter[str]
    last: list[str] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """How a run goes: its network, its steps, and how often a step does harm."""

    size: Size | None = None
    """None: as the seed draws it."""
    steps: int = 16
    harm: float = 0.6
    quiet: float = 0.3
    """The share of runs that end by waiting until all that was used is given back."""


def simulate(seed: int, plan: Plan | None = None, *, echo: bool = False) -> Report:
    """Run the network of one seed; the same seed gives the same report, always."""
    plan = plan or Plan()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    trace = Trace(echo=echo)
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    memory = _MEMORY if _MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="simulation", dir=memory))
    handler = FaultLog(trace)
    logger = logging.getLogger("fogbank")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        world = World(seed, folder, trace, plan.size or Size.drawn(seed))
        with cheap(), without_threads(seed):
            trio.run(partial(_run, world, plan), clock=MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        shutil.rmtree(folder)
        gc.set_threshold(*thresholds)
        # The network is one great cycle.
        gc.collect()
    return Report(
        seed,
        trace.digest(),
        trace.counts["steps"],
        trace.events,
        trace.failures,
        trace.faults,
        trace.checks,
        trace.counts,
        list(trace.last),
    )


@contextmanager
def without_threads(seed: int) -> Iterator[None]:
    """Have what would wait in a thread done by the process at once, and secrets follow the seed."""

    async def run_sync(function: Callable[..., T], *args: object, **_: object) -> T:
        actor = PROCESS.get()
        assert actor is not None
        return await actor.on_disk(function, *args)

    secrets = SimpleNamespace(token_bytes=Chance(seed, "secrets").randbytes)
    with (
        patch.object(trio.to_thread, "run_sync", run_sync),
        patch.object(lane_shell, "secrets", secrets),
        patch.object(store_shell, "secrets", secrets),
    ):
        yield


async def _run(world: World, plan: Plan) -> None:
    world.populate()
    world.trace.counts["nodes"] += len(world.actors)
    world.on_path = partial(check_path, world)
    world.on_document = partial(check_quorum, world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.wire.carry)
        for actor in world.actors:
            nursery.start_soon(_boot, actor)
        world.start_soon = nursery.start_soon
        harm = Harm(world, nursery)
        for _ in range(plan.steps):
            await trio.sleep(world.rng.uniform(2, 8))
            if world.rng.once_in(plan.harm):
                harm.draw()
            _check(world)
            if world.trace.failures:
                break
        else:
            harm.end()
            await _peace(world, plan)
        nursery.cancel_scope.cancel()


async def _boot(actor: Actor) -> None:
    await trio.sleep(actor.chance.uniform(0.0, 1.0))
    await actor.run()


def _check(world: World) -> None:
    world.wire.tick()
    world.trace.counts["steps"] += 1
    for name, invariant in INVARIANTS.items():
        world.trace.checks[name] += 1
        invariant(world)


async def _quiet(world: World) -> None:
    """Clients end their work; some minutes later nothing may be left of it."""
    world.busy = False
    await trio.sleep(_WORK_SECONDS)
    leaks = Leaks(world)
    for _ in range(_IDLE_STEPS):
        await trio.sleep(_IDLE_SECONDS / _IDLE_STEPS)
        _check(world)
    leaks.check()
    for name, log in world.tasks.logs.items():
        if not log.ends:
            world.trace.fail("each accepted task ends once", f"{name} has not ended: {log}")


async def _feed(world: World, hungry: list[_User]) -> list[_User]:
    """Wait for each of them to get a result; return who has none after a while."""
    before = {actor.name: actor.successes for actor in hungry}
    deadline = trio.current_time() + _PEACE_SECONDS
    while hungry and trio.current_time() < deadline and not world.trace.failures:
        await trio.sleep(5.0)
        _check(world)
        hungry = [actor for actor in hungry if actor.successes == before[actor.name]]
    return hungry


async def _rest(world: World) -> None:
    """Have people pay no more; once nothing is on its way, all tokens are in their wallets."""
    people = world.people()
    if not people or world.trace.failures:
        return
    world.is_trading = False
    for _ in range(_REST_CHECKS):
        await trio.sleep(_REST_SECONDS / _REST_CHECKS)
        for person in people:
            person.look()
        if all(person.is_idle for person in people):
            _check(world)
            credit_is_whole(world)
            return
    busy = [person.name for person in people if not person.is_idle]
    world.trace.fail(LOST, f"{busy} do not come to rest")


async def _peace(world: World, plan: Plan) -> None:
    """After the last fault: everybody gets a result, then all that was used is given back."""
    hungry, periods = world.users(), _PEACE_PERIODS
    while hungry and periods:
        periods -= 1
        misled = {actor.name: actor.misled for actor in hungry}
        hungry = await _feed(world, hungry)
        # By chance a client may ask a lying worker, who costs 30 s, each time.
        if any(actor.misled == misled[actor.name] for actor in hungry):
            break
    for actor in hungry:
        seconds = (_PEACE_PERIODS - periods) * _PEACE_SECONDS
        world.trace.fail("recovers", f"{actor} gets no result in {seconds:.0f} s of peace")
    world.trace.checks["recovers"] += 1
    await _rest(world)
    if world.rng.once_in(plan.quiet):
        await _quiet(world)
    world.trace.counts["tasks"] += len(world.tasks.logs)
    world.trace.counts["tasks done"] += sum(actor.successes for actor in world.clients())
    world.trace.counts["scripts done"] += sum(actor.scripts for actor in world.clients())
