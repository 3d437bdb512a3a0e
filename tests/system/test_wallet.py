"""Credit on a network of real processes: granted, withdrawn, sent, received, killed, restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.networks import Network, command, environment, start_network, stop_network

pytestmark = pytest.mark.network
PATIENCE = 60.0
GRANTED = 40


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network whose worker1 and relay1 are granted tokens."""
    folder = tmp_path_factory.mktemp("credit") / "network"
    running = start_network(folder, "--workers", "1")
    for node in ("worker1", "relay1"):
        done(running, "testnet", "grant", "--dir", folder, node, str(GRANTED))
    yield running
    stop_network(running)


def done(
    network: Network, *arguments: str | Path, stdin: bytes = b"", home: Path | None = None
) -> str:
    answer = network.fog(*arguments, stdin=stdin, home=home)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.decode().strip()


def wallet(
    network: Network, *arguments: str | Path, stdin: bytes = b"", home: Path | None = None
) -> Any:
    """Run a `fog wallet` command, and return what it prints as JSON."""
    return json.loads(done(network, "wallet", *arguments, "--json", stdin=stdin, home=home))


def balance(network: Network, *, node: str = "", home: Path | None = None) -> Any:
    where = ("--dir", network.folder / node) if node else ()
    return wallet(network, "balance", *where, home=home)


def total(found: Any) -> int:
    return int(found["ready"] + found["resting"] + found["on_its_way"])


def wait_for(network: Network, node: str, ready: int) -> None:
    """Wait until a node has so many tokens that are ready."""
    deadline = time.monotonic() + PATIENCE
    found: Any = None
    while time.monotonic() < deadline:
        if (network.folder / node / "wallet").exists():
            found = balance(network, node=node)
            if found["ready"] >= ready:
                return
        time.sleep(0.3)
    pytest.fail(f"{node} has {found}")


def test_a_node_withdraws_and_its_owner_is_paid(network: Network) -> None:
    worker = network.folder / "worker1"
    wait_for(network, "worker1", GRANTED)
    # What the daemon withdrew is not there a second time, by hand.
    again = wallet(network, "withdraw", "--dir", worker)
    assert (again["allotted"], again["withdrawn"]) == (GRANTED, 0)
    before = total(balance(network)) if (network.folder / "client" / "wallet").exists() else 0
    invoice = done(network, "wallet", "receive", "5")
    assert invoice.startswith("foginvoice1")
    cheque = done(network, "wallet", "send", invoice, "--dir", worker)
    assert cheque.startswith("fogcheque1")
    taken = wallet(network, "receive", cheque)
    assert (taken["counted"], taken["again"], taken["issued"]) == (5, 0, 5)
    twice = network.fog("wallet", "receive", "-", stdin=cheque.encode())
    assert twice.returncode == 0
    assert b"counted before" in twice.stderr
    assert total(balance(network)) == before + 5
    assert total(balance(network, node="worker1")) == GRANTED - 5
    (payment,) = wallet(network, "history", "--dir", worker)["payments"]
    assert payment["handed_over"]
    again = done(network, "wallet", "send", "--again", str(payment["id"]), "--dir", worker)
    assert again == cheque


def test_a_command_that_is_killed_loses_nothing_and_doubles_nothing(
    network: Network, tmp_path: Path
) -> None:
    relay = network.folder / "relay1"
    wait_for(network, "relay1", GRANTED)
    payee = tmp_path / "payee"
    done(network, "join", network.folder / "client" / "network.toml", home=payee)
    invoice = tmp_path / "invoice"
    done(network, "wallet", "receive", "11", "-o", invoice, home=payee)
    # From before the wallet is opened to after the last word.
    for delay in (0.4, 0.6, 0.7, 0.9):
        kill_after(delay, network, "send", invoice, "--dir", relay)
    cheque = done(network, "wallet", "send", invoice, "--dir", relay)
    for delay in (0.4, 0.6, 0.7, 0.9):
        kill_after(delay, network, "receive", cheque, home=payee)
    wallet(network, "receive", cheque, home=payee)
    assert total(balance(network, home=payee)) == 11
    assert total(balance(network, node="relay1")) == GRANTED - 11


def kill_after(
    seconds: float, network: Network, *arguments: str | Path, home: Path | None = None
) -> None:
    process = subprocess.Popen(
        command(("wallet", *arguments)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(home or network.folder / "client"),
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_words_restore_a_sealed_wallet_elsewhere(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(network, "worker1", 1)
    first, second = tmp_path / "first", tmp_path / "second"
    for home in (first, second):
        done(network, "join", network.folder / "client" / "network.toml", home=home)
    invoice = done(network, "wallet", "receive", "3", home=first)
    cheque = done(network, "wallet", "send", invoice, "--dir", network.folder / "worker1")
    words = done(network, "wallet", "backup", home=first)
    assert len(words.split()) == 12
    monkeypatch.setenv("FOG_WALLET_NEW_PASSPHRASE", "open sesame")
    done(network, "wallet", "encrypt", home=first)
    sealed = network.fog("wallet", "receive", cheque, home=first)
    assert sealed.returncode == 125
    assert b"FOG_WALLET_PASSPHRASE" in sealed.stderr
    monkeypatch.setenv("FOG_WALLET_PASSPHRASE", "open sesame")
    assert wallet(network, "receive", cheque, home=first)["issued"] == 3
    monkeypatch.delenv("FOG_WALLET_PASSPHRASE")
    assert wallet(network, "restore", stdin=words.encode(), home=second)["tokens"] == 3
    assert total(balance(network, home=second)) == 3
    other = network.fog("wallet", "restore", stdin=b"zoo " * 12, home=second)
    assert other.returncode == 125


def test_with_one_authority_down_credit_goes_on(network: Network) -> None:
    """The last test: this authority does not come back."""
    wait_for(network, "worker1", 2)
    victim = next(each for each in network.nodes() if each["nickname"] == "authority2")
    os.kill(victim["pid"], signal.SIGKILL)
    before = total(balance(network))
    invoice = done(network, "wallet", "receive", "2")
    cheque = done(network, "wallet", "send", invoice, "--dir", network.folder / "worker1")
    assert wallet(network, "receive", cheque)["issued"] == 2
    assert total(balance(network)) == before + 2
