"""What the journal keeps of a job's verification, for whoever goes on with it (spec/12)."""

from __future__ import annotations

import pytest

from fogbank.client.journal.errors import JournalError
from fogbank.client.patterns import Pattern
from fogbank.nodes.job_spec import JobSpec, Program, Wanted, keep
from fogbank.sandbox.data import Data

PROGRAM = Program(b"\0asm program", Pattern("p.wasm", b"d" * 32, ("a",)))
JUDGE = Program(b"\0asm judge", Pattern("j.wasm", b"j" * 32, (), (("table", b"1,2"),)))


@pytest.mark.parametrize(
    "wanted",
    [None, Wanted(3, 2), Wanted(1, 1, JUDGE), Wanted(5, 4, JUDGE, "/kept/here")],
    ids=["nothing", "replicas", "judge", "all"],
)
def test_whoever_goes_on_with_a_job_verifies_alike(wanted: Wanted | None) -> None:
    files: dict[str, Data] = {}
    kept = None if wanted is None else wanted.keep(files)
    spec = JobSpec("map", keep(PROGRAM, "program", files), 8, 5, verified=kept)
    again = JobSpec.load(spec.dump())
    assert again == spec
    loaded = None if again.verified is None else again.verified.load(files.__getitem__)
    if wanted is None or wanted.judge is None or loaded is None or loaded.judge is None:
        assert loaded == wanted
        return
    assert (loaded.replicas, loaded.quorum, loaded.attestations) == (
        wanted.replicas,
        wanted.quorum,
        wanted.attestations,
    )
    assert loaded.judge.sent == JUDGE.sent
    assert (loaded.judge.pattern.name, loaded.judge.pattern.files) == (
        "j.wasm",
        (("table", b"1,2"),),
    )


def test_folds_are_compared_and_not_judged() -> None:
    files: dict[str, Data] = {}
    assert Wanted(3, 2, JUDGE, "/kept").keep(files).of_folds() == Wanted(3, 2)
    assert Wanted(1, 1, JUDGE).keep(files).of_folds() is None


def test_a_damaged_spec_is_told() -> None:
    spec = JobSpec("map", keep(PROGRAM, "program", {}), 8, 5, verified=Wanted(3, 2).keep({}))
    with pytest.raises(JournalError, match="cannot be read"):
        JobSpec.load(spec.dump().replace('"quorum"', '"quora"'))
