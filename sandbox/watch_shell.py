"""One task in its process, watched from outside: time, fuel, speed, and what it says (spec/07 §5).

The process may be a program that escaped: each word of it is held against what was granted. Where
it is not ended by itself, whoever watched ends it.
"""

import signal
from dataclasses import replace

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.data import Sink, Sinks, whole
from fogbank.sandbox.floor import SpeedFloor
from fogbank.sandbox.forks_shell import Process, ProcessDied
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task
from fogbank.sandbox.wire import Frame, WireError

_WORDS_AT_ONCE = 50
_WORDS_PER_SECOND = 20
"""Twice what an honest process says of its progress: more would cost whoever listens."""


class Watch:
    """Runs `task` in `process`, with the fuel that `supply` grants.

    `sinks` makes what keeps large outputs.
    """

    def __init__(
        self, config: SandboxConfig, process: Process, task: Task, supply: Supply, sinks: Sinks
    ) -> None:
        self.has_answered = False
        """Whether the process did what it was to do, and may be given the next task."""
        self._config = config
        self._process = process
        self._task = task
        self._supply = supply
        self._sinks = sinks
        self._wanted = wire.portions_of(task)
        self._written: dict[int, Sink] = {}
        self._output_left = task.limits.output
        self._granted = min(supply.granted, task.limits.fuel)
        self._floor = SpeedFloor(config.floor)
        self._reading = Reading()
        self._words = 0
        self._started = trio.current_time()
        self._paused = 0.0
        self._scope = trio.CancelScope(deadline=self._started + task.limits.wall_seconds)

    @property
    def seconds(self) -> float:
        """Real time since the task began, without that for which it waited for a grant."""
        return trio.current_time() - self._started - self._paused

    async def run(self) -> Result:
        """Return how the task ended. Cancelling leaves the process to be ended by the caller."""
        limits = self._task.limits
        try:
            with self._scope:
                await self._process.send(Frame.TASK, wire.encode_task(self._task, self._granted))
                return await self._listen()
            return self._killed(
                Outcome.TIMEOUT, f"the task did not end within its {limits.wall_seconds:g} s"
            )
        except ProcessDied as death:
            return self._after_death(death)
        except WireError as error:
            return Result(
                Outcome.HOST_FAILURE, reason=f"the task's process answered with nonsense: {error}"
            )
        except OSError as error:
            reason = f"the worker could not keep the task's input or output: {error}"
            return Result(Outcome.HOST_FAILURE, reason=reason)

    async def _listen(self) -> Result:
        bounds = {
            Frame.RESULT: wire.result_bound(self._task.limits),
            Frame.PROGRESS: wire.READING_SIZE,
            Frame.PAUSED: wire.READING_SIZE,
            Frame.WANT: 0,
            Frame.OUTPUT: wire.OUTPUT_SIZE,
        }
        while True:
            kind, body = await self._process.receive(bounds)
            if kind is Frame.RESULT:
                return self._answer(body)
            if kind is Frame.OUTPUT:
                self._take_output(*wire.decode_output(body))
            elif kind is Frame.WANT:
                await self._give_input()
            else:
                ended = await self._hear(wire.decode_reading(kind, body))
                if ended is not None:
                    return ended

    async def _give_input(self) -> None:
        part = next(self._wanted, None)
        if part is None:
            raise WireError("more input is wanted than there is")
        await self._process.send(Frame.INPUT, part)

    def _take_output(self, stream: int, part: bytes | memoryview) -> None:
        self._output_left -= len(part)
        if self._output_left < 0:
            raise WireError("more output than the task's limit")
        if stream not in self._written:
            self._written[stream] = self._sinks()
        self._written[stream].write(part)

    def _answer(self, body: bytes) -> Result:
        result = wire.decode_result(body, self._task.limits)
        if not self._reading.fuel <= result.fuel <= self._granted:
            raise WireError("a result whose fuel is not what was told or granted")
        if self._written:
            result = self._with_output(result)
        self.has_answered = result.outcome is not Outcome.HOST_FAILURE
        return result

    def _with_output(self, result: Result) -> Result:
        """Put the ends of the outputs, which come with the result, behind what came before."""
        for stream, end in ((1, result.stdout), (2, result.stderr)):
            self._take_output(stream, whole(end))
        stdout, stderr = (self._written[stream].done() for stream in (1, 2))
        return replace(result, stdout=stdout, stderr=stderr)

    async def _hear(self, reading: Reading) -> Result | None:
        """Take in a reading; return how the task ends if it does because of it."""
        # A pause comes of a grant, of which there are as many as its giver likes.
        self._words += not reading.is_paused
        if self._words > _WORDS_AT_ONCE + _WORDS_PER_SECOND * self.seconds:
            raise WireError("more words on its progress than there can be")
        before = self._reading
        if reading.fuel < before.fuel or reading.cpu_seconds < before.cpu_seconds:
            raise WireError("a meter that runs backwards")
        if reading.fuel > self._granted:
            raise WireError("more fuel used than was granted")
        self._reading = reading
        self._supply.hear(reading)
        if self._floor.hear(reading.fuel, reading.cpu_seconds):
            speed = reading.fuel / reading.cpu_seconds / 1e9
            return self._killed(
                Outcome.TOO_SLOW,
                f"it used {speed:.3f} G of fuel per second of CPU time, and not even this worker's"
                f" floor of {self._config.floor / 1e9:g} G for seconds on end",
            )
        return await self._pause() if reading.is_paused else None

    async def _pause(self) -> Result | None:
        """Wait for a grant while the task's time stands still."""
        if self._reading.fuel != self._granted or self._granted >= self._task.limits.fuel:
            raise WireError("a pause before the granted fuel was used")
        since = trio.current_time()
        left = self._scope.deadline - since
        self._scope.deadline = float("inf")
        patience = self._config.pause_seconds
        with trio.move_on_after(patience) as waiting:
            granted = await self._grant()
        now = trio.current_time()
        self._paused += now - since
        self._scope.deadline = now + left
        if waiting.cancelled_caught:
            return self._killed(
                Outcome.OUT_OF_FUEL,
                f"the fuel granted was used up, and no more was granted within {patience:g} s",
            )
        if granted:
            self._granted = min(granted, self._task.limits.fuel)
            await self._process.send(Frame.GRANT, wire.encode_grant(self._granted))
        # Else it died meanwhile, as who listens to it next will learn.
        return None

    async def _grant(self) -> int:
        """Wait for a grant and return it, or 0 if the process ends before there is one."""
        granted = 0

        async def watch(scope: trio.CancelScope) -> None:
            await self._process.gone()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            granted = await self._supply.beyond(self._granted)
            nursery.cancel_scope.cancel()
        return granted

    def _killed(self, outcome: Outcome, reason: str) -> Result:
        """Return the result of a task that is ended from outside; its last reading stands."""
        return Result(outcome, fuel=self._reading.fuel, reason=reason)

    def _after_death(self, death: ProcessDied) -> Result:
        if death.signal == signal.SIGXCPU:
            words = "the task used more CPU time than a process may"
            return self._killed(Outcome.TIMEOUT, words)
        if death.signal in {signal.SIGABRT, signal.SIGKILL}:
            reason = "the task's process was ended, most likely for lack of memory on the worker"
            return Result(Outcome.HOST_FAILURE, reason=reason)
        return Result(Outcome.HOST_FAILURE, reason=f"the task's process ended: {death}")
