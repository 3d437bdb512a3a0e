"""Networks of real processes, used through the `fog` command as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_SECONDS = 90


@dataclass(frozen=True)
class Network:
    """A running test network and its `fog` command."""

    folder: Path

    def fog(
        self, *arguments: str | Path, stdin: bytes = b"", home: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return fog(*arguments, stdin=stdin, home=home or self.folder / "client")

    def nodes(self) -> list[dict[str, Any]]:
        answer = self.fog("testnet", "status", "--dir", self.folder, "--json")
        nodes: list[dict[str, Any]] = json.loads(answer.stdout)["nodes"]
        return nodes


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "FOGBANK_HOME": str(home)}


def fog(
    *arguments: str | Path,
    stdin: bytes = b"",
    home: Path = Path("/nonexistent"),
    temporary: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the `fog` command in a process of its own."""
    return subprocess.run(
        command(arguments),
        input=stdin,
        capture_output=True,
        env=environment(home) | ({"TMPDIR": str(temporary)} if temporary else {}),
        timeout=RUN_SECONDS,
        check=False,
    )


def command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "fogbank", *map(str, arguments)]


def start_network(folder: Path, *sizes: str) -> Network:
    answer = fog("testnet", "up", "--dir", folder, *sizes)
    logs = b"".join(
        b"\n== %s\n%s" % (path.parent.name.encode(), path.read_bytes()[-2000:])
        for path in folder.glob("*/log")
    )
    assert answer.returncode == 0, (answer.stderr + logs).decode(errors="replace")
    return Network(folder)


def stop_network(network: Network) -> None:
    network.fog("testnet", "down", "--dir", network.folder)
