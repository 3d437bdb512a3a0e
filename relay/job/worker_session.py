"""One stream of a job session as its worker sees it: what may come when (spec/08 §3).

Pure. The shell feeds it what arrived and the time, acts on the events, and sends what
`data_to_send` returns. What its module and tasks do is in `work`. A breach by the client is a
`ProtocolError`, after which the session is over.

    OPENED -HELLO-> GREETED -MODULE, RESUME-> WAITING, LOADING, OPEN, PARKED: as the work is
    any of these -refuse, close-> OVER
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import Final, Protocol

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attesting import Attest
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.events import Forget, ModuleArrived, WorkerEvent
from fogbank.relay.job.frames import Blobs, Frames, Message
from fogbank.relay.job.held.messages import Ack, Hold, Resume
from fogbank.relay.job.held.work import HeldWork
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import (
    GATHER_SECONDS,
    LAST_SECONDS,
    ROW_SECONDS,
    Budget,
    JobLimits,
)
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    FromClient,
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
from fogbank.relay.job.rows import Padding, Row
from fogbank.relay.job.shelf import Shelf
from fogbank.relay.job.work import Work, require
from fogbank.sandbox.data import Data, MemorySink, Sinks, whole
from fogbank.sandbox.outcome import Outcome, clean
from fogbank.sandbox.runtimes.catalogue import RuntimeId


class Phase(IntEnum):
    """Where a session is."""

    OPENED = 0
    GREETED = 1
    WAITING = 2
    LOADING = 3
    OPEN = 4
    PARKED = 5
    OVER = 6


_OF_PLACE: Final = {
    ModulePlace.QUEUED: Phase.WAITING,
    ModulePlace.LOADING: Phase.LOADING,
    ModulePlace.OPEN: Phase.OPEN,
    ModulePlace.PARKED: Phase.PARKED,
}


class Holder(Protocol):
    """Where sessions are that outlive their streams."""

    def hold(self, hold: Hold, offer: Offer) -> HeldWork | None:
        """Return a new session's work, or None if there is no room for one more.

        Raises `ProtocolError` if its ticket is not new.
        """

    def resume(self, ticket: bytes) -> HeldWork | None:
        """Take a session's work from the stream that it is with, if any; None if it is unknown."""


