"""`fog worker why`: why there is no work, and what to do (spec/10 §2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogbank.directory.consensus import Consensus
from fogbank.directory.descriptor import Role
from fogbank.nodes.home import Settings
from fogbank.nodes.status import Contact, Observed, Publication, Reply, make_status
from fogbank.nodes.why import Case, Finding
from fogbank.nodes.why_worker import explain_worker
from tests.directory.factory import make_synthetic

SYNTHETIC = make_synthetic()
CONSENSUS, NETWORK = SYNTHETIC.consensus, SYNTHETIC.network.document
ME = SYNTHETIC.workers[0]
NOW = float(CONSENSUS.valid_after + 10)
SETTINGS = Settings(Role.WORKER, ME.name)
TAKEN = (Publication("auth0", Reply.TAKEN, int(NOW) - 5),)
LINKED = (Contact("relay1", True), Contact("relay2", False), Contact("relay3", True))


def case(
    contacts: tuple[Contact, ...] = LINKED,
    consensus: Consensus | None = CONSENSUS,
    *,
    leaving: float = 0.0,
    ended: bool = False,
) -> Case:
    observed = Observed(ME.identity, 3, CONSENSUS, TAKEN, contacts, leaving=leaving)
    times = NOW - 3600, NOW, 10.0
    told = make_status(observed, "worker", ME.name, "1", times, ended=ended)
    return Case("/w", SETTINGS, ME.identity, NETWORK, NOW, told, consensus)


def found(asked: Case, topic: str) -> Finding:
    (finding,) = [each for each in explain_worker(asked) if each.topic == topic]
    return finding


def changed(**fields: object) -> Consensus:
    """The consensus, with another entry of this worker; without one if it has no fields."""
    entries = tuple(
        replace(entry, **fields) if entry.identity == ME.identity else entry  # type: ignore[arg-type]
        for entry in CONSENSUS.entries
        if fields or entry.identity != ME.identity
    )
    return replace(CONSENSUS, entries=entries)


def test_when_all_is_well_every_line_says_so() -> None:
    findings = explain_worker(case())
    topics = ["process", "consensus", "descriptor", "Running", "contacts", "work"]
    assert [each.topic for each in findings] == topics
    assert all(each.well for each in findings)
    assert "relay1, relay3" in found(case(), "contacts").sentence
    assert "Not linked now, and tried again: relay2" in found(case(), "contacts").sentence


def test_one_that_is_leaving_says_until_when() -> None:
    finding = found(case(leaving=NOW + 59.5), "work")
    assert not finding.well
    assert "takes no new work, and ends in 1 min" in finding.sentence
    again = found(case(consensus=changed(services=())), "work")
    assert not again.well
    assert "until the next consensus" in again.sentence


@pytest.mark.parametrize(
    ("contacts", "words"),
    [((), "no contact relay yet"), ((Contact("relay1", False),), "nobody can reach it")],
)
def test_one_that_nobody_can_reach(contacts: tuple[Contact, ...], words: str) -> None:
    finding = found(case(contacts), "contacts")
    assert not finding.well
    assert words in finding.sentence


def test_one_that_is_not_listed() -> None:
    assert (
        "no longer accept its engine class" in found(case(consensus=changed()), "Running").sentence
    )
    revoked = replace(changed(), revoked=(ME.identity,))
    sentence = found(case(consensus=revoked), "Running").sentence
    assert "fog worker init" in sentence
    assert "does not run" in found(case(ended=True), "Running").sentence
    assert "fog worker run --dir /w" in found(case(ended=True), "process").sentence
    assert [each.topic for each in explain_worker(case(ended=True))] == [
        *("process", "consensus", "Running")
    ]
