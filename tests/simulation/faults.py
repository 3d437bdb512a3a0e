"""Faults: each draws its victims and its length, and is undone in its time.

A new one is a function in `FAULTS`: it does its harm and returns how long to wait and how to end
it, or None if it found nothing to harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio

from fogbank.directory.schedule import nth_round, round_at
from fogbank.relay.cells import CELL, Command, unpack_header
from tests.simulation.actors import Actor, AuthorityActor, Fuse, Moment, RelayActor
from tests.simulation.chance import Chance
from tests.simulation.raids import RAIDS, Raider, raid
from tests.simulation.wire import Tamper
from tests.simulation.world import TIMING, World

Undo: TypeAlias = Callable[[], None]
Fault: TypeAlias = Callable[[World], tuple[float, Undo] | None]

_RESTART_GRACE = 1.0


def _victim(world: World, *, among: list[Actor] | None = None) -> Actor | None:
    """Draw somebody; a second faulty authority is drawn seldom, as rounds then may fail."""
    actor = world.rng.choice(among or world.actors)
    if isinstance(actor, AuthorityActor):
        now = world.now()
        others = world.faulty_between(now - 5, now) - {actor.name}
        if others and world.rng.once_in(0.85):
            return None
    return actor


def crash(world: World) -> tuple[float, Undo] | None:
    """A process dies, and starts again later from what is on its disk."""
    actor = _victim(world)
    if actor is None or not actor.running or actor.down:
        return None
    seconds = world.rng.choice((0.01, 1.0, 10.0, 60.0)) * world.rng.uniform(0.5, 1.5)
    power = world.rng.once_in(0.3)
    kind = "power loss" if power else "crash"
    world.trace.fault(kind, f"{actor} for {seconds:.2f} s")
    return seconds, _down([actor], world, power=power)


def crash_at_disk(world: World) -> tuple[float, Undo] | None:
    """A worker, researcher or payer dies just before or just after something gets on its disk."""
    rng = world.rng
    among: list[Actor] = [*world.workers(), *world.researchers(), *world.people()]
    actor = rng.choice(among or world.actors)
    if not actor.running or actor.down:
        return None
    back = rng.choice((0.01, 1.0, 10.0, 60.0)) * rng.uniform(0.5, 1.5)
    count, moment = rng.choice((1, 2, 3, 5, 8, 13, 21)), rng.choice(list(Moment))
    world.trace.fault("crash at the disk", f"{actor}, {moment} use {count}, for {back:.2f} s")

    def strike() -> None:
        world.trace.counts["crashed at the disk"] += 1
        world.later(back, _down([actor], world, power=False))

    actor.arm(Fuse(count, moment, strike))
    return 60.0, actor.disarm


def crash_in_round(world: World) -> tuple[float, Undo] | None:
    """An authority dies in the midst of a round, and is back at once or a little later."""
    actor = world.rng.choice(world.authorities())
    this = round_at(world.network, world.now())
    if this.begins <= world.now():
        this = nth_round(world.network, this.number + 1)
    # Often just after its vote has left, so that it would be in time to send another one.
    phases = world.rng.uniform(0, 0.3) if world.rng.once_in(0.5) else world.rng.uniform(-0.5, 4)
    wait = this.begins - world.now() + phases * this.phase
    back = world.rng.choice((0.005, 0.05, 0.3))
    if wait < 0 or actor.down:
        return None
    power = world.rng.once_in(0.4)
    kind = "power loss in a round" if power else "crash in a round"
    world.trace.fault(kind, f"{actor} in {wait:.3f} s for {back} s")
    world.blame(actor)

    def crash_now() -> None:
        restart = _down([actor], world, power=power)

        def undo() -> None:
            restart()
            world.excuse(actor, _RESTART_GRACE)

        world.later(back, undo)

    world.later(wait, crash_now)
    return wait + back, _nothing


def _nothing() -> None:
    """Nothing is left to undo."""


def old_ledgers(world: World) -> tuple[float, Undo] | None:
    """An authority's ledgers are replaced by a backup of a while ago: one authority's at most.

    While that many lose their memory, as many others may lie (spec/09 §7.4).
    """
    forgetful = world.authorities()[world.market.forgetful]
    folder = forgetful.folder / "mint"
    if not world.people() or forgetful.down or not forgetful.running or not folder.is_dir():
        return None
    seconds, back = world.rng.uniform(5, 60), world.rng.choice((0.05, 1.0, 10.0))
    backup = [(path, path.read_bytes()) for path in _ledgers(folder) if "-shm" not in path.name]
    world.trace.fault("old ledgers", f"{forgetful} in {seconds:.2f} s for {back} s")

    def undo() -> None:
        if forgetful.down:
            return
        restart = _down([forgetful], world, power=False)

        def put_back() -> None:
            for path in _ledgers(folder):
                # Its inode is not given to the copy.
                path.rename(path.with_name(f"gone.{path.name}"))
            for path, data in backup:
                path.write_bytes(data)
            restart()

        world.later(back, put_back)

    return seconds, undo


def _ledgers(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name[0].isdecimal()]


def blackout(world: World) -> tuple[float, Undo] | None:
    """All nodes lose power at once, and are back one after the other."""
    seconds = world.rng.uniform(1, 40)
    actors = [actor for actor in world.actors if actor.running and not actor.down]
    world.trace.fault("blackout", f"for {seconds:.2f} s")
    return seconds, _down(actors, world, power=True)


def _down(actors: list[Actor], world: World, *, power: bool) -> Undo:
    for actor in actors:
        world.blame(actor)
        actor.down += 1
        actor.crash(power=power)

    def restart() -> None:
        for actor in actors:
            actor.rise()
            world.excuse(actor, _RESTART_GRACE)

    return restart


def partition(world: World) -> tuple[float, Undo] | None:
    """Some hosts are apart from the others."""
    rng = world.rng
    island = [actor for actor in world.actors if rng.once_in(0.2)]
    authorities = [actor for actor in island if isinstance(actor, AuthorityActor)]
    if rng.once_in(0.8):
        # Mostly so that rounds go on.
        island = [actor for actor in island if actor not in authorities[1:]]
        authorities = authorities[:1]
    if not island:
        return None
    cut = authorities if len(authorities) <= world.network.faulty else world.authorities()
    for actor in cut:
        world.blame(actor)
    hosts = frozenset(actor.host for actor in island)
    seconds = rng.choice((3.0, 20.0, 60.0)) * rng.uniform(0.5, 1.5)
    world.trace.fault("partition", f"{island} for {seconds:.2f} s")
    world.wire.islands.append(hosts)

    def heal() -> None:
        world.wire.heal(hosts)
        for actor in cut:
            world.excuse(actor, 3.0)

    return seconds, heal


def delay(world: World) -> tuple[float, Undo] | None:
    """All that comes from and goes to a host is late."""
    actor = _victim(world)
    if actor is None or actor.host in world.wire.slow:
        return None
    late = world.rng.choice((0.1, 0.6, 3.0))
    seconds = world.rng.uniform(3, 30)
    world.trace.fault("delay", f"{actor} by {late} s for {seconds:.2f} s")
    world.blame(actor)
    world.wire.slow[actor.host] = late

    def undo() -> None:
        del world.wire.slow[actor.host]
        world.excuse(actor, late * 3)

    return seconds, undo


def disk_full(world: World) -> tuple[float, Undo] | None:
    """Nothing can be written."""
    actor = _victim(world)
    if actor is None or actor.disk_full:
        return None
    seconds = world.rng.uniform(3, 60)
    world.trace.fault("disk full", f"{actor} for {seconds:.2f} s")
    world.blame(actor)
    actor.disk_full = True

    def undo() -> None:
        actor.disk_full = False
        # Started while its disk was full, it is soon started again.
        world.excuse(actor, 3.0)

    return seconds, undo


def skew(world: World) -> tuple[float, Undo] | None:
    """A clock is set wrong: by up to nine minutes, which nodes and clients must bear."""
    rng = world.rng
    actor = _victim(world)
    if actor is None:
        return None
    before = actor.skew
    by = rng.choice((0.3, 5.0, 60.0, 540.0)) * rng.uniform(-1, 1)
    seconds = rng.uniform(3, 40)
    world.trace.fault("clock skew", f"{actor} by {by:.2f} s for {seconds:.2f} s")
    world.blame(actor)
    actor.skew = before + by

    def undo() -> None:
        actor.skew -= by
        # Who was ahead has begun rounds to come, and waits for them.
        world.excuse(actor, max(by, 0.0) + TIMING.interval)

    return seconds, undo


def move(world: World) -> tuple[float, Undo] | None:
    """A machine that only dials out gets another address; often its own router alone knows of it.

    What it was connected to it loses without a word.
    """
    rng = world.rng
    actor = rng.choice([actor for actor in world.actors if not actor.listens] or world.actors)
    if actor.listens or not actor.running:
        return None
    is_told = rng.once_in(0.4)
    world.trace.fault("move", f"{actor}, which {'knows' if is_told else 'does not know'} of it")
    world.wire.lose(actor.host)
    if is_told:
        actor.place += "'"
    return 0.0, _nothing


def tampering(world: World) -> tuple[float, Undo] | None:
    """A relay flips, drops and repeats cells."""
    relays = [actor for actor in world.actors if isinstance(actor, RelayActor)]
    actor = world.rng.choice(relays)
    if actor.host in world.wire.tampering:
        return None
    seconds = world.rng.uniform(5, 40)
    share = world.rng.choice((0.02, 0.2))
    world.trace.fault("tampering", f"{actor} with {share} for {seconds:.2f} s")
    world.wire.tampering[actor.host] = _tamper(Chance(world.rng.random()), share)

    def undo() -> None:
        del world.wire.tampering[actor.host]

    return seconds, undo


def _tamper(chance: Chance, share: float) -> Tamper:
    kept: list[bytes] = []

    def tamper(cell: bytes) -> list[bytes]:
        if not chance.once_in(share):
            return [cell]
        match chance.below(4):
            case 0:
                at = chance.below(CELL)
                return [cell[:at] + bytes([cell[at] ^ 1 << chance.below(8)]) + cell[at + 1 :]]
            case 1:
                return []
            case 2:
                return [cell, cell]
            case _:
                kept.append(cell)
                del kept[:-8]
                # One of before, which is of any circuit of any link.
                old = chance.choice(kept)
                return [cell, old] if unpack_header(old)[1] == Command.RELAY else [cell]

    return tamper


def a_raid(world: World) -> tuple[float, Undo] | None:
    """Strangers flood a relay or an authority, in one of the ways of `RAIDS`."""
    rng = world.rng
    victim = rng.choice([actor for actor in world.actors if actor.listens])
    if victim.down:
        return None
    name = rng.choice(sorted(RAIDS))
    seconds = rng.uniform(3, 30)
    world.trace.fault(f"raid of {name}", f"{victim} for {seconds:.2f} s")
    raider = Raider(world, victim, Chance(rng.random()))
    scope = trio.CancelScope()

    async def go() -> None:
        with scope:
            await raid(raider, name)

    world.start_soon(go)
    return seconds, scope.cancel


FAULTS: dict[str, tuple[int, Fault]] = {
    "crash": (6, crash),
    "crash in a round": (2, crash_in_round),
    "crash at the disk": (4, crash_at_disk),
    "blackout": (1, blackout),
    "partition": (3, partition),
    "delay": (3, delay),
    "disk full": (2, disk_full),
    "old ledgers": (2, old_ledgers),
    "move": (3, move),
    "clock skew": (3, skew),
    "tampering": (3, tampering),
    "raid": (4, a_raid),
}
"""Each with the weight by which it is drawn."""


@dataclass
class Harm:
    """The faults of a run that last."""

    world: World
    nursery: trio.Nursery

    def __post_init__(self) -> None:
        self._lasting: dict[int, Undo] = {}
        self._count = 0

    def draw(self) -> None:
        """Do one fault, drawn from the seed."""
        world = self.world
        weights = [weight for weight, _ in FAULTS.values()]
        (name,) = world.rng.choices(list(FAULTS), weights)
        done = FAULTS[name][1](world)
        if done is not None:
            seconds, undo = done
            self._count += 1
            self._lasting[self._count] = undo
            self.nursery.start_soon(partial(self._undo_later, self._count, seconds))

    async def _undo_later(self, number: int, seconds: float) -> None:
        await trio.sleep(seconds)
        self._undo(number)

    def _undo(self, number: int) -> None:
        undo = self._lasting.pop(number, None)
        if undo is not None:
            undo()
            self.world.trace.note("undone", str(number))

    def end(self) -> None:
        """Undo all faults now."""
        for number in list(self._lasting):
            self._undo(number)
