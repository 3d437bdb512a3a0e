"""Jobs from the client's side (spec/08 §6): outcomes, interruptions, hostile workers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.job_shell import open_job_session, run_task
from fogbank.relay.errors import CircuitDestroyed, ProtocolError
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.errors import Cause, JobError, JobInterrupted, JobRefused, Progress
from fogbank.relay.job.frames import frame
from fogbank.relay.job.kinds import State
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import (
    Accepted,
    Load,
    Offer,
    Refused,
    ResultHead,
    TaskState,
    told_fuel,
)
from fogbank.sandbox.data import Data, whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import REFUSALS, Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task
from tests.relay.job_fakes import (
    CEILINGS,
    MODULE,
    RUNTIME,
    SMALL,
    FakeRunner,
    make_service,
    serve,
    task,
)

PATIENCE = Patience()
Stream = trio.StapledStream[Any, Any]


@asynccontextmanager
async def connected(runner: FakeRunner, **limits: Any) -> AsyncIterator[Any]:
    """A stream to a worker that is honest."""
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, make_service(runner, **limits), far)
        yield near
        with trio.CancelScope(shield=True):
            await near.aclose()


async def test_a_task_gives_its_output_and_tells_its_states(autojump_clock: MockClock) -> None:
    states: list[tuple[int, State]] = []
    async with connected(FakeRunner()) as stream:
        result = await run_task(
            stream,
            MODULE,
            task("echo", stdin=b"x" * 700_000),
            lambda state: states.append((state.task, state.state)),
        )
    assert result == TaskResult(Outcome.COMPLETED, 0, 1, 1, b"x" * 700_000, b"said")
    assert result.succeeded
    assert states[-1] == (1, State.RUNNING)
    assert (0, State.RUNNING) in states


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.CANCELLED])
async def test_each_outcome_arrives_as_itself(outcome: Outcome, autojump_clock: MockClock) -> None:
    async with connected(FakeRunner()) as stream:
        result = await run_task(stream, MODULE, task("end", outcome.name))
    assert result.outcome is outcome
    assert result.exit_code == (0 if outcome is Outcome.COMPLETED else None)
    assert result.reason == f"it is {outcome.name}"


async def test_progress_is_heard_of_at_most_once_a_second(autojump_clock: MockClock) -> None:
    told: list[tuple[float, int | None]] = []

    def hear(state: TaskState) -> None:
        if state.task:
            told.append((trio.current_time(), state.fuel))

    async with connected(FakeRunner()) as stream:
        result = await run_task(stream, MODULE, task("count", "45"), hear)
    assert (result.outcome, result.fuel) == (Outcome.COMPLETED, 450)
    _, (begun, first), *rest = told
    assert first == 0
    fuels = [fuel or 0 for _, fuel in rest]
    assert fuels == [told_fuel(fuel) for fuel in fuels]
    assert fuels == pytest.approx([100, 200, 300, 400], abs=10)
    gaps = [after - before for (before, _), (after, _) in pairwise([(begun, 0), *rest])]
    # Sums of tenths: a second is one to some last digits.
    assert min(gaps) > 1 - 1e-6


async def test_a_task_pauses_until_it_is_granted_more(autojump_clock: MockClock) -> None:
    """It is granted 100 of 450, more after a minute, then all of it before it needs it."""
    states: list[TaskState] = []

    async def grant_late(number: int) -> None:
        await trio.sleep(60)
        job.grant(number, 205)

    def hear(state: TaskState) -> None:
        states.append(state)
        if state.state is State.PAUSED and state.fuel == 100:
            nursery.start_soon(grant_late, state.task)
        elif state.state is State.PAUSED:
            job.grant(state.task, 1 << 40)

    async with (
        connected(FakeRunner()) as stream,
        open_job_session(stream, MODULE) as job,
        trio.open_nursery() as nursery,
    ):
        result = await job.run(task("count", "45"), hear, granted=100)
    assert (result.outcome, result.fuel) == (Outcome.COMPLETED, 450)
    at_work = [(state.state, state.fuel) for state in states if state.fuel is not None]
    pauses = [index for index, (state, _) in enumerate(at_work) if state is State.PAUSED]
    assert [at_work[index][1] for index in pauses] == [100, 205]
    assert [at_work[index + 1] for index in pauses] == [(State.RUNNING, 100), (State.RUNNING, 205)]


async def test_a_cancelled_task_tells_the_fuel_that_it_had_used(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    service = make_service(FakeRunner())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        session = ClientSession(Patience(), 0.0)
        results: list[TaskResult] = []
        while not results:
            for part in session.data_to_send():
                await near.send_all(whole(part))
            for event in session.receive(await near.receive_some(), trio.current_time()):
                match event:
                    case Offer():
                        session.send_module(MODULE)
                        session.send_task(task("count", "45"))
                    case TaskState(fuel=int(fuel)) if fuel >= 192:
                        session.cancel(1)
                    case TaskDone(_, TaskResult() as result):
                        results.append(result)
        await near.aclose()
    assert results[0].outcome is Outcome.CANCELLED
    assert 192 <= results[0].fuel < 250


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
async def test_each_refused_module_arrives_as_its_outcome(
    outcome: Outcome, autojump_clock: MockClock
) -> None:
    async with (
        connected(FakeRunner()) as stream,
        open_job_session(stream, outcome.name.encode()) as job,
    ):
        for _ in range(2):
            result = await job.run(task("exit", "0"))
            assert result == TaskResult(outcome, reason=f"it is {outcome.name}")


async def test_tasks_of_a_runtime(autojump_clock: MockClock) -> None:
    runner = FakeRunner()
    async with connected(runner) as stream, open_job_session(stream, RUNTIME) as job:
        assert (await job.run(task("exit", "7"))).exit_code == 7
        assert (await job.run(task("echo", stdin=b"x"))).stdout == b"x"
    runner.runtime_is_lost = True
    async with connected(runner) as stream:
        assert (await run_task(stream, RUNTIME, task("exit", "0"))).outcome is (
            Outcome.UNKNOWN_RUNTIME
        )
    assert len(runner.ran) == 2


async def test_nothing_is_sent_to_a_worker_that_does_not_offer_the_runtime(
    autojump_clock: MockClock,
) -> None:
    runner = FakeRunner()
    async with connected(runner) as stream:
        with pytest.raises(JobRefused, match="does not hold the runtime"):
            await run_task(stream, RuntimeId(b"s" * 32), task("exit", "0"))
    assert not runner.ran


async def test_many_tasks_of_one_session(autojump_clock: MockClock) -> None:
    codes: dict[int, int | None] = {}
    runner = FakeRunner()
    async with connected(runner, tasks=3) as stream, open_job_session(stream, MODULE) as job:

        async def run(code: int) -> None:
            codes[code] = (await job.run(task("exit", str(code)))).exit_code

        async with trio.open_nursery() as nursery:
            for code in range(20):
                nursery.start_soon(run, code)
    assert codes == {code: code for code in range(20)}
    assert len(runner.ran) == 20


async def test_input_streams_while_results_come_back(autojump_clock: MockClock) -> None:
    big = bytes(range(256)) * 4000
    async with connected(FakeRunner()) as stream, open_job_session(stream, MODULE) as job:
        results: list[Data] = []

        async def run() -> None:
            results.append((await job.run(task("echo", stdin=big))).stdout)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(run)
    assert results == [big] * 4


async def test_cancelling_a_call_kills_its_task_and_leaves_the_session(
    autojump_clock: MockClock,
) -> None:
    runner = FakeRunner()
    async with connected(runner) as stream, open_job_session(stream, MODULE) as job:
        with trio.move_on_after(10) as scope:
            await job.run(task("sleep", "19"))
        assert scope.cancelled_caught
        assert (await job.run(task("exit", "3"))).exit_code == 3
    assert runner.killed == [("sleep", "19")]


async def test_leaving_a_session_kills_what_runs(autojump_clock: MockClock) -> None:
    runner = FakeRunner()
    async with connected(runner) as stream:
        with trio.move_on_after(10):
            await run_task(stream, MODULE, task("sleep", "19"))
    assert runner.killed == [("sleep", "19")]


@pytest.mark.parametrize("what", ["sessions", "memory", "limits"])
async def test_a_refusal_says_why(what: str, autojump_clock: MockClock) -> None:
    bounds = {"sessions": {"sessions": 0}, "memory": {"held": 5}, "limits": {}}[what]
    asked = Task(limits=Limits(fuel=CEILINGS.fuel + 1)) if what == "limits" else task("exit", "0")
    async with connected(FakeRunner(), **bounds) as stream:
        with pytest.raises(JobRefused) as refused:
            await run_task(stream, MODULE, asked)
    assert refused.value.cause is (Cause.LIMITS if what == "limits" else Cause.BUSY)
    assert str(refused.value).startswith("The worker refused the job: ")


async def test_what_no_offer_was_waited_for_is_refused_by_the_worker(
    autojump_clock: MockClock,
) -> None:
    """It knows that its offer forbids what it has got; a client that waits finds the same."""

    async def patiently(stream: Any, module: bytes, asked: Task) -> None:
        async with open_job_session(stream, module) as job:
            await job.run(asked)

    for asked, cause in (
        (Task(limits=Limits(fuel=CEILINGS.fuel + 1)), Cause.LIMITS),
        (task("echo", stdin=bytes(6)), Cause.LIMITS),
        (Task(files=(("/x", b""),), limits=SMALL), Cause.TASK),
    ):
        for run in (run_task, patiently):
            runner = FakeRunner()
            async with connected(runner, input_size=5) as stream:
                with pytest.raises(JobRefused) as refused:
                    await run(stream, MODULE, asked)
            assert refused.value.cause is cause
            assert not runner.ran


async def test_errors_of_the_block_arrive_as_they_are(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, make_service(FakeRunner()), far)
        with pytest.raises(KeyError):
            async with open_job_session(near, MODULE):
                raise KeyError


# Interruptions: a worker by hand, whose word ends somewhere.

OFFER = frame(Offer("engine", CEILINGS, 100, 100, 3, Load(1, 0, 0)))
RESULT = ResultHead(1, Outcome.COMPLETED, 0, 10, 3, 2, 1, "")
WORDS: list[tuple[bytes, Progress]] = [
    (b"", Progress.NOT_SENT),
    (OFFER, Progress.SENT),
    (frame(TaskState(0, State.QUEUED, "1 job waits")), Progress.SENT),
    (frame(TaskState(0, State.RUNNING)), Progress.SENT),
    (frame(TaskState(1, State.QUEUED)), Progress.QUEUED),
    (frame(Accepted()), Progress.QUEUED),
    (frame(TaskState(1, State.RUNNING, fuel=0)), Progress.RUNNING),
    (frame(RESULT), Progress.ARRIVING),
]
Ending = Callable[[Any], Awaitable[None]]


async def clean_end(stream: Any) -> None:
    await stream.aclose()


async def half_a_word(stream: Any) -> None:
    await stream.send_all(b"\0\0")
    await stream.aclose()


async def silence(_: Any) -> None:
    await trio.sleep_forever()


async def garbage(stream: Any) -> None:
    await stream.send_all(b"\xff" * 8)


class Cut(trio.abc.Stream):
    """A stream that ends as one on a circuit does when the circuit is destroyed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def send_all(self, data: Any) -> None:
        try:
            await self._inner.send_all(data)
        except trio.BrokenResourceError:
            raise CircuitDestroyed("The circuit was destroyed: a relay went away.") from None

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data: bytes = await self._inner.receive_some(max_bytes)
        if not data:
            raise CircuitDestroyed("The circuit was destroyed: a relay went away.")
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


