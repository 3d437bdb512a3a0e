"""The nodes of a test network, killed and started again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fogbank.testnet import processes

PATIENCE = 30.0


class Nodes:
    """All processes of the network in a folder, which its note of them follows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes = {node.nickname: node for node in processes.load(folder)}

    def names(self, role: str) -> list[str]:
        """Return the nicknames of all nodes of a role."""
        return [node.nickname for node in self._nodes.values() if node.role == role]

    def kill(self, nickname: str) -> None:
        """End a node by SIGKILL, and wait until it is gone."""
        node = self._nodes[nickname]
        if node.alive:
            os.kill(node.pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while node.alive:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{nickname} does not end")
            time.sleep(0.01)

    def start(self, nickname: str) -> None:
        """Start a node that was killed."""
        old = self._nodes[nickname]
        self._nodes[nickname] = processes.start(
            old.role, nickname, old.address, Path(old.folder), attached=False
        )
        # Who ends the network finds its processes by this note.
        processes.save(self._folder, list(self._nodes.values()))

    def logs(self) -> str:
        """Return the ends of all logs in which something went wrong."""
        texts = {
            node.nickname: (Path(node.folder) / "log").read_text(errors="replace")
            for node in self._nodes.values()
        }
        return "\n".join(
            f"== {name}\n{text[-3000:]}" for name, text in texts.items() if "Traceback" in text
        )
