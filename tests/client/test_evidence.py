"""What is kept of workers that were proven wrong (spec/12 §4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogbank.client.verification.evidence_shell import Evidence
from fogbank.relay.job.attestation import Leaf, Proof
from fogbank.relay.keys import show_id
from fogbank.sandbox.files_shell import write_atomic
from tests.client.attesting import Witness, right

LIAR, *HONEST = (Witness(name) for name in ("liar", "one", "two", "three", "four", "five"))
LIE, TRUTH = right(b"43\n"), right()


def keep(evidence: Evidence, witness: Witness = LIAR, reason: str = "2 others agreed") -> None:
    others = [each.proof(TRUTH) for each in HONEST]
    evidence.keep(witness.identity, reason, witness.proof(LIE), others)


def test_a_worker_stays_wrong_with_its_evidence_until_it_is_forgiven(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "wrong")
    assert evidence.wrong() == frozenset()
    assert not evidence.forgive(LIAR.identity)
    keep(evidence)
    again = Evidence(tmp_path / "wrong")
    assert again.wrong() == {LIAR.identity}
    (found,) = again.convictions()
    assert found.reason == "2 others agreed"
    files = {path.name: path.read_bytes() for path in found.folder.glob("*.attestation")}
    own = Proof.decode(files["wrong.attestation"])
    assert own.verify() == LIAR.identity
    others = [Proof.decode(files[f"agreed-{number}.attestation"]) for number in range(1, 5)]
    assert [each.verify() for each in others] == [each.identity for each in HONEST[:4]]
    for other in others:
        assert other.shown[Leaf.INPUT][1] == own.shown[Leaf.INPUT][1]
        assert other.shown[Leaf.STDOUT][1] != own.shown[Leaf.STDOUT][1]
    assert len(files) == 5
    assert again.forgive(LIAR.identity)
    assert again.wrong() == frozenset()


def test_the_first_evidence_stands(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    keep(evidence)
    keep(evidence, reason="another time")
    assert [each.reason for each in evidence.convictions()] == ["2 others agreed"]


def test_a_kill_leaves_a_whole_folder_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each file it writes; afterwards it can be written."""
    evidence = Evidence(tmp_path)
    module = "fogbank.client.verification.evidence_shell.write_atomic"
    for step in range(6):
        left = step

        def write(path: Path, data: bytes, mode: int) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            write_atomic(path, data, mode)

        monkeypatch.setattr(module, write)
        with pytest.raises(KeyboardInterrupt):
            keep(evidence)
        assert Evidence(tmp_path).wrong() == frozenset()
    monkeypatch.setattr(module, write_atomic)
    keep(evidence)
    assert Evidence(tmp_path).wrong() == {LIAR.identity}


def test_a_damaged_reason_frees_nobody(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    keep(evidence)
    (tmp_path / show_id(LIAR.identity) / "why.json").write_text("{")
    (tmp_path / "something else").mkdir()
    assert evidence.wrong() == {LIAR.identity}
    assert [each.reason for each in evidence.convictions()] == ["its file is damaged"]