async def talk_with(words: list[bytes], ending: Ending, wrap: Any = lambda s: s) -> JobError:
    """Run a task at a worker that says `words` and then ends; return the error that is raised."""
    near, far = memory_stream_pair()
    caught: list[JobError] = []

    async def act() -> None:
        for word in words:
            await trio.sleep(1)
            await far.send_all(word)
        await trio.sleep(1)
        await ending(far)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        try:
            await run_task(wrap(near), MODULE, task("exit", "0"))
        except JobError as error:
            caught.append(error)
        nursery.cancel_scope.cancel()
    assert caught, "a session that was cut off gave a result"
    return caught[0]


@pytest.mark.parametrize("ending", [clean_end, half_a_word, silence, garbage])
@pytest.mark.parametrize("count", range(len(WORDS)))
async def test_a_session_cut_anywhere_is_an_interruption(
    count: int, ending: Ending, autojump_clock: MockClock
) -> None:
    words = [word for word, _ in WORDS[: count + 1]]
    began = trio.current_time()
    # An attachment has begun after the last word: what follows is part of it.
    if count == len(WORDS) - 1 and ending in {half_a_word, garbage}:
        ending = clean_end
    error = await talk_with(words, ending)
    assert isinstance(error, JobInterrupted)
    # All that there is to send goes out at once, whatever the worker says.
    progress = max(WORDS[count][1], Progress.SENT)
    assert error.progress is progress
    assert error.accepted == (progress >= Progress.QUEUED)
    assert error.running == (progress >= Progress.RUNNING)
    assert "run it again" in str(error)
    assert isinstance(error.__cause__, ProtocolError) == (ending is garbage)
    if ending is silence:
        assert 29 < trio.current_time() - began < 200


