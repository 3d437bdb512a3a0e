"""One job session as its client sees it: what a worker may say when (spec/08 §6).

Pure. The shell feeds it what arrived and the time, and acts on the events. Whatever a worker says
is checked against what was asked of it before a byte of it is kept; a breach is a `ProtocolError`.

A session that is held outlives its stream: the next stream has a `ClientSession` of its own, made
with the same `ClientTasks`, which `resume`s.
"""

from __future__ import annotations

from typing import TypeAlias

from fogbank.relay.job.client_module import ModuleThere
from fogbank.relay.job.client_tasks import ClientTasks, Keep, Said, TaskDone, TaskResult
from fogbank.relay.job.decoding import decode_from_worker
from fogbank.relay.job.errors import Cause, JobError, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.frames import Blobs, Frames, Message
from fogbank.relay.job.held.messages import Ack, Hold, Resumed
from fogbank.relay.job.kinds import VERSION
from fogbank.relay.job.limits import ROW_SECONDS, Patience
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    FromWorker,
    Grant,
    Hello,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.relay.job.pending import require
from fogbank.relay.job.requests import (
    ANY_OFFER,
    check_task,
    input_size,
    inputs,
    module_head,
    task_head,
)
from fogbank.relay.job.rows import Padding, Row
from fogbank.sandbox.data import Data
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task

__all__ = ["ClientEvent", "ClientSession", "TaskDone", "TaskResult"]

ClientEvent: TypeAlias = Offer | Accepted | Resumed | TaskState | TaskDone | Refused
"""What a worker said. `Refused` here is of the session, and its tasks are answered already."""

_LATER = frozenset({Cause.BUSY, Cause.SILENT})
"""Why a session that is held is not resumed now, and may be later."""


