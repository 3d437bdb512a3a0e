"""Which workers of a consensus may run a job whose answers are compared (spec/12 §2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from fogbank.client.errors import NoPath
from fogbank.client.scheduling.words import Candidate
from fogbank.client.verification.apart import Apart, Level
from fogbank.client.verification.evidence_shell import Evidence
from fogbank.directory.entries import Entry, Flag
from fogbank.nodes.job_spec import Wanted
from fogbank.nodes.verification import ApartReach, open_court
from fogbank.relay.keys import NodeId


def worker(number: int, engine: str = "common", speed: int = 100, *families: bytes) -> Entry:
    flags = Flag.WORKER | Flag.RUNNING | Flag.VALID
    named = tuple(family.ljust(32, b".") for family in families)
    return Entry(
        bytes((number,)) * 32, f"w{number}", flags, (), bytes(32), named,
        fuel_rate=speed, cores=1, engine=engine,
    )  # fmt: skip


@dataclass
class FakeUser:
    """A consensus, in which worker n has the contacts that `contacts` says."""

    entries: list[Entry]
    evidence: Evidence
    contacts_of: dict[NodeId, set[bytes]] = field(default_factory=dict)

    @property
    def topology(self) -> Any:
        return self

    def workers(self) -> tuple[Entry, ...]:
        wrong = self.evidence.wrong()
        return tuple(each for each in self.entries if each.identity not in wrong)

    def contacts(self, entry: Entry) -> list[Entry]:
        shared = {b"a", b"b", b"c"}
        named = self.contacts_of.get(entry.identity, shared)
        return [replace(entry, identity=each.ljust(32, b".")) for each in sorted(named)]

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(each.identity, each.fuel_rate, 1) for each in self.workers())


def reach(user: FakeUser, wanted: int = 2, least: int = 2) -> ApartReach:
    given = cast(Any, user)
    return ApartReach(given, given, Apart(wanted, least))


def is_enough(found: ApartReach) -> bool:
    return found.is_enough


def names(found: ApartReach) -> set[int]:
    return {each.identity[0] for each in found.candidates()}


def test_the_class_with_most_capacity_runs_all_copies(tmp_path: Path) -> None:
    entries = [worker(1), worker(2), worker(3, "fast", 500), worker(4), worker(5, "rare", 50)]
    user = FakeUser(entries, Evidence(tmp_path))
    found = reach(user)
    assert (found.engine, names(found)) == ("fast", {3})
    assert not is_enough(found)
    user.entries = [each for each in entries if each.engine != "fast"]
    assert (reach(user).engine, names(reach(user))) == ("common", {1, 2, 4})


def test_a_newer_consensus_is_taken_up_and_who_was_wrong_left_out(tmp_path: Path) -> None:
    user = FakeUser([worker(1), worker(2), worker(3, "common", 100, b"f")], Evidence(tmp_path))
    found = reach(user)
    assert is_enough(found)
    user.entries = [worker(3, "common", 100, b"f"), worker(4, "common", 100, b"f")]
    assert names(found) == {3, 4}
    assert not is_enough(found)
    assert found.apart.conflict(worker(3).identity, worker(4).identity)
    # Who is gone may still be at work on a task.
    assert not found.apart.conflict(worker(1).identity, worker(4).identity)


def test_contacts_count_as_far_as_the_network_has_room(tmp_path: Path) -> None:
    user = FakeUser([worker(number) for number in range(1, 5)], Evidence(tmp_path))
    assert reach(user).apart.level is Level.FAMILIES
    user.contacts_of = {worker(1).identity: {b"a", b"b", b"d"}}
    assert reach(user).apart.level is Level.SETS
    user.contacts_of = {worker(1).identity: {b"x", b"y", b"z"}}
    found = reach(user)
    assert found.apart.level is Level.CONTACTS
    assert found.apart.conflict(worker(2).identity, worker(3).identity)
    assert not found.apart.conflict(worker(1).identity, worker(3).identity)


async def court(user: FakeUser, wanted: Wanted) -> list[str]:
    said: list[str] = []
    given = cast(Any, user)
    async with open_court(given, given, b"\0asm", wanted, 5, said.append) as opened:
        assert opened.verification is not None
    return said


def test_a_user_is_told_what_the_network_cannot_give(tmp_path: Path) -> None:
    user = FakeUser([worker(1), worker(2), worker(3)], Evidence(tmp_path))
    (sentence,) = trio.run(court, user, Wanted(3, 2))
    assert "very small" in sentence
    assert trio.run(court, user, Wanted(1, 1)) == []
    with pytest.raises(NoPath, match="fewer workers"):
        trio.run(court, user, Wanted(5, 4))
    with pytest.raises(ValueError, match="both win"):
        trio.run(court, user, Wanted(4, 2))