class WorkerSession:
    """The state machine of one stream; `budget` is shared by all sessions of a worker.

    `sinks` makes what keeps the inputs of tasks. `holder` has the sessions that outlive theirs,
    `shelf` the modules that those of a job share.
    """

    def __init__(
        self,
        offer: Offer,
        limits: JobLimits,
        budget: Budget,
        now: float,
        attest: Attest | None = None,
        sinks: Sinks = MemorySink,
        *,
        holder: Holder | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.work: Work | HeldWork = Work(offer, budget, self._say, attest)
        self._holder = holder
        self._shelf = shelf or Shelf()
        self._arriving: tuple[TaskHead, Blobs] | None = None
        self._is_over = False
        self.is_forgotten = False
        """Whether its client has ended the held session for good."""
        self._sinks = sinks
        self._offer = offer
        self._limits = limits
        self._frames: Frames[FromClient] = Frames(decode_from_client, self._admit)
        self._row = Row(pads_first=True)
        self._padding = Padding()
        self._is_greeted = False
        self._offer_waits = False
        self._frame_since: float | None = None
        self._quiet_since = now

    @property
    def phase(self) -> Phase:
        """Where the session is."""
        if self.is_over:
            return Phase.OVER
        if self.work.has_module:
            return _OF_PLACE[self.work.place]
        return Phase.GREETED if self._is_greeted else Phase.OPENED

    @property
    def is_over(self) -> bool:
        """Whether the session was refused: what is left is to send that, and to end."""
        return self._is_over or self.work.is_over

    @property
    def may_end(self) -> bool:
        """Whether the client's stream may end here without being cut off."""
        return self._frames.is_between

    def deadline(self) -> float | None:
        """Return when the client must have been heard; None while it is the worker's turn."""
        if self._frame_since is not None:
            return self._frame_since + self._limits.pace.seconds_for(self._frames.expected)
        work = self.work
        if work.has_module and work.is_busy and not work.is_over:
            return None
        return max(self._quiet_since, work.quiet_since) + self._limits.idle_seconds

    def receive(self, data: bytes | bytearray, now: float) -> list[WorkerEvent]:
        """Take in what the client sent; raise `ProtocolError` if it may not be."""
        events: list[WorkerEvent] = []
        whole = words = 0
        try:
            for message, blobs in self._frames.feed(data):
                # Padding is no word: who sends nothing else is silent.
                words += not isinstance(message, Pad)
                whole += 1
                events += self._take(message, blobs)
                if self.is_over:
                    break
        except ProtocolError:
            self.close()
            raise
        if words:
            self._quiet_since = now
        if self._offer_waits and not self.work.has_all:
            # Only who has sent all that there is does not wait for it.
            self._row.hurry(ROW_SECONDS if self.work.has_module else 0.0)
        self._offer_waits = False
        if self._frames.is_between:
            self._frame_since = None
        elif whole or self._frame_since is None:
            self._frame_since = now
        return events

    @property
    def within(self) -> float | None:
        """How many seconds what waits to be sent may wait for more; None if nothing waits."""
        return self._row.within

    def data_to_send(self) -> list[Data]:
        """Return what waits to be sent, in order, and forget it."""
        return self._row.take()

    def refuse(self, cause: Cause, reason: str, outcome: Outcome | None = None) -> None:
        """Refuse the session, which ends it."""
        if not self.is_over:
            self._say(Refused(cause, clean(reason), None, outcome))
            self.close()

    def close(self) -> None:
        """End here: forget all tasks, or leave them for the client to come back to."""
        if self._is_over:
            return
        self.hand_over()
        if isinstance(self.work, HeldWork):
            self.work.detach()
        else:
            self.work.close()

    def hand_over(self) -> None:
        """End here without a word: another stream has the session's work from now on."""
        self._is_over = True
        arriving, self._arriving = self._arriving, None
        if arriving is not None and isinstance(self.work, HeldWork):
            self.work.keep_part(*arriving)
        elif arriving is not None:
            self.work.abandon(arriving[0])

    # What the client says.

    def _admit(self, message: FromClient) -> Blobs | None:
        """Judge a message before its attachments are read."""
        require(not self.is_over, "a word after its end")
        self._padding.hear(message)
        work = self.work
        match message:
            case Hello():
                require(self.phase is Phase.OPENED, "a second hello")
            case ModuleHead():
                require(self.phase is Phase.GREETED, "a module that may not come now")
                return self._admit_module(message)
            case TaskHead():
                require(work.has_module, "a task without a module")
                held = isinstance(work, HeldWork)
                require(not (message.is_last and held), "a last task of a session that is held")
                return self._admit_task(message)
            case Cancel(task=0):
                require(isinstance(work, HeldWork), "the end of a session that is not held")
            case Ack():
                require(isinstance(work, HeldWork), "a result that is not held")
                work.require_sent(message.task)
            case Cancel() | Grant():
                work.require_sent(message.task)
            case Pad():
                require(self._is_greeted, "padding before a hello")
            case Hold() | Resume():
                new = self.phase is Phase.GREETED and not isinstance(work, HeldWork)
                require(new and self._offer.holding is not None, "a hold that may not be now")
        return None

    def _take(self, message: FromClient, blobs: Blobs | None) -> list[WorkerEvent]:
        """Deal with a message that is whole."""
        match message:
            case Hello():
                self._greet(message)
            case Hold():
                self._hold(message)
            case Resume():
                self._resume(message)
            case Cancel() | Grant() | Ack():
                return self._steer(message)
            case ModuleHead(is_runtime=True) if not self.is_over:
                return self._begin(RuntimeId(message.sha256))
            case ModuleHead(is_known=True, job_key=bytes(key)):
                return self._begin_known(key, message.sha256)
            case ModuleHead() if blobs is not None:
                require(blobs.sha256 == message.sha256, "a module with another hash")
                return self._begin(whole(blobs.take()[0]), message.job_key, message.sha256)
            case TaskHead() if blobs is not None:
                self._arriving = None
                if blobs.lost is None:
                    return self.work.queue_task(replace(message, skipped=None), blobs.take())
                self.work.lose_task(message)
        return []

    def _steer(self, message: Cancel | Grant | Ack) -> list[WorkerEvent]:
        """Deal with a word about a task that is here."""
        work = self.work
        match message:
            case Grant():
                return work.grant(message)
            case Ack() if isinstance(work, HeldWork):
                work.acknowledge(message.task)
                return []
            case Cancel(task=0):
                self.is_forgotten = True
                work.close()
                return [Forget()]
        return work.cancel(message.task)

    def _hold(self, message: Hold) -> None:
        held = None if self._holder is None else self._holder.hold(message, self._offer)
        if held is None:
            self.refuse(Cause.BUSY, "the worker holds as many sessions as it may")
        else:
            self.work = held
            held.attach(self._say, self._offer)

    def _resume(self, message: Resume) -> None:
        held = None if self._holder is None else self._holder.resume(message.ticket)
        if held is None:
            self.refuse(Cause.UNKNOWN, "no session is held under this ticket, or no longer")
        else:
            self.work = held
            held.attach(self._say, self._offer)
            held.tell_all(message.have)

    def _begin(
        self, module: bytes | RuntimeId, job_key: bytes | None = None, digest: bytes = b""
    ) -> list[WorkerEvent]:
        self.work.take_module(module)
        if self.is_over:
            return []
        if job_key is not None:
            self._shelf.put(job_key, digest, self.work)
        return [ModuleArrived(module)]

    def _begin_known(self, job_key: bytes, digest: bytes) -> list[WorkerEvent]:
        """Begin with a module that another session of the job has brought."""
        module = self._shelf.get(job_key, digest)
        if module is None:
            self.work.refuse(Cause.UNKNOWN, "the module is not here, or no longer: send it")
        elif not self.work.hold(len(module)):
            self.work.refuse(Cause.BUSY, "the worker has no memory for the module now")
        else:
            return self._begin(module, job_key, digest)
        return []

    def _greet(self, message: Hello) -> None:
        if self._offer.version in message.versions:
            self._is_greeted = self._offer_waits = True
            self._say(self._offer)
        else:
            versions = f"this worker speaks version {self._offer.version} of job sessions alone"
            self.refuse(Cause.VERSION, versions)

    def _admit_task(self, message: TaskHead) -> Blobs | None:
        work = self.work
        if message.skipped is None:
            blobs = Blobs(message.lengths, self._sinks)
        elif isinstance(work, HeldWork):
            blobs = work.go_on(message)
        else:
            raise ProtocolError("in a job's session: a part of an input that is not held")
        if not work.admit_task(message):
            return None
        self._arriving = message, blobs
        return blobs

    def _admit_module(self, message: ModuleHead) -> Blobs | None:
        if message.is_runtime:
            if message.sha256 not in self._offer.runtimes:
                reason = "the worker does not hold this runtime"
                self.work.refuse(Cause.MODULE, reason, Outcome.UNKNOWN_RUNTIME)
        elif message.is_known:
            return None
        elif message.size > self._offer.module:
            self.work.refuse(Cause.LIMITS, f"a module may have {self._offer.module} bytes here")
        elif not self.work.hold(message.size):
            self.work.refuse(Cause.BUSY, "the worker has no memory for the module now")
        else:
            return Blobs(message.attachments, hashed=True)
        return None

    def _say(self, message: Message, *attachments: Data) -> None:
        # What other tasks come behind is not what the client waits for alone.
        later = GATHER_SECONDS if self.work.has_more else 0.0
        match message:
            case ResultHead():
                within = later
            case Offer():
                within = LAST_SECONDS
            case TaskState(state=State.QUEUED | State.RUNNING) | Accepted():
                within = LAST_SECONDS if self.work.has_all else later or ROW_SECONDS
            case _:
                within = 0.0
        padded = isinstance(message, ResultHead)
        row, attached = self._row, attachments
        if isinstance(self.work, HeldWork):
            # A task that is held is heard to be queued: then it is safe.
            row.add(message, *attached, within=within, padded=padded)
            return
        match message:
            case Accepted():
                row.add(message, within=within, padded=False, topic=0)
            case TaskState(task=task, state=State.QUEUED | State.RUNNING, fuel=fuel):
                passes = fuel is None
                row.add(message, within=within, padded=False, topic=task, passes=passes)
            case _:
                row.add(message, *attached, within=within, padded=padded)
