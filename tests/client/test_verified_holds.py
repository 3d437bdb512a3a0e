"""Answers of workers that hold sessions are compared, whenever their client ends (spec/12 §2)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.scheduling.words import Replicas
from fogbank.client.verification.apart import Apart
from fogbank.client.verification.inspector_shell import Inspecting
from fogbank.client.verification.jury import Rule
from fogbank.client.verification.panel import Panel
from fogbank.client.verification.words import Verification
from fogbank.sandbox.data import whole
from tests.client.attesting import NOW, Witness
from tests.client.holders import Remembered
from tests.client.test_arrays_at_workers import Machine, Machines, array
from tests.relay.job_fakes import MODULE

RULE = Rule(2, 2, 7)
COUNT = 12


@asynccontextmanager
async def cloud_in(folder: Path, count: int = 3) -> AsyncIterator[Machines]:
    async with trio.open_nursery() as nursery:
        witnesses = [Witness(f"w{number}") for number in range(1, count + 1)]
        made = {
            each.identity: Machine(each.name, folder / each.name, nursery, attest=each.attest)
            for each in witnesses
        }
        for machine in made.values():
            await nursery.start(machine.live)
        cloud = Machines(())
        cloud.workers = made
        yield cloud
        nursery.cancel_scope.cancel()


def verification(cloud: Machines) -> Verification:
    apart = Apart(RULE.most, RULE.quorum)
    apart.update({each: frozenset() for each in cloud.workers}, lambda _: frozenset())
    inspector = Inspecting(hashlib.sha256(MODULE).digest(), lambda: NOW, "engine")
    replicas = Replicas(RULE.replicas, RULE.most, apart.conflict, Panel(RULE).judge)
    return Verification(replicas, inspector)


async def run(cloud: Machines, journal: Remembered, **more: Any) -> None:
    checks = verification(cloud)
    with trio.fail_after(3600):
        await array(cloud, journal, COUNT, 2, verification=checks, **more).run()


def check(cloud: Machines, journal: Remembered, *, again: int) -> None:
    """Each task was answered alike by two workers, and hardly any worker ran one twice."""
    assert sorted(journal.ends) == [*range(1, COUNT + 1)]
    for number, end in journal.ends.items():
        assert end.result is not None
        assert whole(end.result.stdout) == b"%d" % number
        assert len({reply.worker for reply in end.replies}) == RULE.quorum
    ran = Counter((name, args) for name, each in cloud.workers.items() for args in each.ran)
    assert sum(ran.values()) <= RULE.quorum * COUNT + again
    assert not journal.lanes
    assert all(machine.held.count == 0 for machine in cloud.workers.values())


@pytest.mark.parametrize("seconds", [1.3, 2.5, 4.1, 7.3])
async def test_a_client_that_ends_between_two_answers_loses_neither(
    seconds: float, autojump_clock: MockClock, tmp_path: Path
) -> None:
    """An answer is forgotten by its worker when its task has ended, and not before."""
    async with cloud_in(tmp_path) as cloud:
        journal = Remembered()
        for _ in range(30):
            with trio.move_on_after(seconds):
                await run(cloud, journal)
            await trio.sleep(1.1)
        await run(cloud, journal)
        check(cloud, journal, again=4)


async def test_attestations_are_kept_with_what_workers_hold(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Handed over, the workers killed and started again: what they signed before still holds."""
    async with cloud_in(tmp_path) as cloud:
        journal = Remembered()
        first = array(cloud, journal, COUNT, 2, verification=verification(cloud), durable=True)
        first.hand_over()
        await first.run()
        await trio.sleep(60)
        for machine in cloud.workers.values():
            await machine.die()
            await machine.nursery.start(machine.live)
        await run(cloud, journal)
        check(cloud, journal, again=4)