class ClientSession:
    """The state machine of one session, as long as its stream lasts."""

    def __init__(self, patience: Patience, now: float, tasks: ClientTasks | None = None) -> None:
        self.offer: Offer | None = None
        self.refusal: Refused | None = None
        self.tasks = tasks or ClientTasks()
        self._patience = patience
        self._frames: Frames[FromWorker] = Frames(decode_from_worker, self._admit)
        self._row = Row(pads_first=False)
        self._padding = Padding()
        self._padded_at = now
        self._going_out: list[int] = []
        self._unsent: dict[int, tuple[TaskHead, Task]] = {}
        self._module = ModuleThere()
        self._frame_since: float | None = None
        self._active_at = now
        self._say(Hello())

    @property
    def unanswered(self) -> tuple[int, ...]:
        """The ids of the tasks that have no answer yet."""
        return tuple(self.tasks.pending)

    @property
    def takes_tasks(self) -> bool:
        """Whether tasks may be sent: the worker was sent the module, or has said what it has."""
        module = self._module
        return module.was_sent and not module.resuming and self.refusal is None

    @property
    def was_asked(self) -> bool:
        """Whether the module was sent, or the session asked for."""
        return self._module.was_sent

    @property
    def may_be_asked_again(self) -> bool:
        """Whether the worker may still hold the session, but does not go on with it now."""
        return self.refusal is not None and self._is_put_off(self.refusal.cause)

    def _is_put_off(self, cause: Cause) -> bool:
        """Tell whether a refusal for this cause leaves alone what the worker holds."""
        later = self._module.resuming and cause in _LATER
        return self.tasks.begun and (later or cause is Cause.SHUTDOWN)

    @property
    def is_cut_off(self) -> bool:
        """Whether an end of the stream here would cut off a message."""
        return not self._frames.is_between

    def deadline(self) -> float | None:
        """Return when the worker must have been heard; None while nothing is asked of it."""
        patience = self._patience
        if self._frame_since is not None:
            return self._frame_since + patience.pace.seconds_for(self._frames.expected)
        if self.refusal is not None:
            return None
        if self.offer is None or self._module.resuming:
            return self._active_at + patience.offer_seconds
        task = self.tasks.running
        if task is not None:
            due = task.deadline(patience, self._active_at)
            # What pads a result comes before it.
            return due and max(due, self._padded_at + patience.slack_seconds)
        if self.tasks.pending or self._module.is_awaited:
            return self._active_at + patience.word_seconds
        return None

    @property
    def within(self) -> float | None:
        """How many seconds what waits to be sent may wait for more; None if nothing waits."""
        return self._row.within

    def data_to_send(self) -> list[Data]:
        """Return what waits to be sent, in order, and forget it."""
        return self._row.take()

    def sent_some(self, now: float) -> None:
        """Hear that some bytes went out: the worker is not silent while it listens."""
        self._active_at = max(self._active_at, now)

    def sent_all(self) -> None:
        """Hear that all that `data_to_send` has returned went out."""
        for task in self._going_out:
            pending = self.tasks.pending.get(task)
            if pending is not None:
                pending.progress = max(pending.progress, Progress.SENT)
        self._going_out.clear()

    # What the client asks for.

    def send_module(
        self, module: bytes | RuntimeId, key: bytes | None = None, *, is_there: bool = False
    ) -> None:
        """Send the module, or name the runtime, once, after the offer.

        `key`: what the worker keeps the module under; `is_there`: another session brought it.

        If the session is to be held, and the worker holds any, it is told so. Raises `JobRefused`
        if it will not be taken.
        """
        offer = self._need_offer()
        head, attachment = module_head(module, offer, key, is_there=is_there)
        if self.tasks.keep is not None:
            self._hold(offer, self.tasks.keep)
        self._module.was_sent = True
        self._say(head, attachment)

    def _hold(self, offer: Offer, keep: Keep) -> None:
        if offer.holding is not None:
            self.tasks.begun = True
            self._say(keep.hold)
        elif keep.durable:
            raise JobRefused(Cause.LIMITS, "it holds no sessions for clients that go away")
        else:
            self.tasks.keep = None

    def send_all(self, module: bytes, task: Task) -> int:
        """Send all that there is to send, before the offer: the module and one task; return its id.

        Nothing of it is held. Raises `JobRefused` if no worker takes it.
        """
        head, attachment = module_head(module, ANY_OFFER)
        check_task(task, ANY_OFFER)
        last = task_head(task, self.tasks.next_id(), None, None, is_last=True)
        self._module.was_sent = True
        self._say(head, attachment)
        self.tasks.add(last)
        self._unsent[last.id] = last, task
        self.release(last.id)
        return last.id

    def resume(self) -> None:
        """Ask, after the offer, for the session that the worker holds."""
        self._need_offer()
        self._module.was_sent = self._module.resuming = True
        self._say(self.tasks.resume())

    def has_room_for(self, task: Task) -> bool:
        """Tell whether the worker takes this task now, besides those that are unanswered."""
        return self.tasks.has_room(input_size(task), self._need_offer())

    def send_task(self, task: Task, granted: int | None = None) -> int:
        """Send a task and return its id; raise `JobRefused` if it will not be taken.

        `granted`: the fuel that it may use until it is granted more; None for all.
        """
        number = self.prepare_task(task, granted)
        self.release(number)
        return number

    def prepare_task(self, task: Task, granted: int | None = None) -> int:
        """Do the same, but for the sending, for which `release` is called next."""
        check_task(task, self._need_offer())
        if not self.takes_tasks:
            raise ValueError("a task needs a session with a module")
        head = task_head(task, self.tasks.next_id(), granted, self.tasks.arrived(task))
        self.tasks.add(head)
        self._unsent[head.id] = head, task
        return head.id

    def release(self, number: int) -> None:
        """Send a task that was prepared, after those with lower ids."""
        head, task = self._unsent.pop(number)
        if number in self.tasks.pending:
            self._module.task_sent()
            self._going_out.append(number)
            self.tasks.sending(number, task)
            self._say(head, *inputs(task, head.skipped or 0))

    def cancel(self, task: int) -> None:
        """Ask the worker to end a task; does nothing for one that is answered."""
        pending = self.tasks.pending.get(task)
        if task in self._unsent:
            self.tasks.pending.pop(task, None)
        elif pending is not None and not pending.is_cancelled:
            pending.is_cancelled = True
            self._say_all([Cancel(task)])

    def grant(self, task: int, fuel: int) -> None:
        """Let a task use `fuel` in all; does nothing for one that is answered, or may already."""
        pending = self.tasks.pending.get(task)
        granted = None if pending is None else pending.grant(fuel)
        if granted is not None:
            self._say(Grant(task, granted))

    def acknowledge(self, task: int) -> None:
        """Say that a result is safe: a worker that holds it forgets it."""
        self._say_all(self.tasks.acknowledge(task))

    def end(self) -> None:
        """End a held session for good, after the offer: the worker forgets all of it."""
        self._say(Cancel(0))

    def interruption(self, task: int, why: str) -> JobInterrupted:
        """Say what is known of a task if the session ends now, because of `why`."""
        arriving = self._frames.arriving
        comes = isinstance(arriving, ResultHead) and arriving.task == task
        return self.tasks.interruption(task, why, arriving=comes)

    # What the worker says.

    def receive(self, data: bytes | bytearray, now: float) -> list[ClientEvent]:
        """Take in what the worker sent; raise `ProtocolError` if it may not be.

        Raises `NoRoom` if an output cannot be kept.
        """
        events: list[ClientEvent] = []
        whole = 0
        for message, blobs in self._frames.feed(data):
            whole += 1
            events += self._take(message, blobs, now)
        self._active_at = max(self._active_at, now)
        if self._frames.is_between:
            self._frame_since = None
        elif whole or self._frame_since is None:
            self._frame_since = now
        return events

    def _admit(self, message: FromWorker) -> Blobs | None:
        """Judge a message before its attachments are read."""
        require(self.refusal is None, "a word after the session was refused")
        self._padding.hear(message)
        if self._module.resuming:
            known = isinstance(message, Resumed | Refused | Pad)
            require(known, "a word on a session that has not been resumed")
        early = isinstance(message, Offer | Refused | Pad)
        require(early or self.offer is not None, "a word before the offer")
        match message:
            case Offer():
                require(self.offer is None, "a second offer")
                require(message.version == VERSION, "a version that was not asked for")
            case Refused():
                known = message.task is None or message.task in self.tasks.pending
                require(known, "the refusal of a task that is not there")
                self._module.admit_refusal(message.outcome)
            case Accepted():
                self._module.admit_acceptance()
            case Resumed():
                require(self._module.resuming, "a resumption that was not asked for")
                self.tasks.admit_resumed(message)
            case TaskState(task=0):
                self._module.admit_state(message)
            case TaskState():
                self.tasks.admit_state(message, accepted=self._module.is_accepted)
            case ResultHead():
                return self.tasks.admit_result(message)
            case Pad():
                early = self._module.was_sent
                require(early or self.offer is not None, "padding before the offer")
        return None

    def _take(self, message: FromWorker, blobs: Blobs | None, now: float) -> list[ClientEvent]:
        """Deal with a message that is whole."""
        match message:
            case Offer():
                self.offer = message
            case Accepted():
                self._module.is_accepted = True
            case Refused():
                return self._take_refusal(message)
            case Resumed():
                return [message, *self._take_resumed(message, now)]
            case Pad():
                self._padded_at = now
            case TaskState(task=0):
                self._module.take_state(message)
            case TaskState():
                self.tasks.take_state(message, now)
            case ResultHead():
                done, said = self.tasks.take_result(message, blobs)
                self._say_all(said)
                return [*done]
        return [message] if isinstance(message, Offer | Accepted | TaskState) else []

    def _take_refusal(self, message: Refused) -> list[ClientEvent]:
        pending = self.tasks.pending
        if message.task is not None:
            del pending[message.task]
            return [TaskDone(message.task, JobRefused(message.cause, message.reason))]
        self.refusal = message
        if self._is_put_off(message.cause):
            return [message]
        self._module.resuming = False
        verdicts = [TaskDone(task, self.verdict(task)) for task in pending]
        pending.clear()
        return [*verdicts, message]

    def _take_resumed(self, message: Resumed, now: float) -> list[TaskDone]:
        self._module.resumed(message.module)
        done, said = self.tasks.take_resumed(message, now)
        self._say_all(said)
        return done

    def verdict(self, task: int = 0) -> TaskResult | JobError:
        """Return what the session's refusal means for a task, or for one that was yet to come."""
        refusal = self.refusal
        if refusal is None:
            raise ValueError("the session was not refused")
        if refusal.outcome is not None:
            return TaskResult(refusal.outcome, reason=refusal.reason)
        pending = self.tasks.pending.get(task)
        if pending is not None and pending.progress >= Progress.RUNNING:
            return self.interruption(task, refusal.reason or "the worker ended the session")
        return JobRefused(refusal.cause, refusal.reason)

    def _need_offer(self) -> Offer:
        if self.offer is None:
            raise ValueError("the worker has not made its offer yet")
        return self.offer

    def _say_all(self, said: list[Said]) -> None:
        # Before a session has been resumed nothing is said: what is left to say comes up again.
        if self.takes_tasks:
            for message in said:
                self._say(message)

    def _say(self, message: Message, *attachments: Data) -> None:
        padded = isinstance(message, ModuleHead | TaskHead)
        # A task alone is waited for; where others are at the worker, it has its turn after them.
        alone = isinstance(message, TaskHead) and len(self.tasks.pending) <= 1
        gathers = not alone and isinstance(message, ModuleHead | TaskHead | Hold | Ack)
        within = ROW_SECONDS if gathers else 0.0
        self._row.add(message, *attachments, within=within, padded=padded)
