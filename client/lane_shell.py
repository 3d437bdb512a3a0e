"""A lane of an array: one session at one worker, over as many streams as it takes (spec/11 §3)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from fogbank.client.call_shell import Call
from fogbank.client.errors import ClientError
from fogbank.client.journal.words import SECRET_SIZE, TICKET_SIZE, HeldLane, Hold, Journal
from fogbank.client.lines_shell import Lines
from fogbank.client.modules_shell import Modules
from fogbank.client.session_shell import Diary, JobSession
from fogbank.client.talk_shell import End
from fogbank.relay.errors import RelayError
from fogbank.relay.job.client_tasks import ClientTasks, Keep, TaskResult
from fogbank.relay.job.errors import JobError, JobInterrupted, Progress
from fogbank.relay.job.held.partial import Partials
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import Offer
from fogbank.relay.keys import NodeId
from fogbank.sandbox.data import MemorySink, Sinks
from fogbank.sandbox.runtimes.catalogue import RuntimeId

RESUMING: Final = 5.0, 90.0
"""The least and the longest time for coming back to a session whose stream was lost, in seconds.

In between it is as long as what would be lost has waited for its answer.
"""
COMING: Final = 30.0
"""The least time where a part of a large output has come: all of it would have to come again."""
AT_START: Final = 20.0
"""The same, when a client begins that has the session from an earlier one."""
_PAUSES: Final = 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0
"""Seconds before each try; after the last there is none, until an answer has come."""
_END_SECONDS: Final = 2.0
"""How long a worker may take to end a stream whose session it was told to forget."""


class Lane:
    """See above. `name` is the worker's nickname, once it was reached.

    `opened` is called once, when tasks can be sent, or the worker has said what it holds; `reached`
    whenever there is a circuit, with the nicknames on the way.
    """

    def __init__(
        self,
        number: int,
        worker: NodeId,
        lines: Lines,
        job: JobSession,
        opened: Callable[[Offer], None],
        reached: Callable[[Sequence[str]], None],
    ) -> None:
        self.number = number
        self.worker = worker
        self.job = job
        self.name = ""
        self.unsafe = 0
        """Answers that came and are not safe yet."""
        self.is_over = False
        """Whether nothing is left of it at the worker."""
        self._lines = lines
        self._opened = opened
        self._reached = reached
        self._was_open = False
        self._wants_close = False
        self._lost_at: float | None = None
        self._began_at = 0.0
        self._tries = 0
        self._since: dict[Call, float] = {}
        self._closing = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def is_held(self) -> bool:
        """Whether the worker may hold it, whatever becomes of its stream."""
        return self.job.tasks.begun

    def settle(self, call: Call) -> None:
        """Hear that an answer that was unsafe is safe now."""
        call.settle()
        self.unsafe -= 1
        if self._wants_close and not self.unsafe:
            self.close()

    def close(self) -> None:
        """End it for good, once no answer is unsafe: at the worker too, if that can be told."""
        self._wants_close = True
        if self.unsafe:
            return
        self._closing.set()
        if not self.is_held:
            self.is_over = True
            self._scope.cancel()

    async def answer(self, call: Call) -> TaskResult | JobError:
        """Return what a call comes to."""
        self._since[call] = trio.current_time()
        try:
            answer = await call.answer()
        finally:
            del self._since[call]
        self._tries = 0
        self._lines.comebacks.answered(trio.current_time())
        return answer

    async def serve(self) -> TaskResult | Exception | None:
        """Open it and keep it until it is closed; return why it ended by itself, if it did."""
        with self._scope:
            while not self._closing.is_set() or self.is_held:
                self._began_at = trio.current_time()
                try:
                    await self._over_a_stream()
                except (RelayError, ClientError) as error:
                    if self._closing.is_set():
                        return None
                    if not self.job.goes_on:
                        self.is_over = True
                        return self.job.verdict()
                    if not await self._comes_back():
                        return self._give_up(error)
                else:
                    self.is_over = True
                    return None
        return None

    async def release(self) -> None:
        """Have the worker forget it, after it ended by itself, if that can be told now."""
        self._closing.set()
        self._scope = trio.CancelScope()
        await self.serve()

    async def _over_a_stream(self) -> None:
        """Serve it over a fresh stream, until it was closed; raise why the stream ended else."""
        async with self._lines.to(self.worker) as line:
            self.name = line.way[-1]
            self._reached(line.way)
            stream = await line.open_stream()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear_of_opening)
                    nursery.start_soon(self._end_when_closed)
                    end = await self.job.serve(stream)
                    nursery.cancel_scope.cancel()
            finally:
                await stream.aclose()
            if end.is_silence:
                # It is come back to once more, in case it was the circuit that said nothing.
                self._tries = max(self._tries + 1, len(_PAUSES) - 1)
            if not self._closing.is_set():
                raise JobInterrupted(Progress.NOT_SENT, end.why) from end.fault

    async def _hear_of_opening(self) -> None:
        if not await self.job.is_open():
            return
        self._lost_at = None
        offer = self.job.offer
        if not self._was_open and offer is not None:
            self._was_open = True
            self._opened(offer)

    async def _end_when_closed(self) -> None:
        await self._closing.wait()
        self.job.end()
        await trio.sleep(_END_SECONDS)
        self.is_over = self.job.said_its_end
        self._scope.cancel()

    # Coming back.

    async def _comes_back(self) -> bool:
        """Wait until the next try; tell whether there is to be one."""
        now = trio.current_time()
        self._lines.comebacks.failed(self._began_at)
        if self._lost_at is None:
            self._lost_at = now
        until = self._until(self._lost_at)
        if not self.is_held or self._tries >= len(_PAUSES) or now >= until:
            return False
        pause = _PAUSES[self._tries]
        self._tries += 1
        while pause or not self._lines.comebacks.allows(trio.current_time()):
            with trio.move_on_at(min(trio.current_time() + (pause or 1.0), until)):
                await self._closing.wait()
                return True
            if trio.current_time() >= until:
                break
            pause = 0.0
        return True

    def _until(self, lost_at: float) -> float:
        """Return until when it is tried to come back, if it lost its stream at `lost_at`."""
        if not self._was_open:
            return lost_at + AT_START
        least, most = RESUMING
        if self.job.tasks.has_part:
            least = COMING
        waited = max((lost_at - since for since in self._since.values()), default=0.0)
        return lost_at + max(least, min(waited, most))

    def _give_up(self, error: Exception) -> Exception:
        words = str(error).rstrip(". ")
        self.job.conclude(End(words[:1].lower() + words[1:], error))
        return error


@dataclass(frozen=True, slots=True)
class Sessions:
    """What the sessions of an array have in common; makes them.

    `durable`: workers have tasks on their disks before they say that they have them. `sinks` makes
    what keeps outputs.
    """

    program: bytes | RuntimeId
    journal: Journal
    durable: bool = False
    sinks: Sinks = MemorySink
    modules: Modules = field(default_factory=Modules)
    partials: Partials | None = None

    def new(self, lane: int, worker: NodeId) -> JobSession:
        """Return the session of a lane that is to be opened, which the journal hears of."""
        journal = self.journal
        hold = Hold(secrets.token_bytes(TICKET_SIZE), secrets.token_bytes(SECRET_SIZE))
        keep = Keep(hold.ticket, hold.secret_key, self.durable)
        diary = Diary(
            lambda: journal.lane_opening(lane, worker, hold), lambda sent: journal.sent(lane, sent)
        )
        tasks = ClientTasks(keep, sinks=self.sinks, partials=self.partials)
        shared = self.modules.at(worker)
        written = diary if journal.keeps else None
        return JobSession(self.program, Patience(), tasks, written, shared)

    def old(self, held: HeldLane) -> JobSession:
        """Return the session of a lane that a worker holds."""
        keep = Keep(held.hold.ticket, held.hold.secret_key)
        diary = Diary(None, lambda sent: self.journal.sent(held.lane, sent))
        tasks = ClientTasks(
            keep, held.last_id, begun=True, sinks=self.sinks, partials=self.partials
        )
        return JobSession(self.program, Patience(), tasks, diary)
