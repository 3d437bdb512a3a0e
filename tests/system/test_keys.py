"""The keys of a node through the `fog` command: an identity that is kept elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fogbank.nodes.home import Home
from fogbank.relay.certificates import DAY
from fogbank.relay.errors import KeyStoreError
from tests.system.networks import fog


def said(*arguments: str | Path) -> str:
    answer = fog(*arguments)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.decode()


def test_an_offline_identity(tmp_path: Path) -> None:
    folder, vault = tmp_path / "relay", tmp_path / "vault.key"
    asked, given = tmp_path / "request", tmp_path / "certificate"
    made = said("relay", "init", "--dir", folder, "--nickname", "r", "--address", "192.0.2.1:9001")
    assert "identity key: in the folder" in said("relay", "key", "show", "--dir", folder)
    said("relay", "key", "take-offline", "--dir", folder, vault)
    before = said("relay", "key", "show", "--dir", folder)
    assert made.strip() in before
    assert "identity key: elsewhere" in before

    without = fog("relay", "key", "renew", "--dir", folder)
    assert without.returncode == 125
    assert b"identity.key is not there" in without.stderr

    # It starts as long as its signing key holds, and not any more after that.
    Home(folder).keys(time.time() + 25 * DAY)
    with pytest.raises(KeyStoreError, match="expired on"):
        Home(folder).keys(time.time() + 31 * DAY)

    said("relay", "key", "request", "--dir", folder, asked)
    signing = said("relay", "key", "certify", asked, given, "--identity", vault).strip()
    said("relay", "key", "renew", "--dir", folder, given)
    # The node takes it up when it starts.
    Home(folder).keys(time.time())
    after = said("relay", "key", "show", "--dir", folder)
    assert f"signing key: {signing}," in after
    assert signing not in before
