"""The tasks of a job, made of what is common and what differs (spec/11 §1). Pure."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, field

from fogbank.relay.codec import Value, encode
from fogbank.sandbox.data import Data, sha256
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.task import SEED_SIZE, Task

VALUE, NUMBER = "{}", "{#}"
_SEED_LABEL = b"fogbank-array-task"
_DIGEST_SIZE = 8


@dataclass(frozen=True, slots=True)
class Item:
    """What makes one task differ from the others.

    `value` takes the place of `{}`; None if there is none.
    """

    number: int
    value: str | None = None
    stdin: Data = b""
    files: tuple[tuple[str, Data], ...] = ()

    @property
    def size(self) -> int:
        """The bytes that are its own."""
        return len(self.stdin) + sum(len(data) for _, data in self.files)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What all tasks have in common. `program` is the digest of what is sent as the program.

    `single`: there is one task, which is not told its number.
    """

    name: str
    program: bytes
    arguments: tuple[str, ...]
    files: tuple[tuple[str, Data], ...] = ()
    limits: Limits = field(default=Limits())
    single: bool = False

    @property
    def takes_value(self) -> bool:
        """Whether an argument says where the value goes."""
        return any(VALUE in argument for argument in self.arguments)

    def arguments_of(self, number: int, value: str | None) -> tuple[str, ...]:
        """Return the arguments of one task, without the program's name."""
        if self.single:
            return self.arguments
        arguments = [argument.replace(NUMBER, str(number)) for argument in self.arguments]
        if value is not None:
            if self.takes_value:
                arguments = [argument.replace(VALUE, value) for argument in arguments]
            else:
                arguments.append(value)
        return tuple(arguments)

    def make(self, item: Item) -> Task:
        """Make one task; raise `TaskError` or `LimitError` if no worker would take it."""
        seed = hashlib.sha256(_SEED_LABEL + item.number.to_bytes(8, "big")).digest()
        task = Task(
            args=(self.name, *self.arguments_of(item.number, item.value)),
            env=() if self.single else (("FOG_TASK", str(item.number)),),
            files=(*self.files, *item.files),
            stdin=item.stdin,
            limits=self.limits,
            seed=bytes(SEED_SIZE) if self.single else seed,
        )
        task.check()
        return task

    def digest(self, task: Task) -> str:
        """Return what tells this task from any other, whatever its limits are."""
        files: list[Value] = [[name, sha256(data)] for name, data in task.files]
        stdin = sha256(task.stdin)
        whole = encode([self.program, list(task.args), stdin, files, task.seed])
        return hashlib.sha256(whole).digest()[:_DIGEST_SIZE].hex()


def command_of(name: str, arguments: tuple[str, ...]) -> str:
    """Return a task's command on one line."""
    line = shlex.join((name, *arguments))
    return line.replace("\t", " ").replace("\n", " ").replace("\r", " ")
