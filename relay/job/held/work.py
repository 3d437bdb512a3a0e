"""The tasks of a held session, which outlive its streams and may outlive its worker (spec/08 §3.1).

Pure. `StoredWork`, and besides: results are kept until they are acknowledged. Nobody may be
listening: then nothing is said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.held.kept import Ended, KeepTask
from fogbank.relay.job.held.messages import Hold, Resumed
from fogbank.relay.job.held.records import EndRecord, SettledRecord
from fogbank.relay.job.held.restored import Restored
from fogbank.relay.job.held.sealing import Sealed
from fogbank.relay.job.held.stored_work import StoredWork, nobody
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import STORED_OVERHEAD, Budget
from fogbank.relay.job.messages import Offer, Refused, ResultHead
from fogbank.relay.job.work import (
    SHUTDOWN_WORDS,
    Entry,
    Say,
)
from fogbank.sandbox.data import Data, part_of
from fogbank.sandbox.outcome import Outcome, Result, clean

IN_MEMORY: Final = 1 << 20
"""Bytes of an output that goes unsealed, and is kept in memory, while its client is there."""


class HeldWork(StoredWork):
    """What a held session is doing; `disk` is what all held sessions may store."""

    def __init__(
        self, hold: Hold, offer: Offer, budget: Budget, disk: Budget, attest: Attest | None = None
    ) -> None:
        super().__init__(hold, offer, budget, disk, attest)
        self.is_new = True
        """Whether its module was never ready yet."""
        self.refusal: Refused | None = None
        """Why its module was refused, as long as nobody has heard of it."""
        self.ended: dict[int, Ended] = {}

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
            self._end(Ended(replace(end, sealed=None), None, output, stored=size))
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

    def detach(self) -> None:
        """Nobody listens any more; what was in memory alone is to be on the disk."""
        self._say, self.is_attached = nobody, False
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

    # What is held.

    def queue_module(self, reason: str) -> None:
        """The module waits for a place."""
        self.place = ModulePlace.QUEUED
        super().queue_module(reason)

    def accept_module(self, now: float) -> None:
        """The module is ready to run tasks."""
        self.is_new = False
        super().accept_module(now)

    def _full(self) -> str:
        holding = self._offer.holding
        most = 0 if holding is None else holding.tasks
        unsettled = self._unanswered + len(self.ended)
        return f"{unsettled} tasks of this job are not settled" if unsettled >= most else ""

    # Ends.

    def fits(self, result: Result) -> bool:
        """Tell whether an output may stay in memory: its client is there, and it is not large."""
        size = len(result.stdout) + len(result.stderr)
        return not size or (self.is_attached and size <= IN_MEMORY and self._budget.left >= size)

    def _answer(self, head: ResultHead, result: Result) -> None:
        size = len(result.stdout) + len(result.stderr)
        output = (result.stdout, result.stderr) if size else None
        self._end(Ended(head, output, memory=size))
        if self.is_durable and not size:
            self._changes.append(EndRecord(head))

    def _end(self, ended: Ended) -> None:
        """Keep a result and tell of it. It is there, so the memory that it has is charged."""
        ended.memory += STORED_OVERHEAD + len(ended.head.attestation or b"")
        self._budget.charge(ended.memory)
        self.ended[ended.head.task] = ended
        self._tell_end(ended, 0)

    def finish_sealed(self, head: ResultHead, sealed: Data, now: float) -> None:
        """The running task has ended so, and its output is on the disk, for which it has room."""
        entry = self._release_running(now)
        if entry is not None:
            self._end(Ended(head, None, sealed, stored=len(sealed)))
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
        size = ended.head.stdout + ended.head.stderr
        self.give_back(size)
        ended.memory -= size
        ended.output, ended.sealed = None, sealed
        ended.stored += len(sealed)

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
        for entry in [one for one in self._waiting if not one.stored]:
            self._waiting.remove(entry)
            self._release(entry)
            self._refuse(entry.id, Cause.SHUTDOWN, SHUTDOWN_WORDS)

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
        self.ended.clear()
        super().close()

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
