"""`fog attestation` as its users use it (spec/12 §1.3, §4)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fogbank.cli.app import app
from fogbank.client.verification.evidence_shell import Evidence
from fogbank.relay.job.attestation import Attestation, Leaf, Proof, check
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.statement import Ended, statement
from fogbank.relay.keys import show_id
from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task
from fogbank.sandbox.wat import module_from_file
from tests.client.attesting import ENGINE, NOW, Witness, right
from tests.system import networks, programs

WORKER, LIAR = Witness("worker"), Witness("liar")


def fog(*arguments: str | Path, home: Path | None = None) -> Result:
    environment = {"FOGBANK_HOME": str(home or "/nonexistent")}
    return CliRunner().invoke(app, ["attestation", *map(str, arguments)], env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "1.attestation"
    path.write_bytes(WORKER.proof(right()).encode())
    return path


def said(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    fields: dict[str, Any] = json.loads(result.stdout)
    assert fields["schema"] == "fogbank.attestation/1"
    return fields


def test_it_is_shown_and_verified(file: Path) -> None:
    shown = said(fog("show", file, "--json"))
    assert not shown["verified"]
    verified = said(fog("verify", file, "--json"))
    assert verified["verified"]
    assert verified["worker"] == show_id(WORKER.identity)
    assert verified["outcome"] == {"name": "completed", "exit_code": 0}
    assert verified["stdout"]["bytes"] == len(right().stdout)
    assert (verified["fuel"], verified["engine"]) == (1000, ENGINE)
    words = fog("verify", file).stdout
    assert show_id(WORKER.identity) in words
    assert "completed" in words


def test_it_is_held_against_what_the_user_has(file: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "output", tmp_path / "other"
    output.write_bytes(b"42\n")
    other.write_bytes(b"43\n")
    name = show_id(WORKER.identity)
    assert fog("verify", file, "--stdout", output, "--worker", name).exit_code == 0
    wrong = fog("verify", file, "--stdout", other)
    assert (wrong.exit_code, wrong.stdout) == (125, "")
    assert "its stdout is another" in wrong.stderr
    assert fog("verify", file, "--worker", show_id(LIAR.identity)).exit_code == 125
    program = tmp_path / "other.wat"
    program.write_text('(module (func (export "_start")))')
    assert "its module is another" in fog("verify", file, "--module", program).stderr


def test_a_part_is_proven_without_the_others(file: Path, tmp_path: Path) -> None:
    part, output = tmp_path / "part", tmp_path / "output"
    output.write_bytes(b"42\n")
    assert fog("disclose", file, part, "stdout", "engine").exit_code == 0
    fields = said(fog("verify", part, "--stdout", output, "--json"))
    assert set(fields) == {"schema", "verified", "time", "worker", "stdout", "engine"}
    refused = fog("disclose", part, tmp_path / "more", "input")
    assert refused.exit_code == 125
    assert "does not show: input" in refused.stderr
    assert "does not show its stderr" in fog("verify", part, "--stderr", output).stderr
    assert "is no part" in fog("disclose", file, part, "answer").stderr


@pytest.mark.parametrize("at", [60, 200, -1])
def test_a_changed_file_is_refused(at: int, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    refused = fog("verify", file)
    assert (refused.exit_code, refused.stdout) == (125, "")
    assert refused.stderr.startswith("fog: ")


class Ran:
    """What a worker attested that ran a real program on some input."""

    def __init__(self, folder: Path, text: str, result: TaskResult, engine: str = "") -> None:
        self.program = folder / "program.wat"
        self.program.write_text(text)
        self.file = folder / "ran.attestation"
        module = module_from_file(self.program.read_bytes())
        task = Task(("program.wat", "-x"), stdin=b"input", limits=LIMITS)
        digest = hashlib.sha256(module).digest()
        answer = WORKER.answer(result, task, engine or engine_class(), digest)
        outputs = answer.stdout, answer.stderr
        ended = Ended(answer.outcome, answer.exit_code, answer.fuel, *outputs)
        said = statement(digest, task, engine or engine_class(), ended)
        assert answer.attestation is not None
        proof = check(Attestation.decode(answer.attestation), said, WORKER.identity, NOW)
        self.file.write_bytes(proof.encode())

    def again(self, *options: str, stdin: bytes = b"input") -> tuple[int, bytes, str]:
        words: list[str | Path] = [
            "attestation",
            "rerun",
            "--json",
            self.file,
            self.program,
            *options,
        ]
        came = networks.fog(*words, stdin=stdin)
        return came.returncode, came.stdout, came.stderr.decode()


LIMITS = Limits(fuel=10**6, memory=1 << 24, wall_seconds=20.0, output=1000)


def fuel_of(ran: Ran) -> int:
    """What the program takes here: `fog check` tells it."""
    came = networks.fog("check", "--json", ran.program, "--", "-x", stdin=b"input")
    return int(json.loads(came.stdout)["fuel"])


def test_who_has_the_task_finds_out_who_told_the_truth(tmp_path: Path) -> None:
    came = TaskResult(Outcome.COMPLETED, 7, 0, stdout=b"input")
    fuel = fuel_of(Ran(tmp_path, programs.COPY, came))
    code, said, why = Ran(tmp_path, programs.COPY, replace(came, fuel=fuel)).again("--", "-x")
    assert (code, json.loads(said)["right"]) == (0, True), why
    for lie, part in (
        (replace(came, fuel=fuel + 1), "fuel"),
        (replace(came, fuel=fuel, stdout=b"a lie"), "stdout"),
        (replace(came, fuel=fuel, exit_code=0), "outcome"),
    ):
        code, said, _ = Ran(tmp_path, programs.COPY, lie).again("--", "-x")
        fields = json.loads(said)
        assert (code, fields["right"], fields["wrong"]) == (1, False, [part])
        assert fields["worker"] == show_id(WORKER.identity)


def test_nothing_is_told_of_another_task_or_class_or_of_a_shortage(tmp_path: Path) -> None:
    came = TaskResult(Outcome.COMPLETED, 7, 5, stdout=b"input")
    ran = Ran(tmp_path, programs.COPY, came)
    assert "another input" in ran.again("--", "-x", stdin=b"inputs")[2]
    ran.program.write_text(programs.TRAP)
    assert "another program" in ran.again("--", "-x")[2]
    other = Ran(tmp_path, programs.COPY, came, "another class")
    assert "engine class" in other.again("--", "-x")[2]
    code, said, why = Ran(tmp_path, programs.TRAP, came).again("--", "-x")
    assert (code, said) == (125, b"")
    assert "shortage" in why
    agreed = Ran(tmp_path, programs.TRAP, TaskResult(Outcome.TRAP, fuel=12345))
    assert agreed.again("--", "-x")[0] == 0


def test_who_was_wrong_is_listed_until_forgiven(tmp_path: Path) -> None:
    assert fog("wrong", home=tmp_path).stdout == ""
    own, other = LIAR.proof(right(b"43\n")), WORKER.proof(right())
    Evidence(tmp_path / "wrong").keep(LIAR.identity, "another agreed", own, [other])
    rows = [json.loads(line) for line in fog("wrong", "--json", home=tmp_path).stdout.splitlines()]
    assert [(row["worker"], row["reason"]) for row in rows] == [
        (show_id(LIAR.identity), "another agreed")
    ]
    kept = Path(rows[0]["folder"])
    assert said(fog("verify", kept / "wrong.attestation", "--json"))["worker"] == rows[0]["worker"]
    assert Proof.decode((kept / "agreed-1.attestation").read_bytes()).shown.keys() == set(Leaf)
    assert "another agreed" in fog("wrong", home=tmp_path).stdout
    assert fog("forgive", rows[0]["worker"], home=tmp_path).exit_code == 0
    assert fog("wrong", home=tmp_path).stdout == ""
    assert fog("forgive", rows[0]["worker"], home=tmp_path).exit_code == 125


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--replicas", "0"), "1 to 16"),
        (("--replicas", "3", "--quorum", "1"), "both win"),
        (("--replicas", "2", "--quorum", "3"), "both win"),
        (("--quorum", "2"), "give both"),
        (("--verify", "nothing.wasm"), "nothing.wasm"),
    ],
)
@pytest.mark.parametrize("command", [["run"], ["map", "--array", "1"]], ids=["run", "map"])
def test_numbers_that_decide_nothing_get_a_sentence(
    command: list[str], options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.wat"
    program.write_text('(module (func (export "_start")))')
    environment = {"FOGBANK_HOME": str(tmp_path / "home")}
    arguments = [*command, *options, str(program)]
    answer = CliRunner().invoke(app, arguments, env=environment, input="")
    assert answer.exit_code == 125
    assert words in answer.stderr
