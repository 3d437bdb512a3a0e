"""A held session as its journal has it after its worker's end (spec/08 §3.2). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from fogbank.relay.job.held.records import (
    AnyRecord,
    EndRecord,
    GrantRecord,
    LeftRecord,
    ModuleRecord,
    SessionRecord,
    SettledRecord,
    TaskRecord,
)
from fogbank.relay.job.messages import ResultHead, TaskHead


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a record begins in its journal, and how long it is."""

    at: int
    size: int


@dataclass(slots=True)
class Restored:
    """What a session's records come to, one after the other.

    `tasks`: those without a result, in order, and the fuel granted to each. `spots`: where the last
    record of each task is. `left_at`: when the client left; None if it was there to the end.
    """

    key: bytes | None = None
    module: ModuleRecord | None = None
    tasks: dict[int, tuple[TaskHead, int]] = field(default_factory=dict)
    ended: dict[int, ResultHead] = field(default_factory=dict)
    spots: dict[int, Spot] = field(default_factory=dict)
    last_id: int = 0
    left_at: int | None = None
    size: int = 0
    """Bytes of the journal that are whole."""

    def take(self, end: int, record: AnyRecord) -> None:
        """Take in the next record, which ends at `end`."""
        spot = Spot(self.size, end - self.size)
        self.size = end
        match record:
            case SessionRecord(key):
                self.key = key
            case ModuleRecord():
                self.module = record
            case TaskRecord(head):
                self.last_id = max(self.last_id, head.id)
                granted = head.limits.fuel if head.granted is None else head.granted
                self.tasks[head.id] = head, granted
                self.spots[head.id] = spot
            case GrantRecord(task, fuel) if task in self.tasks:
                self.tasks[task] = self.tasks[task][0], fuel
            case EndRecord(head):
                self.last_id = max(self.last_id, head.task)
                self.tasks.pop(head.task, None)
                self.ended[head.task] = head
                self.spots[head.task] = spot
            case SettledRecord(task):
                self.last_id = max(self.last_id, task)
                self.tasks.pop(task, None)
                self.ended.pop(task, None)
                self.spots.pop(task, None)
            case LeftRecord(at):
                self.left_at = at or None
