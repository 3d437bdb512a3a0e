"""What a test network's authorities grant to its nodes, by their `policy.toml` (spec/09 §5)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tomli_w

from fogbank.directory.descriptor import Role
from fogbank.directory.rules import parse_policy
from fogbank.nodes.home import HomeError
from fogbank.nodes.policy_file import POLICY_FILE
from fogbank.relay.keys import show_id
from fogbank.relay.keystore_shell import KeyStore
from fogbank.sandbox.files_shell import write_atomic
from fogbank.testnet import processes


def grant(folder: Path, nickname: str, amount: int) -> None:
    """Let all authorities in `folder` grant a node so many tokens of each series.

    Raises `HomeError` if there is no such network or node, `PolicyError` if no policy may say so.
    """
    nodes = processes.load(folder)
    node = next((each for each in nodes if each.nickname == nickname), None)
    if node is None:
        known = ", ".join(each.nickname for each in nodes)
        raise HomeError(
            f"no node of the network in {folder} is called {nickname!r}: it has {known}"
        )
    identity = show_id(KeyStore.open(Path(node.folder) / "keys").identity)
    authority = Role.AUTHORITY.name.lower()
    for each in nodes:
        if each.role == authority:
            _grant(Path(each.folder) / POLICY_FILE, identity, amount)


def _grant(path: Path, identity: str, amount: int) -> None:
    policy = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    policy["grant"] = {**policy.get("grant", {}), identity: amount}
    text = tomli_w.dumps(policy)
    parse_policy(text)
    write_atomic(path, text.encode())
