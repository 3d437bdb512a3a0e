"""Where a job's results go: folders, standard output, or lines of JSON (spec/11 §2)."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fogbank.cli.joblog import Entry, JobLog, Recorded
from fogbank.cli.output import as_text, emit, emit_errors, note
from fogbank.client.journal.records import Kept, Stage
from fogbank.client.patterns import Pattern, command_of
from fogbank.sandbox.data import Data, whole
from fogbank.sandbox.files_shell import sync
from fogbank.sandbox.scratch_shell import write_data

_SETTLING = 8
"""Files that are waited for at once, so that the disk takes them together."""


class ToFolder:
    """A folder for each task, with its output, its errors and what there is to know.

    It appears at once and whole: a task without a result has none.
    """

    in_order = False

    def __init__(self, folder: Path, pattern: Pattern) -> None:
        self._folder = folder
        self._pattern = pattern
        self._unsettled: list[Path] = []

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        """Write the folder of a task."""
        if task.stdout is None:
            return
        temporary = self._folder / f".{task.number}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_data(temporary / "stdout", stdout)
        write_data(temporary / "stderr", stderr)
        text = json.dumps(report(task, self._pattern), indent=2) + "\n"
        (temporary / "task.json").write_text(text)
        final = self._folder / str(task.number)
        # There is one if the client was killed before it could record the result.
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        self._unsettled.append(final)

    def settle(self) -> None:
        """Wait until the folders that were written are on the disk, all of them together."""
        folders, self._unsettled = self._unsettled, []
        if not folders:
            return
        files = [path for folder in folders for path in folder.iterdir()]
        with ThreadPoolExecutor(_SETTLING) as pool:
            for _ in pool.map(sync, [*files, *folders]):
                pass
        sync(self._folder)


class InOrder:
    """Standard output and error, task by task in their order."""

    in_order = True

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        """Print what a task wrote."""
        del task
        self._before()
        emit(stdout)
        emit_errors(stderr)

    def settle(self) -> None:
        """Leave it to whoever reads."""


class AsJson:
    """A line of JSON for each task, as its end comes."""

    in_order = False

    def __init__(self, pattern: Pattern, before: Callable[[], None] = lambda: None) -> None:
        self._pattern = pattern
        self._before = before

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        """Print a line."""
        self._before()
        emit(json.dumps({**report(task, self._pattern), **outputs(task, stdout, stderr)}))

    def settle(self) -> None:
        """Leave it to whoever reads."""


class OfRun:
    """What `fog run` prints of its one task: its outputs as they are, or one JSON object."""

    in_order = True

    def __init__(self, path_of: Callable[[str], tuple[str, ...]], *, as_json: bool) -> None:
        self._path_of = path_of
        self._as_json = as_json

    def put(self, task: Kept, stdout: Data, stderr: Data) -> None:
        """Print it, and what went wrong if anything did."""
        if self._as_json:
            emit(json.dumps(self._report(task, stdout, stderr)))
        else:
            emit(stdout)
            emit_errors(stderr)
        if task.reason:
            note(task.reason)

    def settle(self) -> None:
        """Leave it to whoever reads."""

    def _report(self, task: Kept, stdout: Data, stderr: Data) -> dict[str, Any]:
        about: dict[str, Any] = {
            "schema": "fogbank.run/1",
            "outcome": outcome_of(task),
            "reason": task.reason,
            "exit_code": task.code,
        }
        if task.stdout is not None:
            about |= {"fuel": task.fuel, "path": list(self._path_of(task.worker))}
        return about | outputs(task, stdout, stderr)


def outcome_of(task: Kept) -> str:
    """Return how a task ended, in the words of results: the sandbox's, if it had one."""
    if task.outcome:
        return task.outcome
    return "error" if task.stage in {Stage.DONE, Stage.FAILED} else str(task.stage)


def report(task: Kept, pattern: Pattern) -> dict[str, Any]:
    """Return what there is to know of a task's end, but for its outputs."""
    return {
        "schema": "fogbank.task/1",
        "task": task.number,
        "arguments": list(pattern.arguments_of(task.number, task.origin.value)),
        "outcome": outcome_of(task),
        "reason": task.reason,
        "exit_code": task.code,
        "fuel": task.fuel,
        "seconds": round(task.seconds, 3),
        "worker": task.worker,
    }


def outputs(task: Kept, stdout: Data, stderr: Data) -> dict[str, Any]:
    """Return the outputs as a report has them; nothing if the task has no result."""
    if task.stdout is None:
        return {}
    out, err = whole(stdout), whole(stderr)
    return {
        "stdout": as_text(out),
        "stderr": as_text(err),
        "stdout_base64": base64.b64encode(out).decode(),
        "stderr_base64": base64.b64encode(err).decode(),
    }


class Logged:
    """Writes a line of the log for each result that is where it belongs (spec/11 §4)."""

    def __init__(self, log: JobLog, pattern: Pattern) -> None:
        self._log = log
        self._pattern = pattern
        self._common = sum(len(data) for _, data in pattern.files)

    def has(self, task: Kept) -> bool:
        """Whether the log has a line of this very end."""
        recorded = self._log.recorded.get(task.number)
        return recorded == Recorded(task.code, task.digest)

    def record(self, task: Kept, began: float) -> None:
        """Write it: of a task that is done, and that the log has no line of."""
        if task.stage is not Stage.DONE or self.has(task):
            return
        arguments = self._pattern.arguments_of(task.number, task.origin.value)
        sent, received = self._common + task.origin.size, task.output_size
        command = command_of(self._pattern.name, arguments)
        about = (task.number, task.worker, began, task.seconds, sent, received, task.code)
        self._log.record(Entry(*about, command, task.digest))

    def settle(self) -> None:
        """Wait until what was recorded is on the disk."""
        self._log.settle()
