"""Where the results of `fog map` go (spec/11 §2)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from fogbank.cli.array_outputs import AsJson, InOrder, Output, ToFolder
from fogbank.client.exit_codes import ending_of_task
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending
from fogbank.relay.job.client_session import TaskResult
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task


def end_of(number: int, stdout: bytes = b"", code: int = 0) -> TaskEnd:
    result = TaskResult(Outcome.COMPLETED, code, 5, 1, stdout, b"err %d\n" % number)
    return TaskEnd(number, Task(("p", "a")), Ending.DONE, result, worker="w", seconds=0.5)


def nobody(_end: TaskEnd, _size: int) -> None:
    """Hears of what is done, and does nothing."""


def put(output: Output, end: TaskEnd) -> None:
    output.put(end, ending_of_task(end))


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 5))))
def test_outputs_are_printed_in_the_order_of_their_tasks(
    order: tuple[int, ...], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    done: list[tuple[int, int]] = []
    output = InOrder(lambda end, size: done.append((end.number, size)))
    texts = {1: b"one\n", 2: bytes(10_000), 3: b"", 4: b"four"}
    output.expect([1, 2])
    output.expect([3, 4])
    for number in order:
        put(output, end_of(number, texts[number]))
    output.close()
    out, err = capfdbinary.readouterr()
    assert out == b"".join(texts.values())
    assert err == b"err 1\nerr 2\nerr 3\nerr 4\n"
    assert done == [(number, len(text) + 6) for number, text in texts.items()]


def test_a_task_without_a_result_does_not_stop_the_others(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    output = InOrder(nobody)
    output.expect([1, 2])
    put(output, end_of(2, b"two"))
    put(output, TaskEnd(1, Task(), Ending.EXPIRED))
    output.close()
    assert capfdbinary.readouterr()[0] == b"two"


def test_each_task_has_a_folder_that_is_whole(tmp_path: Path) -> None:
    done: list[int] = []
    output = ToFolder(tmp_path, lambda end, _: done.append(end.number))
    put(output, end_of(3, b"three", 7))
    put(output, TaskEnd(4, Task(), Ending.FAILED, error=None))
    # What a client that was killed left is replaced.
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stdout").write_bytes(b"half")
    (tmp_path / ".5.tmp").mkdir()
    put(output, end_of(5, b"five"))
    output.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "5"]
    assert (tmp_path / "3" / "stdout").read_bytes() == b"three"
    assert (tmp_path / "3" / "stderr").read_bytes() == b"err 3\n"
    assert (tmp_path / "5" / "stdout").read_bytes() == b"five"
    report = json.loads((tmp_path / "3" / "task.json").read_text())
    assert (report["task"], report["exit_code"], report["outcome"]) == (3, 7, "completed")
    assert done == [3, 4, 5]


def test_json_is_a_line_for_each_task(capfd: pytest.CaptureFixture[str]) -> None:
    output = AsJson(nobody)
    put(output, end_of(2, b"\xff"))
    put(output, TaskEnd(1, Task(), Ending.EXPIRED))
    first, second = map(json.loads, capfd.readouterr()[0].splitlines())
    assert first["schema"] == second["schema"] == "fogbank.task/1"
    assert (first["task"], first["stdout"], first["stdout_base64"]) == (2, None, "/w==")
    assert (second["task"], second["outcome"], second["exit_code"]) == (1, "expired", 124)
    assert second["reason"]
    assert "stdout" not in second
