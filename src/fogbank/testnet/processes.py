"""The processes of a test network: started, found again, ended by their ids."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fogbank.nodes.home import HomeError
from fogbank.sandbox.files_shell import write_atomic

_STATE_FILE = "testnet.json"
_STATE_VERSION = 1
_END_SECONDS = 10.0
_POLL_SECONDS = 0.05
_START_TIME_FIELD = 19
"""Of /proc/PID/stat, counted after the command's name: when the process started."""


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """One node's process. `started` tells it from a later process with the same id."""

    role: str
    nickname: str
    address: str
    folder: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return start_time(self.pid) == self.started

    def row(self) -> dict[str, Any]:
        """Return what `fog testnet status` shows of it."""
        return {
            "role": self.role,
            "nickname": self.nickname,
            "pid": self.pid,
            "address": self.address,
            "state": "running" if self.alive else "stopped",
        }


def start_time(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[_START_TIME_FIELD])


def start(role: str, nickname: str, address: str, folder: Path, *, attached: bool) -> NodeProcess:
    """Start a node. An attached one ends when this process does."""
    command = [sys.executable, "-m", "fogbank", role, "run", "--dir", str(folder)]
    if attached:
        command.append("--until-eof")
    with (folder / "log").open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=_attachment() if attached else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return NodeProcess(
        role, nickname, address, str(folder), process.pid, start_time(process.pid) or 0
    )


_children: dict[int, subprocess.Popen[bytes]] = {}
_attached: list[int] = []


def _attachment() -> int:
    """Return the reading end of a pipe whose writing end lives as long as this process."""
    if not _attached:
        reading, writing = os.pipe()
        _attached.extend((reading, writing))
    return _attached[0]


def end(nodes: list[NodeProcess]) -> None:
    """End these processes: ask first, then insist."""
    for node in nodes:
        _signal(node, signal.SIGTERM)
        # Workers let their tasks finish first; here nobody is left to wait for.
        _signal(node, signal.SIGINT)
    deadline = time.monotonic() + _END_SECONDS
    while any(map(_still_there, nodes)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for node in nodes:
        _signal(node, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS
    while any(map(_still_there, nodes)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _still_there(node: NodeProcess) -> bool:
    child = _children.get(node.pid)
    if child is not None:
        child.poll()  # a child of this process stays a zombie until it is asked
    return node.alive


def _signal(node: NodeProcess, number: signal.Signals) -> None:
    if node.alive:
        with suppress(ProcessLookupError):
            os.kill(node.pid, number)


def save(folder: Path, nodes: list[NodeProcess]) -> None:
    """Note which processes the network in `folder` consists of."""
    state = {"version": _STATE_VERSION, "nodes": [asdict(node) for node in nodes]}
    write_atomic(folder / _STATE_FILE, json.dumps(state, indent=1).encode())


def load(folder: Path) -> list[NodeProcess]:
    """Return the processes noted in `folder`; raise `HomeError` if there is no network."""
    path = folder / _STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return [NodeProcess(**node) for node in state["nodes"]]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HomeError(
            f"there is no test network in {folder}: start one with "
            f"`fog testnet up --dir {shlex.quote(str(folder))}`"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise HomeError(
            f"{path} cannot be read: end the network's processes by hand and delete it"
        ) from error


def forget(folder: Path) -> None:
    """Remove the note: there is no network."""
    with suppress(OSError):
        (folder / _STATE_FILE).unlink()
