"""`fog attestation` as its users use it (spec/12 §1.3, §4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fogbank.cli.app import app
from fogbank.client.verification.evidence_shell import Evidence
from fogbank.relay.job.attestation import Leaf, Proof
from fogbank.relay.keys import show_id
from tests.client.attesting import ENGINE, Witness, right

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
