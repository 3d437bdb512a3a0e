"""`fog map --reduce`: outputs are folded on workers, as a tree, in their order (spec/11 §2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import trio

from fogbank.client.array_shell import Array, Sink, Source
from fogbank.client.exit_codes import Ending, ending_of_task
from fogbank.client.patterns import Item, Pattern
from fogbank.client.scheduling.tasks import ArrayTask, TaskEnd
from fogbank.sandbox.data import Data, joined
from fogbank.sandbox.scratch_shell import read_file, write_data
from fogbank.sandbox.task import INPUT_SIZE

_FIRST: Final = "1"
FAN: Final = 16
"""The most outputs that one run of the program folds."""


def _nothing(_level: int, _number: int) -> Data | None:
    """Return what an earlier run made: there was none."""
    return None


async def fold(
    array: Callable[[int, Source, Sink], Array],
    pattern: Pattern,
    outputs: Sequence[Path],
    folder: Path,
    earlier: Callable[[int, int], Data | None] = _nothing,
) -> Path | Ending:
    """Fold files, of which there is one or more, into one; return it, or why there is none.

    `array` makes an array of the program that folds, for a level of the tree (from 1); `pattern` is
    of its tasks. What is between lies in `folder`. `earlier` returns what an earlier run made of a
    level's task, which is not run again. Raises `ValueError` if outputs are too large.
    """
    level = list(outputs)
    for number in count(1):
        groups = grouped([path.stat().st_size for path in level], FAN, INPUT_SIZE)
        if number > 1 and len(groups) == len(level):
            raise ValueError(
                f"two outputs together have more than {INPUT_SIZE} bytes, the most that a program "
                "is given: they cannot be folded"
            )
        step = _Step(pattern, level, groups, folder / str(number))
        await trio.to_thread.run_sync(step.folder.mkdir)
        for task in step.to_run():
            data = earlier(number, task)
            if data is not None:
                await trio.to_thread.run_sync(step.keep, task, data)
        if not step.is_done:
            await array(number, step, step).run()
        if step.failure is not None:
            return step.failure
        level = step.results()
        if len(level) == 1:
            break
    return level[0]


def grouped(sizes: Sequence[int], fan: int, most: int) -> list[range]:
    """Part a row of outputs into groups of neighbours, none too many or too large together."""
    groups: list[range] = []
    begin = total = 0
    for place, size in enumerate(sizes):
        if place > begin and (place - begin == fan or total + size > most):
            groups.append(range(begin, place))
            begin, total = place, 0
        total += size
    groups.append(range(begin, len(sizes)))
    return groups


class _Step:
    """One level of the tree: the source of its tasks, and the sink of their outputs.

    On the first level each output is folded, even alone; later one that is alone goes on as it is.
    """

    def __init__(
        self,
        pattern: Pattern,
        inputs: list[Path],
        groups: list[range],
        folder: Path,
    ) -> None:
        self.folder = folder
        self.failure: Ending | None = None
        self._pattern = pattern
        self._inputs = inputs
        self._groups = groups
        self._least = 1 if folder.name == _FIRST else 2
        self._kept: set[int] = set()
        self._numbers = self.to_run()

    @property
    def is_done(self) -> bool:
        """Whether all outputs of this level are there."""
        return all(number in self._kept for number in self.to_run())

    def keep(self, number: int, data: Data) -> None:
        """Keep a task's output; raise `OSError`."""
        write_data(self.folder / str(number), data)
        self._kept.add(number)

    def to_run(self) -> Iterator[int]:
        """Return the numbers of the tasks that this level has."""
        return (number for number, group in enumerate(self._groups, 1) if len(group) >= self._least)

    def results(self) -> list[Path]:
        """Return the outputs of this level, in their order."""
        ran = set(self.to_run())
        return [
            self.folder / str(number) if number in ran else self._inputs[group[0]]
            for number, group in enumerate(self._groups, 1)
        ]

    async def next(self) -> ArrayTask | None:
        """Return the next task, or none after a failure."""
        number = next((each for each in self._numbers if each not in self._kept), None)
        if number is None or self.failure is not None:
            return None
        data = await trio.to_thread.run_sync(self._read, self._groups[number - 1])
        return ArrayTask(number, self._pattern.make(Item(number, stdin=data)), len(data))

    def _read(self, group: range) -> Data:
        return joined(*(read_file(self._inputs[place]) for place in group))

    async def take(self, end: TaskEnd) -> None:
        """Keep an output."""
        words = ending_of_task(end)
        if words.code or end.result is None:
            self.failure = self.failure or Ending(words.code, words.sentence)
            return
        await trio.to_thread.run_sync(self.keep, end.number, end.result.stdout)
