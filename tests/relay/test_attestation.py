"""Attestations (spec/12 §1): vectors by another way, what is shown, and what is not one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attestation import Attestation, Leaf, Proof, Signer, Statement, check
from fogbank.relay.job.statement import Ended, read_leaf, statement
from fogbank.relay.keys import Ed25519Key
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task
from tests.vectors import generated

SPEC = Path(__file__).resolve().parents[2] / "spec" / "vectors"
VECTORS: dict[str, Any] = json.loads((SPEC / "12-attestations.json").read_text())
NOW: float = VECTORS["now"]
SEEDS = {name: bytes.fromhex(seed) for name, seed in VECTORS["seeds"].items()}
IDENTITY, SIGNING = Ed25519Key(SEEDS["identity"]), Ed25519Key(SEEDS["signing"])
MINUTE = 1_800_000_000
CERTIFICATE = issue(IDENTITY, Use.SIGNING, SIGNING.public, MINUTE - 86_400, SIGNING_LIFETIME)
SIGNER = Signer(SIGNING, CERTIFICATE)
SECRET = bytes.fromhex(VECTORS["secret"])

leaves = st.sets(st.sampled_from(Leaf))


def the_task() -> Task:
    given = VECTORS["task"]
    fuel, memory, wall, output = given["limits"]
    return Task(
        args=tuple(given["arguments"]),
        env=tuple((name, value) for name, value in given["environment"]),
        files=tuple((path, bytes.fromhex(data)) for path, data in given["files"]),
        stdin=bytes.fromhex(given["stdin"]),
        limits=Limits(fuel, memory, wall / 1000, output),
        seed=bytes.fromhex(given["seed"]),
    )


def the_statement() -> Statement:
    came = VECTORS["result"]
    stdout, stderr = bytes.fromhex(came["stdout"]), bytes.fromhex(came["stderr"])
    ended = Ended(Outcome(came["outcome"]), came["exit_code"], came["fuel"], stdout, stderr)
    module = hashlib.sha256(bytes.fromhex(VECTORS["task"]["module"])).digest()
    return statement(module, the_task(), came["engine"], ended)


STATEMENT = the_statement()
ATTESTATION = SIGNER.attest(STATEMENT, SECRET, NOW)
WHOLE = Proof.of(STATEMENT, ATTESTATION)


def names(found: Any) -> list[str]:
    return [leaf.name.lower() for leaf in found]


def test_the_generator_gives_the_file() -> None:
    assert generated("attestations") == VECTORS


def test_the_leaves_of_a_task() -> None:
    values = {leaf.name.lower(): STATEMENT.values[leaf].hex() for leaf in Leaf}
    assert values == VECTORS["values"]
    crashed = Ended(Outcome.OUT_OF_FUEL, None, 999, b"", b"")
    values_then = statement(bytes(32), the_task(), "x", crashed).values
    assert values_then[Leaf.OUTCOME].hex() == VECTORS["no_exit_code"]


def test_the_attestation_of_a_result() -> None:
    assert ATTESTATION.encode().hex() == VECTORS["key_10"]
    assert Attestation.decode(bytes.fromhex(VECTORS["key_10"])) == ATTESTATION
    assert WHOLE.only(()).hidden == (bytes.fromhex(VECTORS["root"]),)
    assert SECRET.hex() not in repr(ATTESTATION)


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda v: "+".join(v["shows"]) or "-")
def test_files_of_attestations(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["file"])
    proof = Proof.decode(data)
    assert proof.verify() == bytes.fromhex(VECTORS["identity"])
    assert names(proof.shown) == vector["shows"]
    assert proof.encode() == data
    shown = [Leaf[name.upper()] for name in vector["shows"]]
    assert WHOLE.only(shown).encode() == data


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["why"])
def test_files_that_are_no_attestations(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        Proof.decode(bytes.fromhex(vector["file"])).verify()


def test_every_leaf_says_what_it_is_for() -> None:
    read = {leaf: read_leaf(leaf, value) for leaf, (_, value) in WHOLE.shown.items()}
    assert read[Leaf.LIMITS] == the_task().limits
    assert read[Leaf.OUTCOME] == (Outcome.COMPLETED, 3)
    assert read[Leaf.FUEL] == 999
    assert read[Leaf.ENGINE] == VECTORS["result"]["engine"]
    stdout = bytes.fromhex(VECTORS["result"]["stdout"])
    assert read[Leaf.STDOUT][0] == len(stdout)  # type: ignore[index]


@settings(derandomize=True, max_examples=200)
@given(st.sampled_from(Leaf), st.sampled_from(Leaf))
def test_a_leaf_in_another_s_place_is_refused_or_of_the_same_form(leaf: Leaf, place: Leaf) -> None:
    same = {Leaf.STDOUT: Leaf.STDERR, Leaf.STDERR: Leaf.STDOUT, Leaf.MODULE: Leaf.INPUT,
            Leaf.INPUT: Leaf.MODULE}  # fmt: skip
    if place in {leaf, same.get(leaf)}:
        read_leaf(place, STATEMENT.values[leaf])
    else:
        with pytest.raises(ProtocolError):
            read_leaf(place, STATEMENT.values[leaf])


@settings(derandomize=True)
@given(leaves, leaves)
def test_any_part_can_be_shown_alone_and_the_rest_is_hidden(
    first: set[Leaf], then: set[Leaf]
) -> None:
    proof = Proof.decode(WHOLE.only(first).encode())
    assert proof.verify() == IDENTITY.public
    assert set(proof.shown) == first
    data = proof.encode()
    for leaf in set(Leaf) - first:
        salt, value = WHOLE.shown[leaf]
        # Short values stand in any file by chance; salts and digests do not.
        assert salt not in data
        assert len(value) < 32 or value not in data
    assert SECRET not in data
    if then <= first:
        assert proof.only(then) == WHOLE.only(then)
    else:
        with pytest.raises(ValueError, match="does not show"):
            proof.only(then)


def other_statement(leaf: Leaf) -> Statement:
    values = list(STATEMENT.values)
    values[leaf] = values[leaf][:-1] + bytes((values[leaf][-1] ^ 1,))
    return Statement(tuple(values))


@pytest.mark.parametrize("leaf", Leaf)
def test_what_differs_in_any_part_was_not_attested(leaf: Leaf) -> None:
    assert check(ATTESTATION, STATEMENT, IDENTITY.public, NOW) == WHOLE
    with pytest.raises(ProtocolError, match="signature"):
        check(ATTESTATION, other_statement(leaf), IDENTITY.public, NOW)


def test_another_worker_s_attestation_is_worth_nothing() -> None:
    liar = Ed25519Key(b"l" * 32)
    certificate = issue(liar, Use.SIGNING, SIGNING.public, MINUTE, SIGNING_LIFETIME)
    own = Signer(SIGNING, certificate).attest(STATEMENT, SECRET, NOW)
    with pytest.raises(ProtocolError, match="another worker"):
        check(own, STATEMENT, IDENTITY.public, NOW)
    stolen = replace(ATTESTATION, certificate=certificate)
    with pytest.raises(ProtocolError, match="another worker"):
        check(stolen, STATEMENT, IDENTITY.public, NOW)


def test_a_time_that_has_not_come_is_refused() -> None:
    check(SIGNER.attest(STATEMENT, SECRET, NOW + 600), STATEMENT, IDENTITY.public, NOW)
    with pytest.raises(ProtocolError, match="time"):
        check(SIGNER.attest(STATEMENT, SECRET, NOW + 720), STATEMENT, IDENTITY.public, NOW)


def test_an_expired_key_attests_nothing() -> None:
    late = NOW + SIGNING_LIFETIME
    with pytest.raises(ProtocolError, match="expired"):
        check(SIGNER.attest(STATEMENT, SECRET, late), STATEMENT, IDENTITY.public, late)


def test_the_time_is_told_to_the_minute() -> None:
    assert ATTESTATION.time == MINUTE
    finer = replace(ATTESTATION, time=MINUTE + 1).encode()
    with pytest.raises(ProtocolError, match="minute"):
        Attestation.decode(finer)


def test_salts_are_new_for_each_attestation() -> None:
    again = Proof.of(STATEMENT, SIGNER.attest(STATEMENT, bytes(32), NOW))
    salts = {salt for salt, _ in (*WHOLE.shown.values(), *again.shown.values())}
    assert len(salts) == 2 * len(Leaf)