async def test_a_circuit_that_dies_in_mid_job_says_so(autojump_clock: MockClock) -> None:
    words = [word for word, _ in WORDS[:7]]
    error = await talk_with(words, clean_end, Cut)
    assert isinstance(error, JobInterrupted)
    assert str(error) == (
        "The job was interrupted while the task was running: the circuit was destroyed: a relay"
        " went away. A task whose client is gone is ended, and no result came: run it again."
    )
    assert isinstance(error.__cause__, CircuitDestroyed)


async def test_a_last_word_counts_even_if_nothing_more_can_be_sent(
    autojump_clock: MockClock,
) -> None:
    near, far = memory_stream_pair()

    async def act() -> None:
        await far.send_all(OFFER)
        await far.receive_stream.aclose()
        await trio.sleep(1)
        await far.send_all(frame(Refused(Cause.BUSY, "no memory")))

    caught: list[JobRefused] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        try:
            await run_task(near, MODULE, task("exit", "0"))
        except JobRefused as error:
            caught.append(error)
    assert [error.reason for error in caught] == ["no memory"]


WHOLE = b"".join(word for word, _ in WORDS) + b"ou" + b"e"


async def test_the_same_words_in_full_are_a_result(autojump_clock: MockClock) -> None:
    result = await converse(WHOLE, one_by_one=True)
    assert result == TaskResult(Outcome.COMPLETED, 0, 10, 8, b"ou", b"e")


