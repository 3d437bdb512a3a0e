"""Workers that hold sessions, in memory, and links to them that break (spec/08 §3.1)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio
from trio.testing import memory_stream_pair

from fogbank.client.errors import CircuitUnavailable
from fogbank.client.journal.words import HeldLane, Hold
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Candidate
from fogbank.relay.errors import CircuitDestroyed
from fogbank.relay.job.decoding import decode_from_client
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, frame
from fogbank.relay.job.held import messages as held
from fogbank.relay.job.held.sealing import Sealed
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    Holding,
    Load,
    ModuleHead,
    Offer,
    Pad,
    Refused,
    ResultHead,
    TaskHead,
    TaskState,
)
from fogbank.sandbox.data import whole
from fogbank.sandbox.outcome import Outcome
from tests.client.networks import identity
from tests.relay.job_fakes import CEILINGS
from tests.relay.test_job_resuming import seal

OFFER = Offer(
    "engine", CEILINGS, 1 << 20, 1 << 20, 32, Load(2, 0, 0), holding=Holding(86400, 1 << 30, 64)
)


class Line:
    """A stream, at the worker's end, to which several write."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._queue, self._waiting = trio.open_memory_channel[bytes](math.inf)

    async def write(self) -> None:
        async for data in self._waiting:
            await self.stream.send_all(data)
        await self.stream.send_eof()

    def say(self, data: bytes) -> None:
        self._queue.send_nowait(data)

    def end(self) -> None:
        self._queue.close()


@dataclass(eq=False)
class Session:
    """What a worker holds. `done`: results that are not acknowledged."""

    key: bytes
    queue: list[tuple[TaskHead, bytes]] = field(default_factory=list)
    done: dict[int, tuple[ResultHead, bytes]] = field(default_factory=dict)
    running: int = 0
    line: Line | None = None
    durable: bool = False
    wake: trio.Event = field(default_factory=trio.Event)
    life: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass(eq=False)
class Holder:
    """A worker that holds what it is asked to. `ran`: which inputs, each time that they ran.

    `seconds`: of a task. `cut`: after how many bytes of what it says a stream breaks, each time.
    """

    name: str
    nursery: trio.Nursery
    seconds: float = 1.0
    reachable: bool = True
    cuts: list[int] = field(default_factory=list)
    ran: list[bytes] = field(default_factory=list)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    talk: Callable[[Any], Any] | None = None
    circuits: int = 0
    streams: list[Any] = field(default_factory=list)

    @property
    def way(self) -> tuple[str, ...]:
        return ("guard", "relay", self.name)

    async def open_stream(self) -> Any:
        near, far = memory_stream_pair()
        self.streams.append(far)
        self.nursery.start_soon(self._serve, far)
        return Cut(near, self.cuts.pop(0)) if self.cuts else near

    def close(self) -> None:
        """Its circuit is no circuit."""

    async def break_streams(self) -> None:
        """Have all links break."""
        streams, self.streams = self.streams, []
        for stream in streams:
            await trio.aclose_forcefully(stream)

    async def die(self) -> None:
        """Forget all that is not durable, as the end of its process would."""
        for session in tuple(self.sessions.values()):
            if not session.durable:
                self._forget(session)
        await self.break_streams()

    def _forget(self, session: Session) -> None:
        session.life.cancel()
        self.sessions = {key: each for key, each in self.sessions.items() if each is not session}

    async def _serve(self, stream: Any) -> None:
        line = Line(stream)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.write)
                await (self.talk or self._converse)(line)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            for session in self.sessions.values():
                if session.line is line:
                    session.line = None

    async def _converse(self, line: Line) -> None:
        frames: Frames[Any] = Frames(decode_from_client, lambda m: Blobs(m.attachments))
        session: Session | None = None
        while data := await line.stream.receive_some():
            for message, blobs in frames.feed(data):
                content = b"".join(whole(each) for each in blobs.take()) if blobs else b""
                self.heard += [message] if not isinstance(message, Pad) else []
                match message:
                    case Hello():
                        line.say(frame(OFFER))
                    case held.Hold(ticket, key, durable):
                        session = self.sessions[ticket] = Session(key, durable=durable, line=line)
                        self.nursery.start_soon(self._work, session)
                    case ModuleHead():
                        assert message.sha256 == hashlib.sha256(content).digest()
                        line.say(frame(Accepted()))
                    case held.Resume(ticket):
                        session = self.sessions.get(ticket)
                        if session is None:
                            line.say(frame(Refused(Cause.UNKNOWN, "")))
                        else:
                            self._resume(session, line)
                    case Cancel(0) if session is not None:
                        self._forget(session)
                        line.end()
                    case _ if session is not None:
                        self._take(session, message, content)

    def _take(self, session: Session, message: Any, content: bytes) -> None:
        match message:
            case TaskHead():
                session.queue.append((message, content))
                self._say(session, frame(TaskState(message.id, State.QUEUED)))
                session.wake.set()
            case Cancel(number):
                waiting = [each for each in session.queue if each[0].id != number]
                if len(waiting) < len(session.queue) and number != session.running:
                    session.queue = waiting
                    head = ResultHead(number, Outcome.CANCELLED, None, 0, 0, 0, 0, "")
                    self._answer(session, head, b"")
            case held.Ack(number):
                if session.done.pop(number, None) is not None:
                    self.acknowledged.append(number)

    def _resume(self, session: Session, line: Line) -> None:
        session.line = line
        states = {head.id: State.QUEUED for head, _ in session.queue}
        if session.running:
            states[session.running] = State.RUNNING
        states |= dict.fromkeys(session.done, State.DONE)
        line.say(frame(held.Resumed(ModulePlace.OPEN, tuple(sorted(states.items())))))
        for _, (head, content) in sorted(session.done.items()):
            # Sealed anew each time, and so sent from its beginning.
            sealed = seal(session.key, content)
            line.say(frame(replace(head, sealed=Sealed(len(sealed)))) + sealed)

    async def _work(self, session: Session) -> None:
        """Run its tasks, one after the other: each gives back its input."""
        with session.life:
            while True:
                while not session.queue:
                    session.wake = trio.Event()
                    await session.wake.wait()
                head, content = session.queue[0]
                session.running = head.id
                self.ran.append(content)
                self._say(session, frame(TaskState(head.id, State.RUNNING, fuel=0)))
                await trio.sleep(self.seconds)
                session.queue.pop(0)
                session.running = 0
                result = ResultHead(head.id, Outcome.COMPLETED, 0, 7, 3, len(content), 0, "")
                self._answer(session, result, content)

    def _answer(self, session: Session, head: ResultHead, content: bytes) -> None:
        session.done[head.task] = head, content
        self._say(session, frame(head) + content)

    def _say(self, session: Session, data: bytes) -> None:
        if session.line is not None:
            session.line.say(data)


