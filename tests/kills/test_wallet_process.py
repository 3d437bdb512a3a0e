"""A few kills of a process with wallets; `make kills-wallet` does hundreds of commands."""

from __future__ import annotations

from pathlib import Path

from tests.kills.wallet_kills import Killing


def test_no_kill_loses_a_token_or_doubles_one(tmp_path: Path) -> None:
    result = Killing(tmp_path, seed=11).run(4)
    assert result.asked > 0
