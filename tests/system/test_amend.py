"""The next version of a network's file: written, signed, handed out, taken up (spec/05 §1.4)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fogbank.directory.descriptor import Role
from fogbank.directory.network import load_network
from fogbank.nodes.home import Home, HomeError, Settings
from fogbank.relay.extend import Address
from tests.system.networks import fog


def said(*arguments: str | Path) -> str:
    answer = fog(*arguments)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stderr.decode()


def authority(folder: Path, number: int) -> Path:
    home = folder / f"a{number}"
    said("authority", "init", "--dir", home, "--nickname", home.name, "--address",
         f"127.{number}.0.1:9000")  # fmt: skip
    return home


def test_an_authority_is_replaced(tmp_path: Path) -> None:
    homes = [authority(tmp_path, number) for number in range(1, 6)]
    first, second = tmp_path / "network.toml", tmp_path / "network-2.toml"
    said("network", "create", first, *homes[:4], "--test", "--interval", "30", "--phase", "1")
    reader = Home(tmp_path / "relay")
    address = (Address("127.9.0.1", 9),)
    reader.create(Settings(Role.RELAY, "r", address), first.read_text(), None, time.time())

    said("network", "amend", first, second, "--add", homes[4], "--remove", "a1",
         "--start-in", "600")  # fmt: skip
    sign = ("network", "sign", second, "--previous", first, "--dir")
    assert "missing: 3" in said(*sign, homes[0]), "of the new ones nobody has signed yet"
    refused = fog("network", "sign", second, "--dir", homes[0])
    assert b"does not name the node" in refused.stderr
    with pytest.raises(HomeError, match="signatures of authorities"):
        reader.set_network(second.read_text())
    said(*sign, homes[1])
    assert "missing: 1" in said(*sign, homes[4])
    assert "missing: 0" in said(*sign, homes[2])

    # Whoever takes it up knows both versions, now and after a restart.
    reader.set_network(second.read_text())
    for _ in range(2):
        document = reader.network()
        assert document.version == 2
        assert document.previous == load_network(first.read_text()).document
        assert {pin.nickname for pin in document.everyone} == {"a1", "a2", "a3", "a4", "a5"}
        assert document.governing(document.in_force - 1).version == 1
        assert document.governing(document.in_force).version == 2
        reader.set_network(second.read_text())
    # There is no way back, and no way past a version.
    with pytest.raises(HomeError, match="version 3 comes next"):
        reader.set_network(first.read_text())

    # Who joins now starts with the second version.
    newcomer = Home(tmp_path / "newcomer")
    newcomer.set_network(second.read_text())
    assert newcomer.network().previous is None


def test_what_cannot_be_amended(tmp_path: Path) -> None:
    home = authority(tmp_path, 1)
    first = tmp_path / "network.toml"
    said("network", "create", first, home, "--test")
    for arguments, why in (
        (("--remove", "nobody"), b"names no authority nobody"),
        (("--remove", "a1"), b"a network has 1 to 32 authorities"),
        (("--add", home), b"pins one authority twice"),
    ):
        answer = fog("network", "amend", first, tmp_path / "next.toml", *arguments)
        assert answer.returncode == 125
        assert why in answer.stderr
    assert not (tmp_path / "next.toml").exists()
