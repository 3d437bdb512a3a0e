"""A jailed process that says anything at all, as an escaped module would (spec/07 §8)."""

import signal
import socket
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.sandbox import wire
from fogbank.sandbox.forks_shell import Forks, Process
from fogbank.sandbox.jail import JailReport
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.pool_shell import QUICK_SIZE, Job, Sandbox
from fogbank.sandbox.stock_shell import Stock
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task
from fogbank.sandbox.wire import Frame
from tests.sandbox import programs

LIMITS = Limits(fuel=1000, output=1000, wall_seconds=5.0)
TASK = Task(limits=LIMITS)
LOADED = wire.frame(Frame.LOADED, b"")
GOOD = wire.frame(
    Frame.RESULT, wire.encode_result(Result(Outcome.COMPLETED, 0, 10, b"out", reason="fine"))
)


@dataclass
class Impostor:
    """A stock of processes that say `said` and then, if `closing`, hang up."""

    said: bytes
    closing: bool = True
    killed: int = 0
    others: list[trio.SocketStream] = field(default_factory=list)
    process: Process | None = None

    async def take(self) -> Process:
        ours, theirs = socket.socketpair()
        other = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        await other.send_all(self.said)
        if self.closing:
            await other.send_eof()
        self.others.append(other)
        self.process = Process(1, ours, cast(Forks, self))
        return self.process

    def kill(self, _number: int) -> None:
        self.killed += 1
        assert self.process is not None
        self.process.exited(-signal.SIGKILL)

    async def close(self) -> None:
        for other in self.others:
            await other.aclose()


def reading(fuel: int, cpu_seconds: float = 0.0, kind: Frame = Frame.PROGRESS) -> bytes:
    return wire.frame(kind, wire.encode_reading(Reading(fuel, cpu_seconds)))


def ended(fuel: int) -> bytes:
    return wire.frame(Frame.RESULT, wire.encode_result(Result(Outcome.COMPLETED, 0, fuel)))


async def run(said: bytes, *, closing: bool = True, supply: Supply | None = None) -> Result:
    """What a job makes of a process that says this."""
    impostor = Impostor(said, closing)
    job = Job(SandboxConfig(), cast(Stock, impostor), (Frame.ARTIFACT, b"code"))
    result = await job.run(TASK, supply)
    await job.close()
    await impostor.close()
    assert impostor.killed == len(impostor.others)
    return result


async def compiled(said: bytes, *, closing: bool = True) -> ModuleRefused:
    impostor = Impostor(said, closing)
    stock = cast(Stock, impostor)
    sandbox = Sandbox(SandboxConfig(), JailReport(()), (stock, stock), None)
    with pytest.raises(ModuleRefused) as info:
        async with sandbox.open_job(programs.padded(programs.HELLO, QUICK_SIZE)):
            raise AssertionError("it was compiled")
    await impostor.close()
    assert impostor.killed == len(impostor.others)
    return info.value


async def test_an_honest_process_is_believed() -> None:
    result = await run(LOADED + GOOD)
    assert (result.outcome, result.stdout, result.reason) == (Outcome.COMPLETED, b"out", "fine")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0",
        LOADED,
        LOADED[:-1],
        LOADED + GOOD[:-1],
        LOADED + LOADED,
        GOOD,
        LOADED + wire.HEADER.pack(Frame.RESULT, 0),
        LOADED + wire.HEADER.pack(Frame.RESULT, 0xFFFF_FFFF) + bytes(100_000),
        LOADED + wire.HEADER.pack(99, 0),
        LOADED + wire.frame(Frame.RESULT, b"\xff" * 40),
        wire.HEADER.pack(Frame.LOADED, 1) + b"x",
        wire.frame(Frame.REFUSED, b""),
        wire.frame(Frame.REFUSED, b"\0lies"),
        LOADED
        + wire.frame(
            Frame.RESULT, wire.encode_result(Result(Outcome.COMPLETED, 0, 0, stdout=bytes(1001)))
        ),
        LOADED + ended(1001),
        LOADED + wire.frame(Frame.PROGRESS, b"short"),
        LOADED + reading(1001),
        LOADED + reading(5) + reading(4),
        LOADED + reading(5, 2.0) + reading(5, 1.0),
        LOADED + reading(5) + ended(4),
        LOADED + reading(5) * 100 + ended(5),
        LOADED + reading(1000, kind=Frame.PAUSED) + ended(1000),
        LOADED + reading(5, kind=Frame.PAUSED) + ended(5),
        LOADED + wire.frame(Frame.GRANT, wire.encode_grant(1)),
    ],
    ids=range(25),
)
async def test_nonsense_is_the_hosts_failure(said: bytes) -> None:
    result = await run(said)
    assert result.outcome is Outcome.HOST_FAILURE
    assert result.reason
    assert (result.stdout, result.exit_code, result.fuel) == (b"", None, 0)


@pytest.mark.parametrize(
    "said",
    [
        LOADED + ended(501),
        LOADED + reading(501),
        LOADED + reading(499, kind=Frame.PAUSED),
        LOADED + reading(500, kind=Frame.PAUSED) + reading(601, kind=Frame.PAUSED),
        LOADED + reading(500, kind=Frame.PAUSED) + ended(499),
        LOADED + reading(500, kind=Frame.PAUSED) + ended(601),
    ],
    ids=range(6),
)
async def test_a_process_cannot_use_or_wait_for_what_was_not_granted(said: bytes) -> None:
    supply = Supply(500, lambda heard: supply.grant(600) if heard.is_paused else None)
    result = await run(said, supply=supply)
    assert (result.outcome, result.fuel) == (Outcome.HOST_FAILURE, 0)


