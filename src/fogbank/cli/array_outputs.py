"""Where an array's results go: folders, standard output, or lines of JSON (spec/11 §2)."""

from __future__ import annotations

import base64
import json
import shutil
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from fogbank.cli.output import as_text, emit, emit_errors
from fogbank.client.exit_codes import Ending as Words
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.sandbox.data import Data, whole
from fogbank.sandbox.scratch_shell import FileData, write_data

_IN_MEMORY = 4096
"""The most bytes of one output that waits for its turn in memory and not in a file."""

Done = Callable[[TaskEnd, int], None]
"""Hears of each end whose result is where it belongs, and how many bytes of output it has."""


class Output(Protocol):
    """Puts results where they belong. Its methods may block, and are called one at a time.

    `prints`: whether that may be a terminal.
    """

    prints: bool

    def expect(self, numbers: list[int]) -> None:
        """Hear of tasks, in their order, before their ends."""

    def put(self, end: TaskEnd, words: Words) -> None:
        """Take a task's end; raise `OSError`."""

    def close(self) -> None:
        """There are no more."""


class ToFolder:
    """A folder for each task, with its output, its errors and what there is to know.

    It appears at once and whole: a task without a result has none.
    """

    prints = False

    def __init__(self, folder: Path, done: Done) -> None:
        self._folder = folder
        self._done = done

    def expect(self, numbers: list[int]) -> None:
        """Folders need no order."""

    def put(self, end: TaskEnd, words: Words) -> None:
        """Write the folder of a task."""
        if end.ending is Ending.DONE and end.result is not None:
            temporary = self._folder / f".{end.number}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            write_data(temporary / "stdout", end.result.stdout)
            write_data(temporary / "stderr", end.result.stderr)
            text = json.dumps(report(end, words), indent=2) + "\n"
            (temporary / "task.json").write_text(text)
            final = self._folder / str(end.number)
            # There is one if the client was killed before it could record the result.
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        self._done(end, output_size(end))

    def close(self) -> None:
        """Nothing waits."""


class InOrder:
    """Standard output and error, task by task in their order.

    What comes before its turn waits, in files if it is long.
    """

    prints = True

    def __init__(self, done: Done) -> None:
        self._done = done
        self._order: deque[int] = deque()
        self._early: dict[int, tuple[TaskEnd, int, bytes | Path, bytes | Path]] = {}
        self._stack = ExitStack()
        self._spool: Path | None = None

    def expect(self, numbers: list[int]) -> None:
        """Hear in which order the outputs belong."""
        self._order.extend(numbers)

    def put(self, end: TaskEnd, words: Words) -> None:
        """Print what has its turn now."""
        del words
        size = output_size(end)
        stdout, stderr = (end.result.stdout, end.result.stderr) if end.result else (b"", b"")
        if self._order and self._order[0] == end.number:
            self._print(end, size, stdout, stderr)
            while self._order and self._order[0] in self._early:
                early, size, *kept = self._early.pop(self._order[0])
                self._print(early, size, *map(_taken, kept))
            return
        waiting = self._keep(end.number, "stdout", stdout), self._keep(end.number, "stderr", stderr)
        if end.result is not None:
            end = replace(end, result=replace(end.result, stdout=b"", stderr=b""))
        self._early[end.number] = end, size, *waiting

    def _print(self, end: TaskEnd, size: int, stdout: Data, stderr: Data) -> None:
        self._order.popleft()
        emit(stdout)
        emit_errors(stderr)
        self._done(end, size)

    def _keep(self, number: int, name: str, data: Data) -> bytes | Path:
        if len(data) <= _IN_MEMORY:
            return whole(data)
        if self._spool is None:
            spool = TemporaryDirectory(prefix="fogbank-map-", ignore_cleanup_errors=True)
            self._spool = Path(self._stack.enter_context(spool))
        path = self._spool / f"{number}.{name}"
        write_data(path, data)
        return path

    def close(self) -> None:
        """Remove the files of what was not printed."""
        self._stack.close()


class AsJson:
    """A line of JSON for each task, as its end comes."""

    prints = True

    def __init__(self, done: Done) -> None:
        self._done = done

    def expect(self, numbers: list[int]) -> None:
        """Each line says which task it is of."""

    def put(self, end: TaskEnd, words: Words) -> None:
        """Print a line."""
        result = end.result
        outputs: dict[str, Any] = {}
        if result is not None:
            for name, data in (("stdout", result.stdout), ("stderr", result.stderr)):
                output = whole(data)
                outputs[name] = as_text(output)
                outputs[f"{name}_base64"] = base64.b64encode(output).decode()
        emit(json.dumps({**report(end, words), **outputs}))
        self._done(end, output_size(end))

    def close(self) -> None:
        """Nothing waits."""


def report(end: TaskEnd, words: Words) -> dict[str, Any]:
    """Return what there is to know of a task's end, but for its outputs."""
    result = end.result
    outcome = end.ending.name.lower() if end.ending is not Ending.FAILED else "error"
    return {
        "schema": "fogbank.task/1",
        "task": end.number,
        "arguments": list(end.task.args[1:]),
        "outcome": result.outcome.name.lower() if result is not None else outcome,
        "reason": words.sentence,
        "exit_code": words.code,
        "fuel": result.fuel if result is not None else 0,
        "seconds": round(end.seconds, 3),
        "worker": end.worker,
    }


def output_size(end: TaskEnd) -> int:
    """Return how many bytes of output a task's end has."""
    return 0 if end.result is None else len(end.result.stdout) + len(end.result.stderr)


def _taken(output: bytes | Path) -> Data:
    """Return an output, and remove its file, which is open as long as it is needed."""
    if isinstance(output, Path):
        data = FileData.open(output)
        output.unlink()
        return data
    return output
