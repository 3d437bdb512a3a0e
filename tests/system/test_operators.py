"""A network made by hand, as its operators would make it on several machines."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system import programs
from tests.system.networks import command, environment, fog

pytestmark = pytest.mark.network
PATIENCE = 90.0
RELAYS = 3


def done(*arguments: str | Path, home: Path = Path("/nonexistent")) -> str:
    answer = fog(*arguments, home=home)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.decode().strip()


@contextmanager
def running(*roles_and_folders: tuple[str, Path]) -> Iterator[None]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for role, folder in roles_and_folders:
            with (folder / "log").open("wb") as output:
                process = subprocess.Popen(
                    command((role, "run", "--dir", folder)),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment(folder),
                )
            processes.append(process)
        yield
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(PATIENCE) for process in processes]
        assert codes == [0] * len(codes)


def test_operators_make_a_network_and_a_user_runs_a_program_on_it(tmp_path: Path) -> None:
    network = tmp_path / "network.toml"
    authorities = [tmp_path / f"a{number}" for number in range(1, 5)]
    for number, folder in enumerate(authorities, 41):
        name, address = f"auth{number}", f"127.{number}.0.1:19001"
        done("authority", "init", "--dir", folder, "--nickname", name, "--address", address)
    # The first operator has the others' cards, and signs as the author; two more sign.
    cards = [authorities[0], *(folder / "card.toml" for folder in authorities[1:])]
    options = ("--test", "--interval", "5", "--phase", "1", "--start-in", "2")
    fingerprint = done("network", "create", network, *cards, *options)
    for folder in authorities[1:3]:
        assert done("network", "sign", network, "--dir", folder) == fingerprint

    nodes: list[tuple[str, Path]] = []
    for folder in authorities:
        (folder / "network.toml").write_bytes(network.read_bytes())
        nodes.append(("authority", folder))
    for number in range(51, 51 + RELAYS):
        folder = tmp_path / f"r{number}"
        address = f"127.{number}.0.1:19001"
        source = ("--source", f"127.{number}.0.1")
        done(
            *("relay", "init", "--dir", folder, "--nickname", f"relay{number}"),
            *("--address", address, "--network", network, *source),
        )
        nodes.append(("relay", folder))
    family = tmp_path / "family.key"
    worker = tmp_path / "w"
    done(
        *("worker", "init", "--dir", worker, "--nickname", "worker1", "--network", network),
        *("--family", family, "--memory", "256M"),
    )
    nodes.append(("worker", worker))

    home = tmp_path / "home"
    assert done("join", network, home=home) == fingerprint
    program = tmp_path / "copy.wat"
    program.write_text(programs.COPY)
    with running(*nodes):
        deadline = time.monotonic() + PATIENCE
        answer = fog("run", program, stdin=b"by hand", home=home)
        while answer.returncode == 125:
            assert time.monotonic() < deadline, answer.stderr.decode()
            time.sleep(1)
            answer = fog("run", program, stdin=b"by hand", home=home)
        assert (answer.returncode, answer.stdout) == (7, b"by hand"), answer.stderr
        report = json.loads(done("network", "show", "--json", home=home))
    assert {node["role"] for node in report["nodes"]} == {"authority", "relay", "worker"}
    for _, folder in nodes:
        assert "Traceback" not in (folder / "log").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("relay", "run", "--dir", "nowhere"), "init"),
        (
            ("authority", "init", "--dir", "a", "--nickname", "a b", "--address", "1.2.3.4:5"),
            "nick",
        ),
        (("relay", "init", "--dir", "r", "--nickname", "r", "--address", "here"), "not an address"),
        (("worker", "init", "--dir", "w", "--nickname", "w", "--memory", "lots"), "no number"),
        (("network", "create", "n.toml", "missing.toml"), "missing.toml"),
        (("testnet", "up", "--dir", "t", "--relays", "1"), "three relays"),
        (("testnet", "status", "--dir", "t"), "no test network"),
        (("testnet", "down", "--dir", "t"), "no test network"),
        (("join", "missing.toml"), "missing.toml"),
        (("network", "show"), "fog join"),
    ],
)
def test_mistakes_get_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = fog(*arguments, home=tmp_path / "home")
    assert answer.returncode == 125
    assert sentence in answer.stderr.decode()
    assert b"Traceback" not in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
