"""Cashu's nutshell beside our mint: one mint, SQLite, fake Lightning, over HTTP on loopback.

It is installed by pip into an environment of its own in a temporary folder, and measured by its own
code (`nutshell_swaps.py`). One process signs alone there; ours is a quorum of four over circuits.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = ("cashu==0.20.2", "marshmallow<4", "limits<4")
"""What it names itself, and what it does not run with in later versions."""
_INSTALL_SECONDS = 300.0
_START_SECONDS = 60.0
_RUN_SECONDS = 300.0
_SETTINGS = {
    "MINT_PRIVATE_KEY": "bench",
    "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
    "MINT_RATE_LIMIT": "FALSE",
    "MINT_INPUT_FEE_PPK": "0",
    "MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT": "0",
    "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
    "TOR": "FALSE",
    "LOG_LEVEL": "WARNING",
}


class NotThere(Exception):
    """It could not be installed or run; says why."""


def measure(folder: Path, swaps: int, at_once: dict[int, int]) -> dict[str, Any]:
    """Return its figures, by the tokens of a swap; raise `NotThere` with the reason.

    `at_once`: wallets that swap at once, by the tokens of a swap.
    """
    binaries = _install(folder / "venv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _mint(binaries, folder, port):
        script = Path(__file__).with_name("nutshell_swaps.py")
        words = [f"http://127.0.0.1:{port}", str(swaps), json.dumps(at_once)]
        answer = _run([binaries / "python", script, *words], folder, _RUN_SECONDS)
        figures: dict[str, Any] = json.loads(answer)
        return figures


def _environment(folder: Path) -> dict[str, str]:
    # Its settings and its data stay in the folder.
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    return {**kept, **_SETTINGS, "HOME": str(folder), "MINT_DATABASE": str(folder / "mint")}


def _run(command: list[object], folder: Path, seconds: float) -> str:
    try:
        done = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(f"nutshell was not measured: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise NotThere(f"nutshell was not measured: {last}")
    return done.stdout


def _install(folder: Path) -> Path:
    """Make an environment with it, by pip with its usual settings; return where programs are."""
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False)
    if made.returncode:
        raise NotThere("nutshell was not measured: no environment can be made for it")
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *PACKAGES]
    try:
        installed = subprocess.run(
            list(map(str, command)), capture_output=True, check=False, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NotThere("nutshell was not measured: installing it takes too long") from error
    if installed.returncode:
        raise NotThere("nutshell was not measured: it does not install here")
    return folder / "bin"


@contextmanager
def _mint(binaries: Path, folder: Path, port: int) -> Iterator[None]:
    log = folder / "mint.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(binaries / "mint"), "--port", str(port)],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotThere("nutshell was not measured: its mint does not start")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0):
            return True
    except OSError:
        return False
