"""The tasks of an array, made of what is common and what differs (spec/11 §1)."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from fogbank.cli.array_inputs import Inputs, Item
from fogbank.client.scheduling.tasks import ArrayTask
from fogbank.relay.codec import Value, encode
from fogbank.sandbox.data import sha256
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import Task

VALUE, NUMBER = "{}", "{#}"
_SEED_LABEL = b"fogbank-array-task"
_DIGEST_SIZE = 8


@dataclass(frozen=True, slots=True)
class Pattern:
    """What all tasks have in common. `program` is the digest of what is sent as the program."""

    name: str
    program: bytes
    arguments: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()
    limits: Limits = field(default=Limits())

    @property
    def takes_value(self) -> bool:
        """Whether an argument says where the value goes."""
        return any(VALUE in argument for argument in self.arguments)

    def make(self, item: Item) -> Task:
        """Make one task; raise `TaskError` or `LimitError` if no worker would take it."""
        number = str(item.number)
        arguments = [argument.replace(NUMBER, number) for argument in self.arguments]
        if item.value is not None:
            if self.takes_value:
                arguments = [argument.replace(VALUE, item.value) for argument in arguments]
            else:
                arguments.append(item.value)
        task = Task(
            args=(self.name, *arguments),
            env=(("FOG_TASK", number),),
            files=(*self.files, *item.files),
            stdin=item.stdin,
            limits=self.limits,
            seed=hashlib.sha256(_SEED_LABEL + item.number.to_bytes(8, "big")).digest(),
        )
        task.check()
        return task

    def digest(self, task: Task) -> str:
        """Return what tells this task from any other, whatever its limits are."""
        files: list[Value] = [[name, sha256(data)] for name, data in task.files]
        stdin = sha256(task.stdin)
        whole = encode([self.program, list(task.args), stdin, files, task.seed])
        return hashlib.sha256(whole).digest()[:_DIGEST_SIZE].hex()


def command_of(task: Task) -> str:
    """Return a task's command on one line."""
    return shlex.join(task.args).replace("\t", " ").replace("\n", " ").replace("\r", " ")


class Tasks:
    """The source of an array: makes its tasks as they are asked for.

    `skip` hears of each, and tells whether it need not be run.
    """

    def __init__(self, inputs: Inputs, pattern: Pattern, skip: Callable[[int, Task], bool]) -> None:
        self._inputs = inputs
        self._pattern = pattern
        self._skip = skip
        self.total = inputs.total
        """How many there are; None while it is not known."""
        self.given: list[int] = []
        """The numbers of the tasks that were given out since this list was last cleared."""
        self.order: list[int] = []
        """The numbers of all tasks so far, those that were not run included."""

    async def next(self) -> ArrayTask | None:
        """Return the next task that is to be run, or None if there are no more."""
        while True:
            item = await self._next_item()
            if item is None:
                self.total = len(self.order)
                return None
            task = self._pattern.make(item)
            self.order.append(item.number)
            if not self._skip(item.number, task):
                self.given.append(item.number)
                own = len(item.stdin) + sum(len(data) for _, data in item.files)
                return ArrayTask(item.number, task, own)

    async def _next_item(self) -> Item | None:
        if self._inputs.blocks:
            return await trio.to_thread.run_sync(
                next, self._inputs.items, None, abandon_on_cancel=True
            )
        await trio.lowlevel.checkpoint()
        return next(self._inputs.items, None)
