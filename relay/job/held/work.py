"""The tasks of a held session, which outlive its streams and may outlive its worker (spec/08 §3.1).

Pure. `Work`, and besides: results are kept until they are acknowledged; what is to be on the disk
is named by `take_changes`, and the shell says when it is there (`stored`) or cannot be
(`not_stored`). Nobody may be listening: then nothing is said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.events import WorkerEvent
from fogbank.relay.job.frames import Blobs
from fogbank.relay.job.held.kept import Change, Ended, KeepModule, KeepTask, Part
from fogbank.relay.job.held.messages import Hold, Resumed
from fogbank.relay.job.held.records import EndRecord, GrantRecord, SettledRecord
from fogbank.relay.job.held.restored import Restored
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import STORED_OVERHEAD, Budget, Share
from fogbank.relay.job.messages import Grant, Offer, Refused, ResultHead, TaskHead
from fogbank.relay.job.statement import program_digest
from fogbank.relay.job.work import (
    SHUTDOWN_WORDS,
    Entry,
    Say,
    Work,
)
from fogbank.sandbox.data import Data, part_of
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.runtimes.catalogue import RuntimeId

_WORDS: Final = 4096
"""The most words for a disk that fails, which are kept for a better time."""
IN_MEMORY: Final = 1 << 20
"""Bytes of an output that goes unsealed, and is kept in memory, while its client is there."""


def _nobody(*_: object) -> None:
    """Hear what is said while the client is away."""


class HeldWork(Work):
    """What a held session is doing; `disk` is what all held sessions may store."""

    def __init__(
        self, hold: Hold, offer: Offer, budget: Budget, disk: Budget, attest: Attest | None = None
    ) -> None:
        super().__init__(offer, budget, _nobody, attest)
        self.key = hold.key
        self.is_durable = hold.durable
        """Whether all of it is on the disk, or is to be."""
        self.is_attached = False
        self.is_new = True
        """Whether its module was never ready yet."""
        self.refusal: Refused | None = None
        """Why its module was refused, as long as nobody has heard of it."""
        self.ended: dict[int, Ended] = {}
        self.part: Part | None = None
        self._disk = Share(disk)
        self._arriving = 0
        self._module_stored = 0
        self._changes: list[Change] = []

    @property
    def has_module(self) -> bool:
        """Whether it is known what it runs."""
        return self.module is not None or self._program is not None

    @property
    def is_busy(self) -> bool:
        """Whether it is this side's turn, not the client's."""
        if self.place is ModulePlace.PARKED:
            return bool(self._waiting)
        return super().is_busy

    @property
    def is_idle(self) -> bool:
        """Whether it needs no process: nobody is there, and nothing runs or waits."""
        return not (self.is_attached or self._running or self._waiting)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it would be missed."""
        return self.is_idle and not self.ended

    @property
    def wants_place(self) -> bool:
        """Whether it has something to do, or is to be ready for it."""
        if self.is_over or self.refusal is not None or not self.has_module or self.is_draining:
            return False
        waits = self.place is ModulePlace.QUEUED and self.is_attached
        return waits or any(entry.is_ready for entry in self._waiting)

    def restore(self, restored: Restored, sealed: dict[int, Data], module_size: int) -> None:
        """Take over what was on the disk; `sealed`: the outputs there. It is there, so it fits."""
        self.is_durable, self.is_new = True, False
        stored = self._module_stored = module_size + STORED_OVERHEAD
        self._last_id = restored.last_id
        self._program = restored.module.digest if restored.module else None
        for number, (task, granted) in restored.tasks.items():
            size = task.input_size + STORED_OVERHEAD
            self._waiting.append(Entry(number, task, None, granted, 0, size))
            self._input_size += task.input_size
            stored += size
        for number, end in restored.ended.items():
            output = sealed.get(number)
            size = 0 if output is None else len(output)
            self.ended[number] = Ended(replace(end, sealed=None), None, output, 0, size)
            stored += size
        self._disk.charge(stored)
        if not self._waiting:
            self.place = ModulePlace.PARKED

    # The client comes and goes.

    def attach(self, say: Say, offer: Offer) -> None:
        """Somebody listens from now on."""
        self._say, self._offer, self.is_attached = say, offer, True

    def tell_all(self, have: tuple[tuple[int, int], ...]) -> None:
        """Say what is here to a client that came back; `have`: sealed bytes that it has."""
        if self.refusal is not None:
            self._say(self.refusal)
            self.close()
            return
        states = dict.fromkeys(self.ended, State.DONE)
        states |= {entry.id: State.QUEUED for entry in self._waiting}
        if self._running is not None:
            paused = self._running.is_paused
            states[self._running.id] = State.PAUSED if paused else State.RUNNING
        part = self.part
        arriving = None if part is None else (part.head.id, part.blobs.received)
        self._say(Resumed(self.place, tuple(sorted(states.items())), arriving))
        offsets = dict(have)
        for number in sorted(self.ended):
            self._tell_end(self.ended[number], offsets.get(number, 0))

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

    def detach(self) -> None:
        """Nobody listens any more; what was in memory alone is to be on the disk."""
        self._say, self.is_attached = _nobody, False
        if self.has_module:
            self.keep_all()
        else:
            self.close()

    def keep_all(self) -> None:
        """Have all that is in memory alone put on the disk, as far as there is room."""
        if self.is_durable or self.is_over:
            return
        if self.module is not None and not self._keep_module():
            return
        self.is_durable = True
        running = [] if self._running is None else [self._running]
        for entry in (*running, *self._waiting):
            size = entry.head.input_size + STORED_OVERHEAD
            if entry.task is not None and self._disk.take(size):
                entry.stored = size
                self._changes.append(KeepTask(entry.head, entry.task))
        for ended in self.ended.values():
            if ended.output is None and not ended.stored:
                self._changes.append(EndRecord(ended.head))

    def acknowledge(self, task: int) -> None:
        """Forget a result that is safe with the client."""
        ended = self.ended.pop(task, None)
        if ended is not None:
            self._drop(ended)
            if self.is_durable or ended.sealed is not None:
                self._changes.append(SettledRecord(task))

    # The disk.

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

    # What is held.

    def queue_module(self, reason: str) -> None:
        """The module waits for a place."""
        self.place = ModulePlace.QUEUED
        super().queue_module(reason)

    def accept_module(self, now: float) -> None:
        """The module is ready to run tasks."""
        self.is_new = False
        super().accept_module(now)

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

    def _full(self) -> str:
        holding = self._offer.holding
        most = 0 if holding is None else holding.tasks
        unsettled = self._unanswered + len(self.ended)
        return f"{unsettled} tasks of this job are not settled" if unsettled >= most else ""

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

    # Ends.

    def fits(self, result: Result) -> bool:
        """Tell whether an output may stay in memory: its client is there, and it is not large."""
        size = len(result.stdout) + len(result.stderr)
        return not size or (self.is_attached and size <= IN_MEMORY and self._budget.left >= size)

    def _answer(self, head: ResultHead, result: Result) -> None:
        size = len(result.stdout) + len(result.stderr)
        # Without room it is kept all the same: it is small, and there already.
        memory = size if size and self.hold(size) else 0
        output = (result.stdout, result.stderr) if size else None
        ended = self.ended[head.task] = Ended(head, output, memory=memory)
        if self.is_durable and not size:
            self._changes.append(EndRecord(head))
        self._tell_end(ended, 0)

    def finish_sealed(self, head: ResultHead, sealed: Data, now: float) -> None:
        """The running task has ended so, and its output is on the disk, for which it has room."""
        entry = self._release_running(now)
        if entry is not None:
            ended = Ended(head, None, sealed, stored=len(sealed))
            self.ended[entry.id] = ended
            self._tell_end(ended, 0)
        else:
            self._disk.give_back(len(sealed))

    def unsealed(self) -> list[tuple[int, Ended]]:
        """Return what is in memory alone, and is to be sealed now that nobody is there."""
        return [(number, one) for number, one in self.ended.items() if one.output is not None]

    def seal(self, task: int, sealed: Data) -> None:
        """An output that was in memory is on the disk, for which it has room."""
        ended = self.ended.get(task)
        if ended is None:
            # It was acknowledged meanwhile.
            self._disk.give_back(len(sealed))
            self._changes.append(SettledRecord(task))
            return
        self.give_back(ended.memory)
        ended.output, ended.sealed, ended.memory = None, sealed, 0
        ended.stored += len(sealed)

    def take_room(self, size: int) -> bool:
        """Take room on the disk for a sealed output of `size` bytes."""
        return self._disk.take(sealed_size(size))

    def leave_room(self, size: int) -> None:
        """Give that room back: the output did not get to the disk."""
        self._disk.give_back(sealed_size(size))

    def refuse_task(self, cause: Cause, reason: str, now: float) -> None:
        """The running task cannot be run after all."""
        if self._running is not None and self.is_durable:
            self._changes.append(SettledRecord(self._running.id))
        super().refuse_task(cause, reason, now)

    def refuse(self, cause: Cause, reason: str, outcome: Outcome | None = None) -> None:
        """Refuse the session, which ends it, as soon as somebody has heard of it."""
        if self.is_attached or self.is_over:
            super().refuse(cause, reason, outcome)
        else:
            self.refusal = Refused(cause, clean(reason), None, outcome)

    def drain(self) -> None:
        """Begin no task any more; those that wait stay on the disk, or are refused."""
        self.is_draining = True
        self.keep_all()
        if not self.is_durable:
            super().drain()

    def put_back(self, now: float) -> None:
        """The worker ends before the running task has: it is run anew, or refused."""
        entry = self._running
        if entry is not None and entry.stored:
            self._running = None
            entry.is_paused, entry.told = False, 0
            self._waiting.appendleft(entry)
        else:
            self.refuse_task(Cause.SHUTDOWN, SHUTDOWN_WORDS, now)

    def close(self) -> None:
        """Forget everything and give back what is held."""
        self._disk.close()
        self.part = None
        self.ended.clear()
        self._changes.clear()
        super().close()

    def _release(self, entry: Entry) -> None:
        super()._release(entry)
        self._disk.give_back(entry.stored)
        entry.stored = 0

    def _drop(self, ended: Ended) -> None:
        self.give_back(ended.memory)
        self._disk.give_back(ended.stored)

    def _tell_end(self, ended: Ended, offset: int) -> None:
        if ended.sealed is None:
            self._say(ended.head, *(ended.output or ()))
            return
        size = len(ended.sealed)
        offset = offset if offset <= size else 0
        head = replace(ended.head, sealed=Sealed(size, offset))
        self._say(head, part_of(ended.sealed, offset))
