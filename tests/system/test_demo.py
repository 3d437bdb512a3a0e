"""The demo, whole and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.networks import command, environment, fog

pytestmark = pytest.mark.network
PATIENCE = 60.0


def node_processes(mark: str) -> list[int]:
    """Return the processes whose command line names a folder below `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(mark.encode() in word for word in words):
            found.append(int(path.parent.name))
    return found


def test_the_demo_renders_the_picture_and_leaves_nothing_running(tmp_path: Path) -> None:
    output = tmp_path / "output"
    answer = fog("demo", "--output", output, temporary=tmp_path)
    assert answer.returncode == 0, answer.stderr.decode()
    assert answer.stdout.decode().strip() == str(output / "render.png")
    assert (output / "render.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert b"the same to the byte" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    assert not node_processes(str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        command(("demo", "--output", tmp_path / "output")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(tmp_path), "TMPDIR": str(tmp_path)},
        # A test runner in the background may ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stderr is not None
    said = b""
    while b"circuit:" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert node_processes(str(tmp_path))
    os.kill(process.pid, number)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert b"Traceback" not in rest
    deadline = time.monotonic() + PATIENCE
    while node_processes(str(tmp_path)):
        assert time.monotonic() < deadline, "the demo's nodes still run"
        time.sleep(0.1)
