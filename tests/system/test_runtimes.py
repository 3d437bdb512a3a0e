"""Scripts through a network of processes, and a runtime that passes from worker to worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.testnet.layout import Size
from fogbank.testnet.up import _make_homes
from tests.system.networks import Network, fog, start_network, stop_network
from tests.toolchains import runtime_module, runtime_store

pytestmark = pytest.mark.network
PATIENCE = 60.0
COMPILING = 400.0
"""As long as compiling Python may take on a machine that does much else."""
SCRIPT = """
print(scriptArgs.join(" "));
print(std.loadFile("data.csv").toUpperCase() + std.in.readAsString());
std.exit(7);
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three workers: the third is for Python."""
    folder = tmp_path_factory.mktemp("runtimes") / "network"
    running = start_network(folder, "--relays", "4", "--workers", "3")
    yield running
    stop_network(running)


def wait_for(done: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.3)


def holders(network: Network) -> dict[str, list[str]]:
    """What each worker holds, as the consensus lists it."""
    answer = network.fog("network", "show", "--json")
    assert answer.returncode == 0, answer.stderr
    nodes: list[dict[str, Any]] = json.loads(answer.stdout)["nodes"]
    return {node["nickname"]: node["runtimes"] for node in nodes if node["role"] == "worker"}


def ran(network: Network, script: Path, *options: str | Path, stdin: bytes = b"") -> dict[str, Any]:
    answer = network.fog("run", "--json", script, *options, stdin=stdin)
    report: dict[str, Any] = json.loads(answer.stdout)
    assert report["exit_code"] == answer.returncode
    return report


def test_a_script_runs_where_its_runtime_is_and_the_runtime_passes_on(
    network: Network, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = runtime_store(request, "javascript")
    (module,) = (each for each in store.held() if each.name == "javascript")
    script, data = tmp_path / "job.js", tmp_path / "data.csv"
    script.write_text(SCRIPT)
    data.write_text("a,b\n")
    first, second = (("--dir", network.folder / name) for name in ("worker1", "worker2"))

    early = ran(network, script, "--file", data)
    assert (early["outcome"], early["exit_code"]) == ("error", 125)
    assert "fog worker runtime add javascript" in early["reason"]

    file = store.folder / f"{module.digest.hex()}.wasm"
    assert network.fog("worker", "runtime", "add", file, *first).returncode == 0
    wait_for(lambda: holders(network)["worker1"] == ["javascript"], "the runtime's listing")
    report = ran(network, script, "--file", data, "--", "x", "y", stdin=b"input")
    assert report["stdout"] == "job.js x y\nA,B\ninput\n", report
    assert (report["exit_code"], report["path"][-1]) == (7, "worker1")

    answer = network.fog("worker", "runtime", "add", "javascript", "--from-network", *second)
    assert answer.returncode == 0, answer.stderr
    assert b"asking worker1" in answer.stderr
    wait_for(lambda: holders(network)["worker2"] == ["javascript"], "the other's listing")
    assert network.fog("worker", "runtime", "remove", "javascript", *first).returncode == 0
    # The consensus may list it for a while: the job goes on to who still holds it.
    report = ran(network, script, "--file", data)
    assert (report["exit_code"], report["path"][-1]) == (7, "worker2")
    listed = network.fog("worker", "runtime", "list", *second).stdout.decode().splitlines()
    assert [line.split()[:2] for line in listed] == [["python", "-"], ["javascript", "held"]]


HELLO = """
import sys
print(sys.argv, open("data.csv").read().upper(), sys.stdin.read(), sep="")
"""
BROKEN = "print(1)\ndef f(:\n"


def test_a_python_script_runs_as_from_python(
    network: Network, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With its files and its input; a syntax error is told as Python does."""
    store = runtime_store(request, "python")
    (module,) = (each for each in store.held() if each.name == "python")
    # What other tests have compiled already serves here too.
    kept, compiled = network.folder / "worker3" / "runtimes", store.folder / "compiled"
    compiled.mkdir(mode=0o700, exist_ok=True)
    kept.mkdir()
    for path in (compiled, store.folder / f"{module.digest.hex()}.wasm"):
        (kept / path.name).symlink_to(path)
    wait_for(lambda: holders(network)["worker3"] == ["python"], "the runtime's listing")
    # The worker makes it ready by itself.
    wait_for(
        lambda: any(path.stat().st_size > module.size // 2 for path in compiled.glob("*.code")),
        "compiled code",
        COMPILING,
    )
    hello, data = tmp_path / "hello.py", tmp_path / "data.csv"
    hello.write_text(HELLO)
    data.write_text("a,b\n")
    answer = network.fog("run", hello, "--file", data, "--", "x", stdin=b"input")
    assert answer.stdout == b"['hello.py', 'x']A,B\ninput\n", answer.stderr
    assert answer.returncode == 0
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    answer = network.fog("run", broken)
    assert answer.returncode == 1
    assert answer.stdout == b""
    told = answer.stderr.decode()
    assert 'File "broken.py", line 2' in told
    assert told.endswith("SyntaxError: invalid syntax\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "cobol"), "no runtime 'cobol', nor is there such a file"),
        (("add", "cobol", "--from-network"), "no runtime 'cobol': this release knows python"),
        (("add", "data.csv"), "is no runtime of this release"),
        (("remove", "python"), "not held here"),
    ],
)
def test_what_cannot_be_added_or_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    home = Network(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("a,b\n")
    assert home.fog("worker", "init", "--dir", "w", "--nickname", "w").returncode == 0
    answer = home.fog("worker", "runtime", *arguments, "--dir", "w")
    assert answer.returncode == 125
    assert sentence in answer.stderr.decode()


def test_the_workers_of_a_test_network_hold_what_was_asked_for(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    module = runtime_module("javascript", request)
    made = _make_homes(tmp_path, Size(1, 3, 2), [module])
    held = {
        place.nickname: [spec.name for spec in RuntimeStore(place.folder / "runtimes").held()]
        for place in made.values()
    }
    assert {name for name, names in held.items() if names} == {"worker1", "worker2"}
    assert held["worker1"] == ["javascript"]
    answer = fog("testnet", "up", "--dir", tmp_path / "other", "--runtime", "cobol")
    assert answer.returncode == 125
    assert b"there is no runtime cobol" in answer.stderr
    assert not (tmp_path / "other").exists()


def test_only_a_worker_holds_runtimes(tmp_path: Path) -> None:
    home = Network(tmp_path)
    relay = ("--dir", tmp_path / "r", "--nickname", "r", "--address", "127.1.0.1:9001")
    assert home.fog("relay", "init", *relay).returncode == 0
    answer = home.fog("worker", "runtime", "list", "--dir", tmp_path / "r")
    assert b"only workers hold runtimes" in answer.stderr


def test_a_script_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    home = Network(tmp_path)
    script, same = tmp_path / "job.js", tmp_path / "main.js"
    script.write_text("")
    same.write_text("")
    answer = home.fog("run", script, "--file", same)
    assert answer.returncode == 125
    assert b"the script is sent as main.js" in answer.stderr
    answer = home.fog("run", script, "--runtime", "cobol")
    assert b"no runtime 'cobol'" in answer.stderr
