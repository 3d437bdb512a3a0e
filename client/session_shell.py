"""A job's session at its client: its tasks, over one stream or several (spec/08 §3.1, §6).

A session that the worker holds (`ClientTasks` with a `Keep`) outlives its stream: `serve` may be
called with another one, and goes on. Its results are to be acknowledged, by `Call.settle`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from fogbank.client.call_shell import Call, OnState
from fogbank.client.modules_shell import Module
from fogbank.client.talk_shell import End, Talk
from fogbank.relay.job.client_session import ClientEvent, ClientSession, TaskDone, TaskResult
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.errors import Cause, JobError, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.held.messages import Resumed
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import Accepted, Offer, Refused, TaskState
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task


@dataclass(frozen=True, slots=True)
class Diary:
    """What is waited for before the worker hears of it.

    `opening`: that it may hold the session, if that was not written before. `sent`: tasks, their
    ids and what their callers call them.
    """

    opening: Callable[[], Awaitable[None]] | None
    sent: Callable[[Mapping[int, int]], Awaitable[None]]


class JobSession:
    """A module at a worker; `run` runs tasks of it.

    `tasks`: what is known of them, for a session that is held. With a `diary` it is written down.
    `shared`: what is known of the module at this worker, where several sessions have it.
    """

    def __init__(
        self,
        module: bytes | RuntimeId,
        patience: Patience,
        tasks: ClientTasks | None = None,
        diary: Diary | None = None,
        shared: Module | None = None,
    ) -> None:
        self.tasks = tasks or ClientTasks()
        self.offer: Offer | None = None
        """What the worker grants; None until it said so."""
        self._module = module
        self._has_sent = False
        self._shared = shared if isinstance(module, bytes) else None
        self._patience = patience
        self._diary = diary
        self._is_written = trio.Event()
        self._calls: dict[int, Call] = {}
        self._prepared: dict[int, int] = {}
        self._talk: Talk | None = None
        self._session: ClientSession | None = None
        self._end: End | None = None
        self._is_ending = False
        self.said_its_end = False
        """Whether the worker was told to forget it."""
        self._entry = trio.Lock()
        self._changed = trio.Event()

    # What its owner does with it.

    @property
    def goes_on(self) -> bool:
        """Whether it is not over, though perhaps without a stream."""
        return self._end is None

    async def serve(self, stream: Stream) -> End:
        """Speak over a stream until it ends. A session that is not held is over then."""
        session = ClientSession(self._patience, trio.current_time(), self.tasks)
        talk = Talk(stream, session, self._heed)
        self._session, self._talk, self._prepared = session, talk, {}
        self._has_sent = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._open, talk)
                if self._diary is not None:
                    nursery.start_soon(self._write_down, talk, self._diary)
                end = await talk.serve()
                nursery.cancel_scope.cancel()
        finally:
            if self._shared is not None:
                self._shared.gone(self)
        self._talk = None
        if not end.is_lost or not self.tasks.begun or self._is_ending:
            self.conclude(end)
        return end

    def conclude(self, end: End) -> None:
        """The session is over for good: whoever waits is told why."""
        if self._end is not None:
            return
        self._end = end
        for call in tuple(self._calls.values()):
            error = self._interruption(call.id, end)
            call.give(error)
        self._calls.clear()
        self._wake()

    async def opened(self) -> None:
        """Wait until the worker was sent the module; raise what it came to, if it came to none."""
        if not await self.is_open():
            unpack(self.verdict())

    async def is_open(self) -> bool:
        """Wait until tasks can be sent, and say so; or that it is over."""
        while self._end is None and not self._takes_tasks:
            await self._changed.wait()
        return self._end is None

    def end(self) -> None:
        """End it for good at the worker, which forgets all of it, as soon as it can be told."""
        self._is_ending = True
        talk, session = self._talk, self._session
        if talk is None or session is None:
            return
        if not self.tasks.begun:
            talk.end(End("it is not needed any more"))
        elif session.was_asked:
            self._say_its_end(session)

    def _say_its_end(self, session: ClientSession) -> None:
        session.end()
        self.said_its_end = True
        self._wake()

    # Tasks.

    async def run(
        self, task: Task, on_state: OnState | None = None, granted: int | None = None
    ) -> TaskResult:
        """Run one task and return how it ended; waits while the worker has no room for it.

        It may use the fuel `granted`, and pauses until `grant` gives it more; if None, all that its
        limit allows. Raises `JobRefused` or `JobInterrupted`. Cancelling ends the task at the
        worker.
        """
        call = self.call(task, 0, on_state, granted)
        try:
            return unpack(await call.answer())
        finally:
            call.call_off()

    def call(
        self,
        task: Task,
        number: int,
        on_state: OnState | None = None,
        granted: int | None = None,
    ) -> Call:
        """Return a call that runs a task, which its caller knows by a number."""
        return Call(self, task, number, on_state, granted)

    def recall(self, known: int, task: Task, number: int, on_state: OnState | None = None) -> Call:
        """Return a call for a task that an earlier client has sent under the id `known`."""
        call = Call(self, task, number, on_state, None)
        call.id = known
        self.tasks.expect(known, task.limits)
        self._calls[known] = call
        return call

    def grant(self, task: int, fuel: int) -> None:
        """Let the task, named as `on_state` hears of it, use `fuel` in all."""
        if self._session is not None:
            self._session.grant(task, fuel)
            self._wake()

    async def send(self, call: Call) -> TaskResult | JobError | None:
        """Send a task once there is room for it; return why it is not sent, if it is not."""
        # One at a time waits for room, in order of asking; the others need not look each time.
        async with self._entry:
            while self._end is None and not self._has_room_for(call.task):
                await self._changed.wait()
            session = self._session
            if self._end is not None or session is None:
                return self.verdict()
            try:
                call.id = session.prepare_task(call.task, call.granted)
            except JobRefused as refused:
                return refused
        self._calls[call.id] = call
        if self._diary is None:
            session.release(call.id)
        else:
            self._prepared[call.id] = call.number
        self._wake()
        return None

    def call_off(self, call: Call) -> None:
        """Do what `Call.call_off` says."""
        if call.id and self._session is not None:
            answered = self._calls.pop(call.id, None) is None
            if answered:
                self._session.acknowledge(call.id)
            else:
                self._session.cancel(call.id)
            self._wake()

    def settle(self, call: Call) -> None:
        """Do what `Call.settle` says."""
        if call.id and self._session is not None:
            self._session.acknowledge(call.id)
            self._wake()

    # What happens on its streams.

    async def _open(self, talk: Talk) -> None:
        """Say at first what there is to say: the module, or which session it is."""
        session = talk.session
        while session.offer is None:
            await self._changed.wait()
        self.offer = session.offer
        if self._diary is not None:
            await self._is_written.wait()
        try:
            if self.tasks.begun:
                session.resume()
            else:
                await self._send_module(session)
        except JobRefused as refused:
            talk.end(End(refused.reason, refused))
            return
        if self._is_ending:
            self._say_its_end(session)
        self._wake()

    async def _send_module(self, session: ClientSession) -> None:
        shared = self._shared
        if shared is None:
            session.send_module(self._module)
        else:
            is_there = await shared.claim(self)
            self._has_sent = True
            session.send_module(self._module, shared.key, is_there=is_there)

    async def _write_down(self, talk: Talk, diary: Diary) -> None:
        """Write down what is done next, of tasks all that there are at once, and have it done."""
        if diary.opening is not None and not self._is_written.is_set():
            await diary.opening()
        self._is_written.set()
        while True:
            while not self._prepared:
                await self._changed.wait()
            batch, self._prepared = self._prepared, {}
            await diary.sent(batch)
            for number in batch:
                talk.session.release(number)
            talk.wake()

    def _heed(self, event: ClientEvent) -> None:
        match event:
            case TaskDone(task, answer):
                call = self._calls.pop(task, None)
                if call is not None:
                    call.give(answer)
            case TaskState(task=task):
                for number, call in self._calls.items():
                    if call.on_state is not None and task in {0, number}:
                        call.on_state(event)
            case Resumed():
                self._tell_states(event)
        if self._shared is not None:
            self._heed_module(self._shared, event)
        self._wake()

    def _heed_module(self, shared: Module, event: ClientEvent) -> None:
        match event:
            case Accepted() | TaskState(task=0) if self._has_sent:
                shared.arrived(self)
            case Refused(cause=Cause.UNKNOWN):
                shared.lost()

    def _tell_states(self, resumed: Resumed) -> None:
        """Tell of each task where it is, as the worker says when a session goes on."""
        for task, state in resumed.tasks:
            call = self._calls.get(task)
            if call is not None and call.on_state is not None and state is not State.DONE:
                fuel = None if state is State.QUEUED else 0
                call.on_state(TaskState(task, state, fuel=fuel))

    @property
    def _takes_tasks(self) -> bool:
        return self._talk is not None and self._talk.session.takes_tasks

    def _has_room_for(self, task: Task) -> bool:
        return self._takes_tasks and self._session is not None and self._session.has_room_for(task)

    def _interruption(self, task: int, end: End) -> JobError:
        if self._session is None:
            error = JobInterrupted(Progress.NOT_SENT, end.why)
        else:
            error = self._session.interruption(task, end.why)
        error.__cause__ = end.fault
        return error

    def verdict(self) -> TaskResult | JobError:
        """Return what the end of the session means for a task that was not sent."""
        session, end = self._session, self._end
        if session is not None and session.refusal is not None:
            return session.verdict()
        if end is not None and isinstance(end.fault, JobRefused):
            return end.fault
        return self._interruption(0, end or End("the session is over"))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        if self._talk is not None:
            self._talk.wake()


def unpack(answer: TaskResult | JobError) -> TaskResult:
    """Return the result, or raise the error in its place."""
    if isinstance(answer, JobError):
        raise answer
    return answer