async def converse(words: bytes, *, one_by_one: bool) -> TaskResult | JobError:
    """Run a task at a worker that says all this, as soon as the client has sent all of its own."""
    near, far = memory_stream_pair()
    answers: list[TaskResult | JobError] = []
    first = len(OFFER)

    async def act() -> None:
        try:
            await far.send_all(words[:first])
            await trio.sleep(1)
            step = 1 if one_by_one else len(WHOLE)
            for at in range(first, len(words), step):
                await far.send_all(words[at : at + step])
            await trio.sleep(1)
            await far.aclose()
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        try:
            answers.append(await run_task(near, MODULE, Task(limits=SMALL)))
        except JobError as error:
            answers.append(error)
    return answers[0]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)).map(
            lambda pair: WHOLE[: pair[0]] + bytes([WHOLE[pair[0]] ^ pair[1]]) + WHOLE[pair[0] + 1 :]
        ),
        st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    ),
    st.booleans(),
)
def test_a_hostile_worker_gives_a_checked_result_or_one_error(
    words: bytes, one_by_one: bool
) -> None:
    async def main() -> None:
        answer = await converse(words, one_by_one=one_by_one)
        if isinstance(answer, TaskResult):
            assert answer.fuel <= SMALL.fuel
            assert len(answer.stdout) + len(answer.stderr) <= SMALL.output
            assert (answer.exit_code is not None) == (answer.outcome is Outcome.COMPLETED)
            assert answer.reason.isprintable()

    trio.run(main, clock=MockClock(autojump_threshold=0))
