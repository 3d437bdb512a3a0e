"""`fog relay why`: from what is known to what is wrong and what to do (spec/10 §2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogbank.directory.addresses import Address
from fogbank.directory.computation import STABLE_UPTIME
from fogbank.directory.consensus import Consensus, Flag
from fogbank.directory.descriptor import Role
from fogbank.directory.schedule import nth_round
from fogbank.nodes.home import Settings
from fogbank.nodes.status import Observed, Publication, Reply, Status, make_status
from fogbank.nodes.why import Case, Finding, explain
from tests.directory.factory import START, make_synthetic

SYNTHETIC = make_synthetic()
CONSENSUS, NETWORK = SYNTHETIC.consensus, SYNTHETIC.network.document
ME = SYNTHETIC.relays[0]
NOW = float(CONSENSUS.valid_after + 10)
SETTINGS = Settings(Role.RELAY, ME.name, ME.addresses)
TAKEN = (Publication("auth0", Reply.TAKEN, int(NOW) - 5),)


def status(
    *published: Publication, started: float = NOW - 3600, written: float = NOW, ended: bool = False
) -> Status:
    observed = Observed(ME.identity, 1, CONSENSUS, published or TAKEN)
    times = started, written, 10.0
    return make_status(observed, "relay", ME.name, "1", times, ended=ended)


def case(consensus: Consensus | None = CONSENSUS, told: Status | None = None) -> Case:
    return Case("/r", SETTINGS, ME.identity, NETWORK, NOW, told or status(), consensus)


def without_me(consensus: Consensus = CONSENSUS) -> Consensus:
    others = tuple(entry for entry in consensus.entries if entry.identity != ME.identity)
    return replace(consensus, entries=others)


def with_me(flags: Flag, since: int = START, bandwidth: int = 1_000_000) -> Consensus:
    """All relays old and fast but this one, which is as told."""
    entries = tuple(
        replace(entry, flags=flags, since=since, bandwidth=bandwidth)
        if entry.identity == ME.identity
        else replace(entry, since=CONSENSUS.valid_after - 3 * 86_400, bandwidth=20_000_000)
        for entry in CONSENSUS.entries
    )
    return replace(CONSENSUS, entries=entries)


def found(asked: Case, topic: str) -> Finding:
    (finding,) = [each for each in explain(asked) if each.topic == topic]
    return finding


def test_when_all_is_well_every_line_says_so() -> None:
    findings = explain(case())
    assert [each.topic for each in findings] == [
        *("process", "consensus", "descriptor", "Running", "Stable", "Fast", "Guard")
    ]
    assert all(each.well for each in findings)


def test_one_that_never_ran_is_told_to_start() -> None:
    finding = found(replace(case(), status=None), "process")
    assert not finding.well
    assert "fog relay run --dir /r" in finding.sentence


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (status(ended=True), "It ended at"),
        (status(written=NOW - 300), "told nothing since"),
    ],
)
def test_one_that_does_not_run_is_told_so_first(told: Status, words: str) -> None:
    findings = explain(case(without_me(), told))
    assert words in findings[0].sentence
    assert "fog relay run --dir /r" in findings[0].sentence
    assert {each.topic: each for each in findings}["Running"].sentence.endswith("does not run.")
    still_listed = found(case(told=told), "Running")
    assert not still_listed.well
    assert "not be for long" in still_listed.sentence


def test_without_a_consensus_the_reason_is_told() -> None:
    asked = replace(case(None), trouble="no authority gave a consensus")
    finding = found(asked, "consensus")
    assert not finding.well
    assert "no authority gave a consensus" in finding.sentence
    assert [each.topic for each in explain(asked)] == ["process", "consensus", "descriptor"]


def test_an_old_consensus_is_told_from_a_new_one() -> None:
    old = replace(case(), now=CONSENSUS.fresh_until + 31.0)
    assert "agreed on none since" in found(old, "consensus").sentence
    assert found(replace(case(), now=float(CONSENSUS.fresh_until)), "consensus").well


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("a descriptor was published 90 minutes from now: is its node's clock fast?", "NTP"),
        ("the address 10.0.0.1:9001 is not public", "addresses in node.toml"),
        ("this authority knows as many nodes as it can hold", "operators"),
    ],
)
def test_a_refusal_comes_with_its_reason_and_a_remedy(reason: str, remedy: str) -> None:
    told = status(Publication("auth2", Reply.REFUSED, int(NOW), reason))
    finding = found(case(told=told), "descriptor")
    assert not finding.well
    assert f"auth2: {reason}" in finding.sentence
    assert remedy in finding.sentence


def test_nobody_reached_and_nothing_tried_yet() -> None:
    unreachable = status(Publication("auth1", Reply.UNREACHABLE, int(NOW), "no route"))
    finding = found(case(without_me(), unreachable), "descriptor")
    assert "No authority can be reached (the last reason: no route)" in finding.sentence
    listed = found(case(without_me(), unreachable), "Running")
    assert "no authority has its descriptor" in listed.sentence
    fresh = replace(status(), published=())
    assert "just being published" in found(case(told=fresh), "descriptor").sentence


def test_one_that_authorities_do_not_reach_is_told_to_open_its_port() -> None:
    sentence = found(case(without_me()), "Running").sentence
    assert f"do not reach it at {ME.addresses[0]}" in sentence
    assert "firewall" in sentence


def test_one_too_many_at_its_address_is_told_who_is_there() -> None:
    here = ME.addresses[0].host
    entries = tuple(
        replace(entry, addresses=(Address(here, 9100 + number),))
        if entry.nickname in {f"relay{n}" for n in range(1, 5)}
        else entry
        for number, entry in enumerate(without_me().entries)
    )
    crowded = found(case(replace(without_me(), entries=entries)), "Running").sentence
    assert "At most 4 relays at one IP address" in crowded
    assert all(f"relay{number}" in crowded for number in range(1, 5))
    three = tuple(entry for entry in entries if entry.nickname != "relay4")
    sentence = found(case(replace(without_me(), entries=three)), "Running").sentence
    assert "do not reach it" in sentence


def test_one_that_has_just_come_up_is_told_to_wait_and_until_when() -> None:
    """Its first chance is the first round that begins after it started, and the one after that."""
    second = nth_round(NETWORK, 1)
    asked = case(without_me(), status(started=second.begins - 0.1))
    waiting = replace(asked, now=second.fresh_until - 1.0)
    assert "only just come up" in found(waiting, "Running").sentence
    late = replace(asked, now=second.fresh_until + 0.0)
    assert "do not reach it" in found(late, "Running").sentence


def test_one_that_is_revoked_is_told_so() -> None:
    revoked = replace(without_me(), revoked=(ME.identity,))
    assert "have revoked this identity" in found(case(revoked), "Running").sentence


def test_another_address_than_in_the_settings() -> None:
    moved = replace(SETTINGS, addresses=(Address("127.99.0.1", 9000),))
    finding = found(replace(case(), settings=moved), "Running")
    assert not finding.well
    assert "127.99.0.1:9000" in finding.sentence


def test_too_young_to_be_stable() -> None:
    young = with_me(Flag.RUNNING | Flag.FAST, since=CONSENSUS.valid_after - 7200)
    stable, guard = found(case(young), "Stable"), found(case(young), "Guard")
    assert (stable.well, guard.well) == (False, False)
    assert "the median relay for about 3 d" in stable.sentence
    assert "this one for about 2 h" in stable.sentence
    assert "4 d 22 h at the latest" in stable.sentence
    assert STABLE_UPTIME - 7200 == (4 * 24 + 22) * 3600
    assert guard.sentence == "A guard is both Stable and Fast: it lacks Stable."


def test_too_slow_to_be_fast() -> None:
    slow = with_me(Flag.RUNNING | Flag.STABLE, since=START)
    fast, guard = found(case(slow), "Fast"), found(case(slow), "Guard")
    assert "counts as 1 MB/s, and 10 MB/s are needed" in fast.sentence
    assert guard.sentence.endswith("it lacks Fast.")
    neither = with_me(Flag.RUNNING)
    assert found(case(neither), "Guard").sentence.endswith("it lacks Stable and Fast.")
