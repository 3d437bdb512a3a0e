"""A held session's tasks on their way to the disk, and what room they have there (spec/08 §3.2).

Pure. What is to be on the disk is named by `take_changes`; the shell says when it is there
(`stored`) or cannot be (`not_stored`).
"""

from __future__ import annotations

from typing import Final

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.events import WorkerEvent
from fogbank.relay.job.frames import Blobs
from fogbank.relay.job.held.kept import Change, KeepModule, KeepTask, Part
from fogbank.relay.job.held.messages import Hold
from fogbank.relay.job.held.records import GrantRecord
from fogbank.relay.job.held.sealing import sealed_size
from fogbank.relay.job.kinds import ModulePlace
from fogbank.relay.job.limits import STORED_OVERHEAD, Budget, Share
from fogbank.relay.job.messages import Grant, Offer, TaskHead
from fogbank.relay.job.statement import program_digest
from fogbank.relay.job.work import Entry, Work
from fogbank.sandbox.runtimes.catalogue import RuntimeId

_WORDS: Final = 4096
"""The most words for a disk that fails, which are kept for a better time."""


def nobody(*_: object) -> None:
    """Hear what is said while the client is away."""


class StoredWork(Work):
    """`Work` of which there is a copy on the disk; `disk` is what all held sessions may store."""

    def __init__(
        self, hold: Hold, offer: Offer, budget: Budget, disk: Budget, attest: Attest | None = None
    ) -> None:
        super().__init__(offer, budget, nobody, attest)
        self.key = hold.key
        self.is_durable = hold.durable
        """Whether all of it is on the disk, or is to be."""
        self.is_attached = False
        self.part: Part | None = None
        self._disk = Share(disk)
        self._arriving = 0
        self._module_stored = 0
        self._changes: list[Change] = []

    @property
    def has_module(self) -> bool:
        """Whether it is known what it runs."""
        return self.module is not None or self._program is not None

    def take_changes(self) -> list[Change]:
        """Return what is to be put on the disk, in order, and forget it."""
        changes, self._changes = self._changes, []
        return changes

    def stored(self, changes: list[Change]) -> None:
        """So much is on the disk now: tasks may run, and need no memory while they wait."""
        tasks = {change.head.id for change in changes if isinstance(change, KeepTask)}
        for ahead, entry in enumerate(self._waiting, self._running is not None):
            if entry.id not in tasks:
                continue
            entry.task = None
            kept = len(entry.head.encode()) + STORED_OVERHEAD
            if kept < entry.memory:
                self.give_back(entry.memory - kept)
                entry.memory = kept
            if not entry.is_ready:
                entry.is_ready = True
                self._tell_queued(entry, ahead)

    def not_stored(self, changes: list[Change], reason: str) -> None:
        """The disk did not take so much: tasks that were to be there are refused.

        Small words are to be there all the same, with what comes next.
        """
        words = [one for one in changes if not isinstance(one, KeepModule | KeepTask)]
        self._changes[:0] = words[:_WORDS]
        tasks = {change.head.id for change in changes if isinstance(change, KeepTask)}
        for entry in [one for one in self._waiting if one.id in tasks and not one.is_ready]:
            self._waiting.remove(entry)
            self._release(entry)
            self._refuse(entry.id, Cause.BUSY, reason)
        running = self._running
        kept = (*self._waiting, *([running] if running else []))
        for entry in [one for one in kept if one.id in tasks]:
            # They are in memory still.
            self._disk.give_back(entry.stored)
            entry.stored = 0
        if any(isinstance(change, KeepModule) for change in changes):
            self.is_durable = False
            self._disk.give_back(self._module_stored)
            self._module_stored = 0
            if self.is_attached:
                self.refuse(Cause.BUSY, reason)

    # The module.

    def park(self) -> None:
        """Process and place were given back; a module that is on the disk leaves the memory."""
        self.place = ModulePlace.QUEUED if self._waiting else ModulePlace.PARKED
        if self.is_durable and isinstance(self.module, bytes):
            self.give_back(len(self.module))
            self.module = None

    def reload(self, module: bytes | RuntimeId) -> None:
        """The module was read from the disk."""
        if isinstance(module, bytes):
            self._budget.charge(len(module))
        self.module = module

    def take_module(self, module: bytes | RuntimeId) -> None:
        """Take in the module; refuse the session if it cannot be on the disk, and must."""
        super().take_module(module)
        self._program = program_digest(module)
        if self.is_durable and not self._keep_module():
            self.refuse(Cause.BUSY, "the worker's disk has no room for the module now")

    def _keep_module(self) -> bool:
        size = STORED_OVERHEAD + (len(self.module) if isinstance(self.module, bytes) else 0)
        if self.module is None or not self._disk.take(size):
            return False
        self._module_stored = size
        self._changes.append(KeepModule(self.module))
        return True

    # Tasks that arrive.

    def keep_part(self, head: TaskHead, blobs: Blobs) -> None:
        """Keep what came of a task that was admitted, and whose stream has ended."""
        if self.is_over or blobs.lost is not None or not blobs.received:
            self.abandon(head)
            return
        self._drop_part()
        self.part, self._arriving = Part(head, blobs, self._arriving), 0

    def go_on(self, message: TaskHead) -> Blobs:
        """Return what came of the input of a task that is sent again; raise `ProtocolError`."""
        part = self.part
        same = part is not None and part.head.lengths == message.lengths
        if part is None or not same or part.blobs.received != message.skipped:
            raise ProtocolError("in a job's session: an input that goes on elsewhere")
        self._drop_part()
        return part.blobs

    def admit_task(self, message: TaskHead) -> bool:
        """Judge a task before its input is read; what came of another one may have to go."""
        size = self._input_size + message.input_size
        if message.skipped is None and size > self._offer.input_size:
            self._drop_part()
        return super().admit_task(message)

    def _drop_part(self) -> None:
        part, self.part = self.part, None
        if part is not None and not self.is_over:
            super()._free(part.head)
            self._disk.give_back(part.stored)

    def _hold_task(self, message: TaskHead) -> str:
        """Hold room for a task; say why there is none."""
        size = message.input_size + STORED_OVERHEAD if self.is_durable else 0
        if size and not self._disk.take(size):
            return "the worker's disk has no room for the task now"
        reason = super()._hold_task(message)
        if reason:
            self._disk.give_back(size)
        else:
            self._arriving = size
        return reason

    def _free(self, message: TaskHead) -> None:
        super()._free(message)
        self._disk.give_back(self._arriving)
        self._arriving = 0

    def _queue(self, entry: Entry, ahead: int) -> None:
        entry.stored, self._arriving = self._arriving, 0
        self._waiting.append(entry)
        if entry.stored and entry.task is not None:
            entry.is_ready = False
            self._changes.append(KeepTask(entry.head, entry.task))
        else:
            self._tell_queued(entry, ahead)

    def grant(self, grant: Grant) -> list[WorkerEvent]:
        """Let a task use more fuel; one that is answered needs none."""
        events = super().grant(grant)
        if self.is_durable:
            self._changes.append(GrantRecord(grant.task, grant.fuel))
        return events

    # Room.

    def take_room(self, size: int) -> bool:
        """Take room on the disk for a sealed output of `size` bytes."""
        return self._disk.take(sealed_size(size))

    def leave_room(self, size: int) -> None:
        """Give that room back: the output did not get to the disk."""
        self._disk.give_back(sealed_size(size))

    def close(self) -> None:
        """Forget everything and give back what is held."""
        self._disk.close()
        self.part = None
        self._changes.clear()
        super().close()

    def _release(self, entry: Entry) -> None:
        super()._release(entry)
        self._disk.give_back(entry.stored)
        entry.stored = 0
