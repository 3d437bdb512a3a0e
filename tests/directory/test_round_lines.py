"""What an operator reads of a round: one line, with who was missing and why (spec/10 §3)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from fogbank.directory.broadcast import Relayed
from fogbank.directory.effects import Effect, JournalVote, SendSignature, SendVote
from fogbank.directory.schedule import nth_round
from tests.directory.factory import START, make_network
from tests.directory.simulation import Simulation
from tests.directory.test_authority_shell import running
from tests.directory.test_rounds import garbled_vote, other_vote

FIRST = nth_round(make_network(4).document, 0)


def simulate(*down: int) -> Simulation:
    """All authorities but those of some indices, up before the first round."""
    sim = Simulation(make_network(4), random.Random(1))
    for index in {0, 1, 2, 3} - set(down):
        sim.at(START + 0.1, lambda index=index: sim.boot(index))  # type: ignore[misc]
    return sim


def line_of(sim: Simulation, index: int = 0, rounds: int = 1) -> str:
    """Run, and return an authority's line on the last of the rounds."""
    sim.run_until(nth_round(sim.network.document, rounds).opens + 0.3)
    core = sim.members[index].core
    assert core is not None
    assert core.summary in sim.members[index].logs
    assert "\n" not in core.summary
    return core.summary


def test_a_round_that_fails_says_who_was_missing_and_why() -> None:
    sim = simulate(2, 3)
    sim.run_until(START + 0.2)
    core = sim.members[0].core
    assert core is not None
    core.unreachable[sim.network.authorities[3].identity] = "127.4.0.1:9000: connection refused"
    assert line_of(sim) == (
        f"no consensus of {FIRST.valid_after}: votes 2/4 (missing: auth2 sent none, "
        "auth3 cannot be reached: 127.4.0.1:9000: connection refused); "
        "not signed: only 2 votes were agreed on; 3 are needed"
    )


def test_a_round_of_all_names_nobody() -> None:
    expected = f"consensus of {FIRST.valid_after}, 4 nodes: votes 4/4; signatures 4/4"
    assert line_of(simulate()) == expected


def test_one_that_is_late_is_told_from_one_that_is_silent() -> None:
    sim = simulate(1)

    def late(effect: Effect) -> list[tuple[float, Effect]]:
        return [(2.2 * sim.phase if isinstance(effect, SendVote) else 0.0, effect)]

    sim.members[3].filter = late
    line = line_of(sim)
    assert "auth1 sent none" in line
    assert "auth3 sent it too late" in line


def test_one_that_sends_two_votes_is_named() -> None:
    sim = simulate()

    def lie(effect: Effect) -> list[tuple[float, Effect]]:
        out: list[tuple[float, Effect]] = [(0.0, effect)]
        if isinstance(effect, JournalVote):
            chain, body = other_vote(sim, 2, effect.valid_after)
            to = sim.network.authorities[0].identity
            out.append((0.0, SendVote(Relayed(to, chain, body), effect.valid_after)))
        return out

    sim.members[2].filter = lie
    assert "votes 3/4 (missing: auth2 sent two, and neither counts)" in line_of(sim)


def test_one_that_sends_garbage_is_named() -> None:
    sim = simulate()

    def garble(effect: Effect) -> list[tuple[float, Effect]]:
        if isinstance(effect, SendVote):
            return [(0.0, SendVote(garbled_vote(random.Random(2), effect.relayed), 0.0))]
        return [(0.0, effect)]

    sim.members[2].filter = garble
    assert "missing: auth2 sent garbage" in line_of(sim)


def test_one_that_votes_but_does_not_sign_is_named_once() -> None:
    sim = simulate()
    sim.members[2].filter = lambda effect: (
        [] if isinstance(effect, SendSignature) else [(0.0, effect)]
    )
    assert line_of(sim).endswith("votes 4/4; signatures 3/4 (missing: auth2 sent none)")


def test_one_that_came_late_says_so_of_itself() -> None:
    sim = simulate(3)
    sim.at(FIRST.begins + 0.5 * sim.phase, lambda: sim.boot(3))
    sim.run_until(FIRST.valid_after + 0.4)
    core = sim.members[3].core
    assert core is not None
    assert "joined this round too late to sign in it" in sim.members[3].logs


async def test_the_shell_knows_whom_it_cannot_reach(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as network:
        shells = [await network.start(index) for index in range(2)]
        await network.until(nth_round(network.document, 1).opens + 0.3)
        assert shells[0].unreachable == {"auth2": "nobody listens", "auth3": "nobody listens"}
        failed = [r for r in caplog.records if r.getMessage() == shells[0].summary]
        assert failed[0].levelname == "WARNING"
        assert "auth2 cannot be reached: nobody listens" in shells[0].summary
        await network.start(2)
        await network.start(3)
        await network.until(nth_round(network.document, 3).valid_after + 0.4)
        assert shells[0].unreachable == {}
        assert shells[0].summary.endswith("votes 4/4; signatures 4/4")
