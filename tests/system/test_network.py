"""A network of real processes, used through the `fog` command as its users do."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.system import programs
from tests.system.networks import Network, command, environment, fog, start_network, stop_network

pytestmark = pytest.mark.network
POLL_SECONDS = 0.1
PATIENCE = 60.0


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(POLL_SECONDS)


def program(folder: Path, text: str) -> Path:
    path = folder / "program.wat"
    path.write_text(text)
    return path


def test_every_node_runs_and_is_listed(network: Network) -> None:
    nodes = network.nodes()
    assert [node["role"] for node in nodes] == ["authority"] * 4 + ["relay"] * 5 + ["worker"] * 3
    assert {node["state"] for node in nodes} == {"running"}
    assert len({node["address"].split(":")[0] for node in nodes}) == len(nodes)
    report = json.loads(network.fog("network", "show", "--json").stdout)
    assert sorted(node["nickname"] for node in report["nodes"]) == sorted(
        node["nickname"] for node in nodes
    )
    assert all(not node["addresses"] for node in report["nodes"] if node["role"] == "worker")


def test_a_program_gets_its_input_and_its_answer_comes_back(
    network: Network, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    answer = network.fog("run", program(tmp_path, programs.COPY), stdin=data)
    assert (answer.returncode, answer.stderr) == (7, b"")
    assert answer.stdout == data


def test_standard_error_stays_standard_error(network: Network, tmp_path: Path) -> None:
    answer = network.fog("run", program(tmp_path, programs.COMPLAIN))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"oh dear\n")


def test_json_tells_all(network: Network, tmp_path: Path) -> None:
    answer = network.fog("run", "--json", program(tmp_path, programs.COPY), stdin=b"\xffabc")
    report = json.loads(answer.stdout)
    assert answer.returncode == report["exit_code"] == 7
    assert report["outcome"] == "completed"
    assert report["fuel"] > 0
    assert len(report["path"]) == 4
    assert base64.b64decode(report["stdout_base64"]) == b"\xffabc"
    assert report["stdout"] is None


@pytest.mark.parametrize(
    ("text", "options", "outcome", "code", "sentence"),
    [
        (programs.FOREVER, ("--fuel", "1000000"), "out_of_fuel", 120, b"--fuel"),
        (programs.FOREVER, ("--timeout", "1"), "timeout", 124, b"in time"),
        (programs.TRAP, (), "trap", 122, b"crashed"),
        (programs.HUNGRY, ("--memory", "16"), "out_of_memory", 121, b"--memory"),
    ],
)
def test_each_way_to_fail_is_told(
    network: Network,
    tmp_path: Path,
    text: str,
    options: tuple[str, ...],
    outcome: str,
    code: int,
    sentence: bytes,
) -> None:
    path = program(tmp_path, text)
    answer = network.fog("run", "--json", *options, path)
    assert json.loads(answer.stdout)["outcome"] == outcome
    assert answer.returncode == code
    assert sentence in answer.stderr


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"#!/bin/sh\necho no\n", b"neither a WebAssembly module"),
        (b"\0asm\1\0\0\0garbage", b""),
        (programs.FOREIGN.encode(), b"open_socket"),
    ],
)
def test_what_cannot_run_is_refused_in_words(
    network: Network, tmp_path: Path, data: bytes, sentence: bytes
) -> None:
    path = tmp_path / "program"
    path.write_bytes(data)
    answer = network.fog("run", path)
    assert answer.returncode == 126
    assert answer.stdout == b""
    assert sentence in answer.stderr
    assert b"Traceback" not in answer.stderr


def descendants(pid: int) -> list[int]:
    """The processes below one; those that end meanwhile do not count."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def cpu_time(pid: int) -> int:
    """The ticks that a process has used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def test_progress_is_told_and_cancel_ends_what_ctrl_c_left(
    network: Network, tmp_path: Path
) -> None:
    path = program(tmp_path, programs.FOREVER)
    with subprocess.Popen(
        command(["run", "-v", "--fuel", "15T", path]),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(network.folder / "client"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as running:
        assert running.stderr is not None
        assert any(b"of fuel so far" in line for line in running.stderr)
        workers = [node["pid"] for node in network.nodes() if node["role"] == "worker"]
        busiest = max((pid for worker in workers for pid in descendants(worker)), key=cpu_time)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130
    left = re.search(rb"job (\w+) is detached", said)
    assert left is not None, said
    assert cpu_time(busiest)
    assert network.fog("cancel", left[1].decode()).returncode == 0
    wait_for(lambda: cpu_time(busiest) == 0, "the end of the program at the worker")


def test_asking_more_than_a_worker_grants_is_refused(network: Network, tmp_path: Path) -> None:
    answer = network.fog("run", "--json", "--fuel", "900T", program(tmp_path, programs.COPY))
    report = json.loads(answer.stdout)
    assert answer.returncode == report["exit_code"] == 126
    assert report["outcome"] == "error"
    assert "Lower the limits" in report["reason"]


def test_arguments_that_no_worker_takes_are_told_as_the_users_own(
    network: Network, tmp_path: Path
) -> None:
    answer = network.fog("run", program(tmp_path, programs.COPY), "--", "x" * (65 << 10))
    assert answer.returncode == 126
    assert b"more than 64 KiB: put what is long in a file" in answer.stderr
    assert b"worker refused" not in answer.stderr


def test_mistakes_get_a_sentence(network: Network, tmp_path: Path) -> None:
    missing = network.fog("run", tmp_path / "nothing.wasm")
    twice = network.fog(
        "run", program(tmp_path, programs.COPY), "--file", __file__, "--file", __file__
    )
    unjoined = fog("run", program(tmp_path, programs.COPY), home=tmp_path / "home")
    for answer, words in (
        (missing, b"No such file"),
        (twice, b"same name"),
        (unjoined, b"fog join"),
    ):
        assert answer.returncode == 125
        assert words in answer.stderr
        assert b"Traceback" not in answer.stderr


def test_another_user_joins_with_the_file(network: Network, tmp_path: Path) -> None:
    home = tmp_path / "home"
    joined = fog("join", network.folder / "client" / "network.toml", home=home)
    assert joined.returncode == 0, joined.stderr
    answer = fog("run", program(tmp_path, programs.COPY), stdin=b"hello", home=home)
    assert (answer.returncode, answer.stdout) == (7, b"hello")
    again = fog("join", network.folder / "client" / "network.toml", home=home)
    assert again.stdout == joined.stdout
    other = tmp_path / "other.toml"
    other.write_text((home / "network.toml").read_text().replace("test network", "other network"))
    refused = fog("join", other, home=home)
    assert refused.returncode == 125
    assert b"FOGBANK_HOME" in refused.stderr


def test_a_relay_that_dies_in_mid_job_is_gone_around(own_network: Network, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(("run", "-v", "--fuel", "20G", program(tmp_path, programs.FOREVER))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(own_network.folder / "client"),
    )
    assert process.stderr is not None
    said = b""
    while b"running" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    (relays,) = ways(said)
    assert len(relays) == 3
    pids = {node["nickname"]: node["pid"] for node in own_network.nodes()}
    os.kill(pids[relays[1]], signal.SIGKILL)
    _, rest = process.communicate(timeout=PATIENCE)
    # The worker held what it ran: the same task went on to its end, over other relays.
    assert process.returncode == 120, rest
    assert ways(rest)
    assert relays[1] not in ways(rest)[-1]
    assert b"Traceback" not in rest
    assert {node["nickname"] for node in own_network.nodes() if node["state"] == "stopped"} == {
        relays[1]
    }
    for _ in range(3):
        answer = own_network.fog("run", program(tmp_path, programs.COPY), stdin=b"still here")
        assert (answer.returncode, answer.stdout) == (7, b"still here"), answer.stderr


def ways(said: bytes) -> list[list[str]]:
    """The relays of each circuit that a command tells of."""
    lines = [line for line in said.decode().splitlines() if "circuit:" in line]
    return [[word for word in line.split() if word.startswith("relay")] for line in lines]


def test_an_authority_that_was_killed_comes_back_and_votes(own_network: Network) -> None:
    victim = own_network.nodes()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    log = own_network.folder / victim["nickname"] / "log"
    wait_for(lambda: own_network.nodes()[0]["state"] == "stopped", "the killed authority's end")
    seen = log.read_bytes().count(b"signatures 4/4")
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(("authority", "run", "--dir", log.parent)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(log.parent),
        )
    try:
        wait_for(lambda: log.read_bytes().count(b"signatures 4/4") > seen, "a round of all four")
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert b"Traceback" not in log.read_bytes()


def test_two_networks_at_once_in_one_folder_are_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "network"
    up = ("testnet", "up", "--dir", folder, "--authorities", "1", "--relays", "3", "--workers", "0")
    first = subprocess.Popen(
        command(up), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(tmp_path)
    )
    try:
        wait_for((folder / "relay3" / "node.toml").exists, "the first network's folders")
        # However long the second takes to start, the first is still at work.
        first.send_signal(signal.SIGSTOP)
        second = fog(*up)
        assert second.returncode == 125
        assert b"another `fog testnet up` is at work" in second.stderr
    finally:
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=PATIENCE)
        ended = fog("testnet", "down", "--dir", folder)
    assert first.returncode == 0, said
    assert ended.stderr == b"fog: 4 processes ended\n"


def test_a_folder_serves_the_next_network_too(tmp_path: Path) -> None:
    folder = tmp_path / "a network"
    size = ("--authorities", "1", "--relays", "3", "--workers", "0")
    identities = set()
    for _ in range(2):
        network = start_network(folder, *size)
        try:
            report = json.loads(network.fog("network", "show", "--json").stdout)
        finally:
            stop_network(network)
        identities |= {node["identity"] for node in report["nodes"]}
        assert {node["state"] for node in network.nodes()} == {"stopped"}
    assert len(identities) == 2 * 4
    # Its last consensus serves, though nobody can give a newer one.
    fresh_until = datetime.fromisoformat(report["fresh_until"])
    wait_for(lambda: datetime.now(UTC) >= fresh_until, "the end of the consensus's freshness")
    shown = network.fog("network", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["nodes"]
    again = network.fog("testnet", "down", "--dir", folder)
    assert (again.returncode, again.stderr) == (0, b"fog: 0 processes ended\n")
