"""How an interpreter is started, and told what to run (spec/07 §1.1). Pure.

A runtime that starts by fork runs a program of ours first, up to the point where it reads its
standard input. That is where it learns of the task: everything before is the same for all.
"""

import struct
from dataclasses import replace

from fogbank.sandbox.data import joined
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec
from fogbank.sandbox.runtimes.python import BOOTSTRAP
from fogbank.sandbox.task import Task

START_LIMITS = Limits(fuel=1 << 34, memory=256 << 20, output=1 << 16)
"""What an interpreter may use until it reads its input. A task does not pay for that."""

_WORD = struct.Struct("<I")
_STARTS = {"python": ("python", "-s", "-B", "-X", "utf8", "-c", BOOTSTRAP)}
"""By name of the runtime, the arguments of those that start by fork."""


def starts_by_fork(spec: RuntimeSpec) -> bool:
    """Whether the runtime is started once, and forked for each task."""
    return spec.name in _STARTS


def start_task(spec: RuntimeSpec) -> Task:
    """Return what such a runtime is started with."""
    return Task(args=_STARTS[spec.name], limits=START_LIMITS)


def script_task(spec: RuntimeSpec, task: Task) -> Task:
    """Return the task that the interpreter itself is given for a client's task.

    One that starts by fork has its arguments and environment in front of its standard input: each
    list as the number of its words, each word as its length in bytes and the bytes. Any other takes
    the task as it is.
    """
    if not starts_by_fork(spec):
        return task
    variables = [text for pair in task.env for text in pair]
    told = _words(list(task.args) or [spec.entry]) + _words(variables)
    return replace(task, args=(), env=(), stdin=joined(_WORD.pack(len(told)) + told, task.stdin))


def _words(texts: list[str]) -> bytes:
    words = [text.encode() for text in texts]
    return _WORD.pack(len(words)) + b"".join(_WORD.pack(len(word)) + word for word in words)
