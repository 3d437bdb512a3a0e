"""The sandbox room against spec/vectors: programs whose ends were worked out without its code."""

import json
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import WASMTIME, make_engine
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import REFUSALS, ModuleRefused, Outcome
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from tests.vectors import generated

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"
FILE: Any = json.loads((VECTORS / "07-sandbox.json").read_text(encoding="utf-8"))
PROGRAMS: list[dict[str, Any]] = FILE["programs"]
SPEC = (VECTORS.parent / "07-sandbox.md").read_text(encoding="utf-8")


def test_the_generator_gives_the_file() -> None:
    assert generated("sandbox") == FILE


@pytest.mark.parametrize("vector", PROGRAMS, ids=lambda vector: str(vector["title"]))
def test_every_program_ends_as_the_spec_says(vector: dict[str, Any]) -> None:
    limits = vector["limits"]
    task = Task(
        files=tuple((path, bytes.fromhex(data)) for path, data in vector["files"].items()),
        stdin=bytes.fromhex(vector["stdin"]),
        seed=bytes.fromhex(vector["seed"]),
        limits=Limits(limits["fuel"], limits["memory"], output=limits["output"]),
    )
    engine = make_engine()
    runner = Runner(engine)
    module = bytes.fromhex(vector["module"])
    if vector["outcome"] in REFUSALS:
        with pytest.raises(ModuleRefused) as info:
            compile_module(engine, module)
        assert info.value.outcome == vector["outcome"]
        return
    runner.load(compile_module(engine, module))
    result = runner.run(task)
    assert FILE["wasmtime"] == WASMTIME
    assert (result.outcome, result.exit_code) == (vector["outcome"], vector["exit_code"])
    assert whole(result.stdout).hex() == vector["stdout"]
    assert result.fuel == vector["fuel"]


@pytest.mark.parametrize("outcome", Outcome)
def test_the_spec_gives_every_outcome_its_value(outcome: Outcome) -> None:
    assert f"| {outcome.value} | {outcome.name} |" in SPEC