async def test_what_a_process_says_of_its_fuel_is_passed_on() -> None:
    heard: list[Reading] = []
    said = LOADED + reading(3, 0.5) + reading(3, 0.5) + reading(9, 1.0) + ended(10)
    assert (await run(said, supply=Supply(on_reading=heard.append))).fuel == 10
    assert heard == [Reading(3, 0.5), Reading(3, 0.5), Reading(9, 1.0)]


async def test_a_killed_tasks_fuel_is_what_was_last_heard(
    autojump_clock: trio.abc.Clock,
) -> None:
    result = await run(LOADED + reading(7), closing=False)
    assert (result.outcome, result.fuel, result.seconds) == (Outcome.TIMEOUT, 7, 5.0)


async def test_a_task_below_the_floor_is_ended_with_words_that_say_so() -> None:
    result = await run(LOADED + reading(400, 5.9) + reading(500, 12.0), closing=False)
    assert (result.outcome, result.fuel, result.exit_code) == (Outcome.TOO_SLOW, 500, None)
    assert "floor" in result.reason


async def test_a_killed_process_is_waited_for_by_the_next_task_and_not_by_the_answer(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The kernel takes 2 s to take the first process down."""

    class Slow(Impostor):
        def kill(self, _number: int) -> None:
            self.killed += 1

    slow = Slow(LOADED, closing=False)
    job = Job(SandboxConfig(), cast(Stock, slow), (Frame.ARTIFACT, b"code"))
    with trio.move_on_after(1):
        await job.run(TASK)
    assert trio.current_time() == pytest.approx(1.05)
    first = slow.process
    assert first is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.prepare)
        await trio.sleep(2)
        assert slow.process is first
        first.exited(-signal.SIGKILL)
        await trio.testing.wait_all_tasks_blocked()
        assert slow.process is not first
    assert slow.process is not None
    slow.process.exited(-signal.SIGKILL)
    await job.close()
    await slow.close()


async def test_the_time_of_a_pause_is_nobodys(autojump_clock: trio.abc.Clock) -> None:
    """A task of 5 s waits for 200 s, and then for longer than anybody waits."""
    heard: list[Reading] = []
    supply = Supply(500, heard.append)
    impostor = Impostor(LOADED + reading(500, kind=Frame.PAUSED), closing=False)
    job = Job(SandboxConfig(), cast(Stock, impostor), (Frame.ARTIFACT, b"code"))
    results: list[Result] = []

    async def watched() -> None:
        results.append(await job.run(TASK, supply))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched)
        await trio.sleep(200)
        assert heard == [Reading(500, is_paused=True)]
        (other,) = impostor.others
        received = bytearray()
        supply.grant(499)
        supply.grant(700)
        grant = wire.frame(Frame.GRANT, wire.encode_grant(700))
        while not received.endswith(grant):
            received += await other.receive_some()
        await trio.sleep(4)
        assert not results
        await other.send_all(reading(700, kind=Frame.PAUSED))
    (result,) = results
    assert (result.outcome, result.fuel) == (Outcome.OUT_OF_FUEL, 700)
    assert "no more was granted within 300 s" in result.reason
    assert result.seconds == pytest.approx(4)
    await impostor.close()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (b"", Outcome.HOST_FAILURE),
        (LOADED, Outcome.TIMEOUT),
        (LOADED + GOOD[:-1], Outcome.TIMEOUT),
    ],
)
async def test_silence_is_waited_for_no_longer_than_granted(
    autojump_clock: trio.abc.Clock, said: bytes, outcome: Outcome
) -> None:
    assert (await run(said, closing=False)).outcome is outcome


@pytest.mark.parametrize(
    "said",
    [
        b"\0",
        wire.HEADER.pack(Frame.ARTIFACT, 0xFFFF_FFFF),
        GOOD,
        wire.frame(Frame.REFUSED, b"\0lies"),
        wire.frame(Frame.ARTIFACT, b"not code"),
    ],
    ids=range(5),
)
async def test_nonsense_of_a_compiler_is_the_hosts_failure(said: bytes) -> None:
    refused = await compiled(said)
    assert refused.outcome in {Outcome.HOST_FAILURE, Outcome.COMPILE_LIMIT}
    assert refused.reason


async def test_a_compiler_that_hangs_is_a_module_too_costly(
    autojump_clock: trio.abc.Clock,
) -> None:
    assert (await compiled(b"", closing=False)).outcome is Outcome.COMPILE_LIMIT


async def test_a_compilers_refusal_is_passed_on_in_one_line() -> None:
    refusal = ModuleRefused(Outcome.UNKNOWN_IMPORT, "the module imports\x1b[2J\nenv.x")
    refused = await compiled(wire.frame(Frame.REFUSED, wire.encode_refusal(refusal)))
    assert refused.outcome is Outcome.UNKNOWN_IMPORT
    assert refused.reason == "the module imports?[2J env.x"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_whatever_a_process_says_there_is_a_result(said: bytes, loaded: bool) -> None:
    result = trio.run(run, LOADED + said if loaded else said)
    assert result.outcome in {Outcome.HOST_FAILURE, Outcome.COMPLETED}
