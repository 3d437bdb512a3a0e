"""What operators see of a real network, and what no log and no status ever shows (spec/10)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stem
import stem.descriptor
import stem.descriptor.remote
from typer.testing import CliRunner, Result

from fogbank.cli.app import app
from tests.system import programs
from tests.system.networks import Network, command, environment

pytestmark = pytest.mark.network

CLIENT = "127.0.0.1"
STRANGER = "127.77.0.9"
"""From where somebody talks nonsense to every node that listens."""
SECRET = "a-quite-private-argument"
INPUT = b"a-quite-private-input"
PATIENCE = 60.0
NUMBERED = re.compile(
    r"(?:circuit|stream|cell|session|job|task|client)s?\s*[#:=]?\s*\d", re.IGNORECASE
)
DIGEST = re.compile(r"\b(?:[0-9a-fA-F]{16,}|[a-z2-7]{40,})\b")


def fog(network: Network, *arguments: str | Path) -> Result:
    """Run the `fog` command in this process, which is faster than in one of its own."""
    home = {"FOGBANK_HOME": str(network.folder / "client")}
    return CliRunner().invoke(app, [str(each) for each in arguments], env=home)


def ask(network: Network, *arguments: str | Path) -> Any:
    answer = fog(network, *arguments, "--json")
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def status(network: Network, role: str, number: int = 1) -> dict[str, Any]:
    fields: dict[str, Any] = ask(
        network, role, "status", "--dir", network.folder / f"{role}{number}"
    )
    return fields


# Status.


def test_every_kind_of_node_shows_its_status(network: Network) -> None:
    authority = status(network, "authority")
    assert authority["state"] == "running"
    line = r"consensus of \d+, \d+ nodes: votes [34]/4.*; signatures [34]/4.*"
    assert re.fullmatch(line, authority["authority"]["round"])
    assert authority["authority"]["nodes"] == 8
    assert 1 <= authority["authority"]["running"] <= 8
    relay = status(network, "relay")
    assert {"Running", "Valid"} <= set(relay["flags"])
    assert {each["authority"] for each in relay["published"]} == {
        f"authority{number}" for number in range(1, 5)
    }
    assert "taken" in {each["reply"] for each in relay["published"]}
    worker = status(network, "worker")
    assert {"Running", "Worker"} <= set(worker["flags"])
    assert len(worker["contacts"]) == 3
    assert any(each["linked"] for each in worker["contacts"])
    for role in ("authority", "relay", "worker"):
        folder = network.folder / f"{role}1"
        lines = fog(network, role, "status", "--dir", folder).stdout.splitlines()
        assert f"{role}1, {role}," in lines[0]
        assert "state      running" in lines


def test_a_relay_explains_its_flags(network: Network) -> None:
    folder = network.folder / "relay1"
    told = ask(network, "relay", "why", "--dir", folder)
    findings = {each["topic"]: each for each in told["findings"]}
    for topic in ("process", "consensus", "descriptor", "Running", "Fast"):
        assert findings[topic]["well"], findings[topic]
    lines = fog(network, "relay", "why", "--dir", folder).stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(findings)


def test_another_role_s_folder_gets_a_sentence(network: Network) -> None:
    answer = fog(network, "relay", "why", "--dir", network.folder / "worker1")
    assert answer.exit_code == 125
    assert "another role" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_node_that_never_ran_gets_a_sentence(network: Network, tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    address = ("--address", "127.200.0.1:9001")
    made = fog(
        network,
        *("relay", "init", "--dir", folder, "--nickname", "idle", *address),
        *("--network", network.folder / "relay1" / "network.toml"),
    )
    assert made.exit_code == 0, made.stderr
    answer = fog(network, "relay", "status", "--dir", folder)
    assert answer.exit_code == 125
    assert "fog relay run --dir" in answer.stderr
    # A consensus is fetched for it, and it is not in there.
    lines = fog(network, "relay", "why", "--dir", folder).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NO", "process"], ["ok", "consensus"], ["NO", "Running"], ["NO", "Guard"]
    ]  # fmt: skip
    assert not (folder / "consensus").exists()


# Tor's formats.


@pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")  # stem 1.8 calls it
def test_tools_written_with_stem_read_the_network(network: Network) -> None:
    port = status(network, "authority")["authority"]["tor_port"]
    downloader = stem.descriptor.remote.DescriptorDownloader(
        use_mirrors=False,
        endpoints=[stem.DirPort("127.0.0.1", port)],
        validate=True,
        timeout=30,
        retries=0,
    )
    listed = {f"authority{n}" for n in range(1, 5)} | {f"relay{n}" for n in range(1, 6)}
    routers = {each.fingerprint: each.nickname for each in downloader.get_consensus().run()}
    assert set(routers.values()) == listed
    descriptors = downloader.get_server_descriptors().run()
    assert {each.fingerprint: each.nickname for each in descriptors} == routers
    # As one document its signatures are looked at too.
    whole = stem.descriptor.DocumentHandler.DOCUMENT
    for _ in range(10):
        (document,) = downloader.get_consensus(document_handler=whole).run()
        report = ask(network, "network", "show")
        if document.valid_after.strftime("%Y-%m-%dT%H:%M:%SZ") == report["valid_after"]:
            break
        time.sleep(0.3)
    else:
        pytest.fail("between the two there was a new consensus each time")
    assert {each.nickname: set(each.flags) for each in document.routers.values()} == {
        node["nickname"]: set(node["flags"]) for node in report["nodes"] if node["role"] != "worker"
    }


def test_only_the_authority_that_was_asked_to_serves_them(network: Network) -> None:
    assert status(network, "authority", 2)["authority"]["tor_port"] is None


# Logs.


def traffic(network: Network, folder: Path) -> Iterator[str]:
    """Do all kinds of things as a client, at once; give what no node may write down."""
    running = []
    for name, text in (
        ("copied", programs.COPY),
        ("trapping", programs.TRAP),
        ("foreign", programs.FOREIGN),
        ("damaged", "(module"),
        ("endless", programs.FOREVER),
    ):
        path = folder / f"{name}-program.wat"
        path.write_text(text)
        running.append(start(network, path))
        yield from (path.stem, text)
    endless = running.pop()
    for process in running:
        process.communicate(INPUT, timeout=PATIENCE)
    # By now it runs somewhere, and its client is gone from one moment to the next.
    endless.kill()
    endless.communicate()
    for node in ask(network, "testnet", "status", "--dir", network.folder)["nodes"]:
        if node["role"] != "worker":
            host, port = node["address"].rsplit(":", 1)
            with socket.socket() as stranger:
                stranger.bind((STRANGER, 0))
                stranger.connect((host, int(port)))
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
    yield from (SECRET, INPUT.decode(), CLIENT, STRANGER, "wat", "wasm")


def start(network: Network, program: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(("run", program, SECRET)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(network.folder / "client"),
    )


def digests(text: str) -> set[str]:
    """Return a text's and its module's digests as someone might write them."""
    digest = hashlib.sha256(text.encode()).digest()
    words = base64.b32encode(digest).decode(), base64.b64encode(digest).decode()
    return {digest.hex(), digest.hex()[:8], *words, words[0].lower()[:12]}


def test_no_log_and_no_status_names_a_circuit_a_client_or_a_job(
    network: Network, tmp_path: Path
) -> None:
    forbidden = set()
    for text in traffic(network, tmp_path):
        forbidden |= {text} if len(text) < 40 else digests(text)
    report = ask(network, "network", "show")
    known = {node["identity"] for node in report["nodes"]}
    for node in report["nodes"]:
        folder = network.folder / node["nickname"]
        for text in ((folder / "log").read_text(), (folder / "status.json").read_text()):
            assert text
            found = {each for each in forbidden if each in text}
            assert not found, (folder.name, found)
            for line in text.splitlines():
                assert not NUMBERED.search(line), line
                assert set(DIGEST.findall(line)) <= known, line


@pytest.mark.parametrize("line", ["circuit 17 ended", "Job #3", "clients: 12", "f" * 64])
def test_such_a_line_would_be_found(line: str) -> None:
    assert NUMBERED.search(line) or DIGEST.search(line)
