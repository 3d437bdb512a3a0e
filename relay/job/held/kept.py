"""What of a held session is kept: on the disk, and of tasks that have ended (spec/08 §3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fogbank.relay.job.frames import Blobs
from fogbank.relay.job.held.records import EndRecord, GrantRecord, ModuleRecord, SettledRecord
from fogbank.relay.job.messages import ResultHead, TaskHead
from fogbank.relay.job.statement import program_digest
from fogbank.sandbox.data import Data
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task


@dataclass(frozen=True, slots=True)
class KeepModule:
    """The module is to be on the disk."""

    module: bytes | RuntimeId

    @property
    def record(self) -> ModuleRecord:
        """What the journal says of it."""
        is_runtime = isinstance(self.module, RuntimeId)
        return ModuleRecord(program_digest(self.module), is_runtime)


@dataclass(frozen=True, slots=True)
class KeepTask:
    """A task is to be on the disk, with its input."""

    head: TaskHead
    task: Task

    @property
    def input(self) -> tuple[Data, ...]:
        """Its stdin, then its files."""
        return (self.task.stdin, *(data for _, data in self.task.files))


Change: TypeAlias = KeepModule | KeepTask | GrantRecord | EndRecord | SettledRecord


@dataclass(slots=True)
class Ended:
    """A task that has ended: its output in memory, or sealed, or it has none.

    `memory`, `stored`: bytes that it holds of the worker's memory and disk.
    """

    head: ResultHead
    output: tuple[Data, Data] | None = None
    sealed: Data | None = None
    memory: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a task's input before its stream ended; `stored`: its room on the disk."""

    head: TaskHead
    blobs: Blobs
    stored: int