class Cut:
    """A stream that breaks once so many bytes came over it."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream = stream
        self._left = size

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes:
        if not self._left:
            await trio.aclose_forcefully(self._stream)
            raise CircuitDestroyed("a link broke")
        data: bytes = await self._stream.receive_some(min(max_bytes, self._left))
        self._left -= len(data)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Holders:
    """The way to some of them."""

    def __init__(self, nursery: trio.Nursery, count: int, seconds: float = 1.0) -> None:
        names = [f"w{number}" for number in range(1, count + 1)]
        self.workers = {identity(name): Holder(name, nursery, seconds) for name in names}
        self.online = True

    def __getitem__(self, number: int) -> Holder:
        return self.workers[identity(f"w{number}")]

    def candidates(self) -> Sequence[Candidate]:
        return tuple(Candidate(key, 1000, 1) for key in self.workers)

    async def connect(self, worker: bytes) -> Holder:
        await trio.sleep(0.1)
        found = self.workers[worker]
        if not (found.reachable and self.online):
            raise CircuitUnavailable("no circuit could be built")
        found.circuits += 1
        return found

    @property
    def ran(self) -> list[bytes]:
        return [each for worker in self.workers.values() for each in worker.ran]


class Remembered:
    """A journal in memory, which outlives the array that it is given to."""

    keeps = True

    def __init__(self) -> None:
        self.lanes: dict[int, tuple[bytes, Hold, dict[int, int]]] = {}
        self.highest: dict[int, int] = {}
        self.ends: dict[int, TaskEnd] = {}
        self.calls: list[str] = []

    async def lane_opening(self, lane: int, worker: bytes, hold: Hold) -> None:
        await trio.sleep(0.01)
        assert lane not in self.lanes
        self.lanes[lane] = worker, hold, {}

    async def sent(self, lane: int, tasks: Mapping[int, int]) -> None:
        await trio.sleep(0.01)
        assert min(tasks) > self.highest.get(lane, 0)
        self.highest[lane] = max(tasks)
        self.lanes[lane][2].update(tasks)

    async def ended(self, ends: Sequence[TaskEnd]) -> None:
        await trio.sleep(0.01)
        for end in ends:
            assert end.number not in self.ends, "a task ended twice"
            self.ends[end.number] = end
            for _, _, tasks in self.lanes.values():
                for known in [key for key, number in tasks.items() if number == end.number]:
                    del tasks[known]

    async def lane_over(self, lane: int) -> None:
        await trio.sleep(0.01)
        self.lanes.pop(lane, None)

    def held(self) -> tuple[HeldLane, ...]:
        return tuple(
            HeldLane(lane, worker, hold, dict(tasks), self.highest.get(lane, 0))
            for lane, (worker, hold, tasks) in self.lanes.items()
        )

    def reached(self, lane: int, way: Sequence[str]) -> None:
        self.calls.append(f"lane {lane}: {way[-1]}")

    def told(self, task: int, lane: int, state: State, reason: str, fuel: int | None) -> None:
        self.calls.append(f"task {task} in lane {lane}: {state.name} {reason} {fuel}")

    def failed_try(self, task: int, worker: str, reason: str) -> None:
        self.calls.append(f"task {task} failed at {worker}: {reason}")

    def verifying(self, task: int, reason: str) -> None:
        """Keep nothing: it may be lost."""
