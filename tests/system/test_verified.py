"""Verification among real workers, of which two lie alike (spec/12)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fogbank.nodes.home import Home
from fogbank.relay.codec import encode
from fogbank.relay.job.attestation import Leaf, Proof
from fogbank.relay.keys import show_id
from tests.system import programs
from tests.system.liar import LIE
from tests.system.networks import Network, environment, start_network, stop_network

pytestmark = pytest.mark.network
PATIENCE = 60.0
LIARS = ("worker1", "worker2")
TEXT = [b"line %d\n" % number for number in range(12)]


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def has_stopped(network: Network, nickname: str) -> bool:
    rows = (node for node in network.nodes() if node["nickname"] == nickname)
    return bool(next(rows)["state"] == "stopped")


@contextmanager
def lying(network: Network, nickname: str) -> Iterator[None]:
    """From now on a worker lies: the same node, by another program."""
    row = next(node for node in network.nodes() if node["nickname"] == nickname)
    os.kill(row["pid"], signal.SIGTERM)
    wait_for(lambda: has_stopped(network, nickname), f"the end of {nickname}")
    home = network.folder / nickname
    with (home / "log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.liar", "worker", "run", "--dir", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(home),
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three honest workers and two that collude."""
    folder = tmp_path_factory.mktemp("liars") / "network"
    running = start_network(folder, "--relays", "4", "--workers", "5")
    with ExitStack() as stack:
        stack.callback(stop_network, running)
        for name in LIARS:
            stack.enter_context(lying(running, name))
        for name in LIARS:
            wait_for(partial(is_linked, running, name), f"{name} to be there again")
        yield running


def is_linked(network: Network, nickname: str) -> bool:
    answer = network.fog("worker", "status", "--dir", network.folder / nickname, "--json")
    if answer.returncode:
        return False
    return any(contact["linked"] for contact in json.loads(answer.stdout)["contacts"])


def identity(network: Network, nickname: str) -> str:
    return show_id(Home(network.folder / nickname).keys(time.time()).identity)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy.wat"
    path.write_text(programs.COPY.replace("(i32.const 7)", "(i32.const 0)"))
    return path


def wrong(network: Network) -> dict[str, dict[str, Any]]:
    answer = network.fog("attestation", "wrong", "--json")
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    return {row["worker"]: row for row in rows}


def test_two_that_collude_do_not_win_against_a_quorum_of_three(
    network: Network, copy: Path, tmp_path: Path
) -> None:
    options = ("--replicas", "3", "--quorum", "3", "--retries", "6")
    kept, results = tmp_path / "kept", tmp_path / "results"
    answer = network.fog(
        "map", copy, "--lines", "-", *options, "--attestations", kept, "-o", results,
        stdin=b"".join(TEXT),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr.decode()
    outputs = [(results / str(number) / "stdout").read_bytes() for number in range(1, 13)]
    assert outputs == TEXT
    found = wrong(network)
    liars = {identity(network, name) for name in LIARS}
    assert found
    assert set(found) <= liars
    # Each of them is convicted by what it signed itself.
    for worker, row in found.items():
        evidence = Path(row["folder"]) / "wrong.attestation"
        lie = tmp_path / "lie"
        lie.write_bytes(LIE)
        checked = network.fog(
            "attestation", "verify", evidence, "--worker", worker, "--module", copy,
            "--stdout", lie, "--json",
        )  # fmt: skip
        assert checked.returncode == 0, checked.stderr
        number = row["reason"].rpartition(" ")[2]
        again = network.fog(
            "attestation", "rerun", evidence, copy, "--task", number, "--json",
            stdin=TEXT[int(number) - 1],
        )  # fmt: skip
        assert again.returncode == 1, again.stderr
        assert json.loads(again.stdout)["wrong"] == ["stdout"]
    # The honest three attested each line.
    for number, line in enumerate(TEXT, 1):
        agreed = [each for each in proofs(kept, number) if stdout_of(each) == line]
        assert len({each.verify() for each in agreed}) >= 3


def proofs(folder: Path, number: int) -> list[Proof]:
    files = folder.glob(f"{number}-*.attestation")
    return [Proof.decode(path.read_bytes()) for path in files]


def stdout_of(proof: Proof) -> bytes | None:
    """Which of the lines, or the lie, a worker said was the output."""
    said = proof.shown[Leaf.STDOUT][1]
    known = {encode([len(text), hashlib.sha256(text).digest()]): text for text in (*TEXT, LIE)}
    return known.get(said)


def test_one_task_is_compared_too_and_who_was_wrong_gets_none(
    network: Network, copy: Path, tmp_path: Path
) -> None:
    """The liars that were found before are not asked any more; one that is forgiven may be."""
    found = set(wrong(network))
    asked: set[str] = set()
    for turn in range(2):
        kept = tmp_path / str(turn)
        answer = network.fog(
            "run", copy, "--replicas", "3", "--quorum", "3", "--attestations", kept,
            stdin=TEXT[turn],
        )  # fmt: skip
        assert (answer.returncode, answer.stdout) == (0, TEXT[turn]), answer.stderr.decode()
        asked |= {show_id(each.verify()) for each in proofs(kept, 1)}
    assert len(asked) >= 3
    assert not asked & (found & set(wrong(network)))


def test_a_program_judges_instead(network: Network, copy: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.wat"
    judge.write_text(programs.EQUAL)
    home = tmp_path / "home"
    joined = network.fog("join", network.folder / "client" / "network.toml", home=home)
    assert joined.returncode == 0, joined.stderr
    answer = network.fog(
        "map", copy, "--lines", "-", "--verify", judge, "--retries", "8", "--json",
        stdin=b"".join(TEXT), home=home,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr.decode()
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert sorted(row["stdout"].encode() for row in rows) == sorted(TEXT)
    refuses = tmp_path / "refuses.wat"
    refuses.write_text(programs.COPY)
    answer = network.fog("run", copy, "--verify", refuses, stdin=b"one task", home=home)
    assert (answer.returncode, answer.stdout) == (127, b"")
    assert b"judges refused" in answer.stderr


def test_more_than_the_network_has_gets_a_sentence(network: Network, copy: Path) -> None:
    answer = network.fog("run", copy, "--replicas", "16", "--quorum", "16", stdin=b"x")
    assert answer.returncode == 125
    assert "fewer workers" in answer.stderr.decode()


def test_a_job_that_is_left_is_verified_by_whoever_comes_back(network: Network, copy: Path) -> None:
    """The workers have it all when the command leaves; their answers are compared afterwards."""
    options = ("--replicas", "3", "--quorum", "3", "--retries", "6")
    left = network.fog("map", copy, "--lines", "-", *options, "-d", stdin=b"".join(TEXT))
    assert left.returncode == 0, left.stderr.decode()
    name = left.stdout.decode().strip()
    back = network.fog("attach", name)
    assert back.returncode == 0, back.stderr.decode()
    assert back.stdout == b"".join(TEXT)
    rows = network.fog("ps", "--all", "--json").stdout.splitlines()
    assert {row["job"]: row["state"] for row in map(json.loads, rows)}[name] == "done"
