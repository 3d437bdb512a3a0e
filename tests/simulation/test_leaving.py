"""An authority is replaced while people pay: the departed one serves its series (spec/09 §2.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from fogbank.directory.addresses import Address
from fogbank.directory.consensus import Consensus, Flag
from fogbank.directory.mint.state import MintState
from fogbank.directory.network import (
    AuthorityPin,
    SignedNetwork,
    dump_network,
)
from fogbank.relay.keystore_shell import KeyStore
from tests.simulation import run
from tests.simulation.actors import PORT, Actor, AuthorityActor
from tests.simulation.credit import credit_holds
from tests.simulation.run import Plan, simulate
from tests.simulation.world import Size, World

PATIENCE = 400
"""Seconds of the simulated network's time."""


class Scene:
    """A network of four authorities and one to come, with people who pay each other."""

    def __init__(self, world: World) -> None:
        world.populate()
        self.world = world
        self.leaver, self.sick, self.third, self.fourth = world.authorities()
        self.newcomer = AuthorityActor(world, "authority4", "127.5.0.1")
        self.newcomer.create(None, 0.0)

    @property
    def consensus(self) -> Consensus:
        shell = self.third.shell
        assert shell is not None
        assert shell.core.consensus is not None
        return shell.core.consensus

    def is_there(self) -> bool:
        """Whether there is a consensus with the first series in it."""
        shell = self.third.shell
        held = shell and shell.core.consensus
        return bool(held and held.mint and held.mint.series)

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        for _ in range(PATIENCE):
            await trio.sleep(1)
            credit_holds(self.world)
            if is_so():
                return
        raise AssertionError(f"not in {PATIENCE} s: {what}")

    def amend(self) -> None:
        """Hand the next version in, in which the newcomer has the leaver's place."""
        network = self.world.network
        pins = [pin for pin in network.authorities if pin.identity != self.leaver.identity]
        address = Address(self.newcomer.host, PORT)
        pins.append(AuthorityPin(self.newcomer.identity, self.newcomer.name, (address,)))
        document = replace(
            network, version=2, authorities=tuple(pins), in_force=int(self.world.now()) + 20
        )
        signed = SignedNetwork(document)
        for actor in (self.sick, self.third, self.fourth, self.newcomer):
            signed = signed.sign(KeyStore.open(actor.folder / "keys").identity_key())
        for actor in (*self.world.authorities(), self.newcomer):
            actor.home().set_network(dump_network(signed))

    def take_down(self, actor: Actor) -> None:
        actor.down += 1
        actor.crash()

    @property
    def received(self) -> int:
        return sum(person.successes for person in self.world.people())


async def replaced(world: World, _plan: Plan) -> None:
    """One of four is replaced and serves on; another one is down."""
    scene = Scene(world)
    leaver = scene.leaver
    async with trio.open_nursery() as nursery:
        world.start_soon = nursery.start_soon
        nursery.start_soon(world.wire.carry)
        for actor in world.actors:
            nursery.start_soon(actor.run)
        await scene.until(scene.is_there, "a series")
        scene.amend()
        nursery.start_soon(scene.newcomer.run)
        await scene.until(lambda: bool(scene.consensus.departed()), "the departed one is listed")
        (entry,) = scene.consensus.departed()
        assert entry.identity == leaver.identity
        assert not entry.flags & Flag.AUTHORITY
        assert leaver.identity not in scene.consensus.voters
        assert entry not in scene.consensus.relays()
        # Did it extend circuits, anybody could stand behind its link and speak for it.
        assert leaver.node is not None
        assert leaver.node._config.policy is None

        scene.take_down(scene.sick)
        before = scene.received
        await scene.until(lambda: scene.received > before + 2, "payments by the departed one")

        # Without it too few are left, so it is what made them.
        scene.take_down(leaver)
        await trio.sleep(60)
        before = scene.received
        await trio.sleep(60)
        assert scene.received == before
        # Nothing but its keys and ledgers tells a machine that is made anew what it was.
        (leaver.folder / "network.1.toml").unlink()
        leaver.rise()
        await scene.until(lambda: scene.received > before, "payments once it is back")

        # Once no series needs it, the process ends by itself.
        authority = leaver.authority
        assert authority is not None
        assert authority.observe().leaving > world.now()
        authority._leaving._state = MintState
        lives = leaver.lives
        await scene.until(lambda: leaver.lives > lives, "its end")
        world.trace.counts["left"] += 1
        nursery.cancel_scope.cancel()


def test_a_departed_authority_serves_its_series_while_another_one_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_run", replaced)
    report = simulate(4, Plan(Size(4, 5, 0, 0, people=2, calm=True)))
    assert not report.failures, (report.failures, report.last[-40:])
    assert report.counts["left"] == 1
