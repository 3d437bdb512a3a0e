"""Outputs are folded as a tree, in their order (spec/11 §2.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fogbank.cli.array_fold import FAN, fold, grouped
from fogbank.client.array_shell import Array
from fogbank.client.exit_codes import Ending
from fogbank.client.patterns import Pattern
from tests.client.networks import SeededChooser
from tests.client.test_array_shell import LIMITS, Cloud
from tests.relay.job_fakes import MODULE, SMALL


def nothing(_level: int, _number: int) -> bytes | None:
    return None


async def folded(
    folder: Path,
    outputs: list[bytes],
    name: str = "echo",
    *arguments: str,
    earlier: Callable[[int, int], bytes | None] = nothing,
) -> tuple[bytes | Ending, int]:
    """Fold outputs in a cloud; return what is left, and how often the program ran."""
    paths = []
    for number, data in enumerate(outputs):
        path = folder / f"output {number}"
        path.write_bytes(data)
        paths.append(path)
    between = folder / "between"
    between.mkdir()
    async with trio.open_nursery() as nursery:
        cloud = Cloud(nursery, 2)
        cloud[1].reachable = len(outputs) % 2 == 0
        result = await fold(
            lambda _, source, sink: Array(
                cloud, MODULE, source, sink, SeededChooser("fold"), limits=LIMITS
            ),
            Pattern(name, bytes(32), arguments, limits=SMALL),
            paths,
            between,
            earlier,
        )
        runs = sum(len(worker.runner.ran) for worker in cloud.workers.values())
        nursery.cancel_scope.cancel()
    return (result.read_bytes() if isinstance(result, Path) else result), runs


@pytest.mark.parametrize(
    ("count", "runs"), [(1, 1), (2, 1), (FAN, 1), (FAN + 1, 3), (FAN * 3, 4), (FAN * FAN + 1, 19)]
)
async def test_outputs_are_folded_in_their_order(
    tmp_path: Path, count: int, runs: int, autojump_clock: MockClock
) -> None:
    outputs = [b"%d\n" % number for number in range(count)]
    assert await folded(tmp_path, outputs) == (b"".join(outputs), runs)


async def test_what_was_folded_before_is_not_folded_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    outputs = [b"%d\n" % number for number in range(3 * FAN)]
    there = {(1, 1): b"first\n", (1, 3): b"third\n"}

    def earlier(level: int, number: int) -> bytes | None:
        return there.get((level, number))

    whole = b"first\n" + b"".join(outputs[FAN : 2 * FAN]) + b"third\n"
    assert await folded(tmp_path, outputs, earlier=earlier) == (whole, 2)


async def test_a_fold_that_fails_says_why(tmp_path: Path, autojump_clock: MockClock) -> None:
    result, runs = await folded(tmp_path, [b"a"] * 40, "end", "TRAP")
    assert isinstance(result, Ending)
    assert result.code == 122
    assert "it is TRAP" in result.sentence
    assert runs <= 3


async def test_outputs_that_fit_nowhere_together_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("fogbank.cli.array_fold.INPUT_SIZE", 10)
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="cannot be folded")):
        await folded(tmp_path, [b"123456"] * 3)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_groups_are_neighbours_that_fit(sizes: list[int]) -> None:
    groups = grouped(sizes, 4, 40)
    assert [place for group in groups for place in group] == list(range(len(sizes)))
    for group in groups:
        assert 1 <= len(group) <= 4
        assert len(group) == 1 or sum(sizes[place] for place in group) <= 40
