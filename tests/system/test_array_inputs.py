"""Where the tasks of `fog map` come from (spec/11 §1)."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from fogbank.cli.array_inputs import (
    inputs_again,
    of_array,
    of_chunks,
    of_files,
    of_lines,
    of_values,
)
from fogbank.cli.array_progress import Tally, bar, describe, remaining
from fogbank.client.journal.records import Kept, Origin, Stage
from fogbank.client.journal.store_shell import Store
from fogbank.client.patterns import Item, Pattern, command_of
from fogbank.nodes.intake import Earlier, Inputs, Intake, Unfinished
from fogbank.sandbox.data import whole
from fogbank.sandbox.task import INPUT_SIZE, Task, TaskError

PATTERN = Pattern("p.wasm", bytes(32), ())


@pytest.mark.parametrize(
    ("spec", "numbers", "at_once"),
    [
        ("0-3", [0, 1, 2, 3], None),
        ("7", [7], None),
        ("1,4,10-30:10", [1, 4, 10, 20, 30], None),
        ("5-6,0%50", [5, 6, 0], 50),
    ],
)
def test_an_array_is_numbers_spans_and_steps(
    spec: str, numbers: list[int], at_once: int | None
) -> None:
    inputs, most = of_array(spec)
    assert [(item.number, item.value) for item in inputs.items] == [(n, str(n)) for n in numbers]
    assert (inputs.total, most) == (len(numbers), at_once)


@pytest.mark.parametrize(
    "spec",
    [
        *("", "a", "3-1", "1-", "-1", "1:0", "0-9%", "0-9%0", "1,,2", "1,1", "0-9,5", "1.5"),
        *("\u0663", "0-99999999999", "9" * 5000, "0-9%5%5", "0-8:4,4-6:2"),
    ],
)
def test_what_is_no_array_is_refused_in_a_sentence(spec: str) -> None:
    with pytest.raises(ValueError, match="--array"):
        of_array(spec)


def test_a_long_array_is_not_listed() -> None:
    inputs, _ = of_array("0-9999998:2,1-9999999:2")
    assert inputs.total == 10_000_000
    assert next(inputs.items) == Item(0, "0")


def test_a_line_is_standard_input_or_an_argument() -> None:
    text = b"one\n\r\ntwo \xff\nlast"
    lines = of_lines(io.BytesIO(text), as_argument=False)
    assert [item.stdin for item in lines.items] == [b"one\n", b"\r\n", b"two \xff\n", b"last"]
    values = of_lines(io.BytesIO(b"one\n\r\nlast"), as_argument=True)
    assert [item.value for item in values.items] == ["one", "", "last"]
    with pytest.raises(ValueError, match="line 3 is not UTF-8"):
        list(of_lines(io.BytesIO(text), as_argument=True).items)


class Endless(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize(
    "read",
    [
        lambda file: of_lines(file, as_argument=False),
        lambda file: of_chunks(file, 1000),
    ],
)
def test_what_has_no_end_is_not_read_to_its_end(read: Callable[..., object]) -> None:
    inputs = read(io.BufferedReader(Endless()))
    with pytest.raises(ValueError, match="has more than"):
        next(inputs.items)  # type: ignore[attr-defined]


def test_chunks_end_with_lines_and_lose_nothing() -> None:
    text = b"".join(b"%d\n" % number for number in range(1000)) + b"end"
    chunks = [whole(item.stdin) for item in of_chunks(io.BytesIO(text), 100).items]
    assert b"".join(chunks) == text
    assert all(len(chunk) >= 100 and chunk.endswith(b"\n") for chunk in chunks[:-1])
    assert len(chunks) > 30
    with pytest.raises(ValueError, match="at most"):
        of_chunks(io.BytesIO(text), INPUT_SIZE + 1)


def test_each_file_is_a_task_that_sees_it_by_its_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    found = [str(path) for path in tmp_path.iterdir()]
    items = list(of_files("*", lambda _: found).items)
    assert items == [
        Item(1, "a", files=(("a", b"a"),)),
        Item(2, "b", files=(("b", b"b"),)),
    ]
    with pytest.raises(ValueError, match="no such file"):
        of_files("*", lambda _: [])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ("p.wasm", "x")),
        (("-n", "{#}"), ("p.wasm", "-n", "7", "x")),
        (("--in={}", "{}{#}"), ("p.wasm", "--in=x", "x7")),
    ],
)
def test_the_value_goes_where_the_arguments_say(
    arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    task = Pattern("p.wasm", bytes(32), arguments).make(Item(7, "x"))
    assert task.args == expected
    assert task.env == (("FOG_TASK", "7"),)


def test_a_value_is_not_read_as_a_pattern() -> None:
    assert Pattern("p", bytes(32), ("{}",)).make(Item(7, "{#}")).args == ("p", "{#}")


def test_tasks_that_are_equal_but_for_their_numbers_draw_different_numbers() -> None:
    seeds = {PATTERN.make(Item(number)).seed for number in range(100)}
    assert len(seeds) == 100


def test_a_task_is_told_from_any_other() -> None:
    items = [
        Item(1, "a"),
        Item(1, "b"),
        Item(2, "a"),
        Item(1, "a", stdin=b"x"),
        Item(1, "a", files=(("x", b""),)),
        Item(1, "a", files=(("x", b"y"),)),
    ]
    digests = [PATTERN.digest(PATTERN.make(item)) for item in items]
    other = Pattern("p.wasm", b"\1" * 32, ())
    digests.append(other.digest(other.make(items[0])))
    assert len(set(digests)) == len(items) + 1
    assert PATTERN.digest(PATTERN.make(Item(1, "a"))) == digests[0]


def test_a_task_that_no_worker_takes_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TaskError):
        PATTERN.make(Item(1, "a\0b"))


def test_a_command_is_one_line_without_tabs() -> None:
    assert command_of("p.wasm", PATTERN.arguments_of(1, "a\tb\nc")) == "p.wasm 'a b c'"


async def given(source: Unfinished) -> list[tuple[int, Task]]:
    found = []
    while (task := await source.next()) is not None:
        found.append((task.number, task.task))
    return found


async def test_tasks_go_through_the_journal_to_workers(tmp_path: Path) -> None:
    """They are what was given, also for whoever goes on in another process."""
    store = Store(tmp_path)
    lines = io.BytesIO(b"".join(b"line %d\n" % number for number in range(1000)))
    name = store.create("p", "{}", {})
    with store.drive(name) as job:
        intake = Intake(job, PATTERN, of_lines(lines, as_argument=False), recorded=second_is_there)
        source = Unfinished(job, intake, PATTERN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(intake.run)
            found = await given(source)
        assert intake.total == job.total == 1000
        assert [number for number, _ in found] == [1, *range(3, 1001)]
        assert whole(found[1][1].stdin) == b"line 2\n"
        task = job.task(2)
        assert task is not None
        assert (task.stage, task.code, task.delivered) == (Stage.DONE, 4, True)
    with store.drive(name) as job:
        again = Intake(job, PATTERN, None)
        await again.run()
        assert not again.is_cut_off
        assert await given(Unfinished(job, again, PATTERN)) == found
    store.close()


def second_is_there(number: int, digest: str) -> Earlier | None:
    assert len(digest) == 16
    return Earlier(4) if number == 2 else None


@pytest.mark.parametrize("at", [0, 1, 255, 300])
async def test_inputs_are_read_on_from_where_their_reader_ended(tmp_path: Path, at: int) -> None:
    """Those that words alone describe; of others it is known that some are missing."""
    store = Store(tmp_path)
    name = store.create("p", "{}", {})
    with store.drive(name) as job:
        await job.take_in([Kept(Origin(place, str(place)), place) for place in range(at)])
        lost = Intake(job, PATTERN, None)
        await lost.run()
        assert lost.is_cut_off
        assert job.total is None
        intake = Intake(job, PATTERN, of_array("0-299,500-600")[0])
        await intake.run()
        assert [task.number for task in job.tasks()] == [*range(300), *range(500, 601)]
        assert store.job(name).total == 401
    store.close()


@pytest.mark.parametrize("kind", ["lines", "chunks", "files", "array", "values"])
def test_inputs_that_are_as_they_were_are_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(20)))

    def make() -> Inputs:
        if kind == "lines":
            return of_lines(path.open("rb"), as_argument=True)
        if kind == "chunks":
            return of_chunks(path.open("rb"), 20)
        if kind == "files":
            return of_files("*", lambda _: [str(path)])
        return of_array("3-9:2")[0] if kind == "array" else of_values(["a", "b"])

    inputs = make()
    assert inputs.words is not None
    again = inputs_again(inputs.words)
    assert again is not None
    assert list(again.items) == list(inputs.items)
    assert again.words == inputs.words
    if kind in {"lines", "chunks"}:
        path.write_bytes(b"something else\n")
        assert inputs_again(inputs.words) is None
        path.unlink()
        assert inputs_again(inputs.words) is None


def test_inputs_that_come_from_a_pipe_are_read_once() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb"):
        inputs = of_lines(file, as_argument=True)
        assert inputs.words is None
        assert inputs.blocks


async def test_an_input_that_makes_no_task_ends_the_reading(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.drive(store.create("p", "{}", {})) as job:
        intake = Intake(job, PATTERN, of_values(["a", "b\0"]))
        with pytest.RaisesGroup(TaskError):
            await intake.run()
    store.close()


async def test_what_has_no_end_waits_for_what_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fogbank.nodes.intake.AHEAD_TASKS", 100)
    store = Store(tmp_path)
    with store.drive(store.create("p", "{}", {})) as job:
        intake = Intake(job, PATTERN, Inputs(Item(number) for number in itertools.count(1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(intake.run)
            for ended in range(2):
                while job.count() < 100 + ended:
                    await intake.changed()
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert job.count() == 100 + ended
                intake.ended(0)
            nursery.cancel_scope.cancel()
    store.close()


def test_the_progress_says_what_there_is_to_know() -> None:
    tally = Tally(10)
    assert describe(tally, 4, 1.0) == "0/10 done, 4 running, 0 fuel"
    for number in range(4):
        tally.count(number, 0, 10**9)
    tally.count(9, 3)
    assert describe(tally, 4, 60.0) == "5/10 done, 4 running, 1 failed, 4.0 G fuel, ETA 1:00"
    plain = bar(tally, 4, 60.0, 120, colour=False)
    assert plain.startswith("[============            ] 5/10")
    assert "\x1b" not in plain
    assert "\x1b" in bar(tally, 4, 60.0, 120, colour=True)
    assert len(bar(tally, 4, 60.0, 40, colour=True)) < 40


def test_the_time_that_is_left_counts_what_this_run_did() -> None:
    tally = Tally(100, earlier=50, succeeded=60)
    assert remaining(tally, 10.0) == 40.0
    assert remaining(Tally(None, succeeded=5), 10.0) is None
    assert remaining(Tally(5), 10.0) is None


def test_the_exit_code_is_that_of_the_failed_task_with_the_lowest_number() -> None:
    tally = Tally(9)
    assert tally.exit_code == 0
    for number, code in ((5, 122), (2, 7), (3, 1), (1, 0)):
        tally.count(number, code)
    assert tally.exit_code == 7
