"""Programs that judge, in the user's own sandbox and on workers (spec/12 §3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wasmtime import wat2wasm

from fogbank.client.errors import CircuitUnavailable
from fogbank.client.scheduling.words import Candidate
from fogbank.client.verification.inspector_shell import Word
from fogbank.client.verification.judges_shell import (
    Judging,
    RemoteJudge,
    open_local_judge,
    opinion_of,
)
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.keys import NodeId
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.task import Task
from tests.client.networks import SeededChooser
from tests.relay.job_fakes import CEILINGS, MODULE, FakeRunner, serve
from tests.system import programs

SMALL = Limits(fuel=10**7, memory=1 << 24, output=100_000, wall_seconds=30.0)
TASK = Task(("program", "one"), stdin=b"what was asked", limits=SMALL)


def answer(stdout: bytes) -> TaskResult:
    return TaskResult(Outcome.COMPLETED, 0, stdout=stdout)


async def test_a_real_program_judges_in_the_user_s_own_sandbox(tmp_path: Path) -> None:
    judging = Judging(bytes(wat2wasm(programs.EQUAL)), "judge")
    async with open_local_judge(judging, RuntimeStore(tmp_path), 2) as judge:
        opinions: dict[bytes, Any] = {}

        async def ask(stdout: bytes) -> None:
            opinions[stdout] = await judge.judge(b"w", TASK, answer(stdout))

        async with trio.open_nursery() as nursery:
            for stdout in (b"what was asked", b"a lie", b""):
                nursery.start_soon(ask, stdout)
        assert opinions[b"what was asked"].word is Word.RIGHT
        assert {opinions[lie].word for lie in (b"a lie", b"")} == {Word.WRONG}
        assert all(opinion.here for opinion in opinions.values())
        huge = Task(("program",), stdin=bytes(1 << 25), limits=SMALL)
        assert (await judge.judge(b"w", huge, answer(b""))).word is Word.NOTHING


@pytest.mark.parametrize("text", [programs.TRAP, programs.FOREVER])
async def test_a_judge_that_breaks_says_nothing(text: str, tmp_path: Path) -> None:
    async with open_local_judge(
        Judging(bytes(wat2wasm(text)), "judge"), RuntimeStore(tmp_path), 1
    ) as judge:
        for _ in range(2):
            opinion = await judge.judge(b"w", TASK, answer(b"what was asked"))
            assert opinion.word is Word.NOTHING
            assert opinion.reason


async def test_a_judge_that_is_no_program_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModuleRefused):
        async with open_local_judge(Judging(b"\0asm", "judge"), RuntimeStore(tmp_path), 1):
            raise AssertionError


def test_what_the_end_of_a_judge_means() -> None:
    assert opinion_of(Result(Outcome.COMPLETED, 0)).word is Word.RIGHT
    wrong = opinion_of(Result(Outcome.COMPLETED, 3, stderr=b"row 7 is\x1b[2J off\n"))
    assert wrong.word is Word.WRONG
    assert wrong.reason == "it ended with exit code 3 (row 7 is?[2J off)"
    for outcome in set(Outcome) - {Outcome.COMPLETED}:
        assert opinion_of(Result(outcome)).word is Word.NOTHING


class Bench:
    """Workers that run the program that judges, by a fake: its end is its worker's."""

    def __init__(self, nursery: trio.Nursery, ends: dict[NodeId, int | None]) -> None:
        self.nursery = nursery
        self.ends = ends
        self.asked: list[NodeId] = []
        self.way = ("relay", "worker")
        self._last = b""

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(each, 1000, 1) for each in self.ends)

    async def connect(self, worker: NodeId) -> Bench:
        self.asked.append(worker)
        if self.ends[worker] is None:
            raise CircuitUnavailable("no circuit could be built")
        self._last = worker
        return self

    async def open_stream(self) -> Any:
        near, far = memory_stream_pair()
        code = str(self.ends[self._last])
        self.nursery.start_soon(serve, JobService(Ends(code), "engine", CEILINGS), far)
        return near

    def close(self) -> None:
        """Its circuit is none."""


class Ends(FakeRunner):
    """Ends every task with its code, whatever it is asked."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def open_job(self, module: Any) -> Any:
        runner = super().open_job(module)
        code = self.code

        class Opened:
            async def __aenter__(self) -> Any:
                await runner.__aenter__()
                return self

            async def __aexit__(self, *error: Any) -> Any:
                return await runner.__aexit__(*error)

            async def run(self, task: Task, _supply: Any) -> Result:
                assert dict(task.files)["input"] == TASK.stdin
                return Result(Outcome.COMPLETED, int(code), 1)

        return Opened()


async def test_a_worker_that_is_apart_judges_if_there_is_no_sandbox(
    autojump_clock: MockClock,
) -> None:
    small = Limits(fuel=1000, memory=1 << 20, wall_seconds=20.0, output=1 << 20)
    asked = Task(TASK.args, stdin=TASK.stdin, limits=small)

    def conflict(a: NodeId, b: NodeId) -> bool:
        return a[0] == b[0]

    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, {b"a1": 1, b"a2": 1, b"b1": 0, b"b2": None})
        judge = RemoteJudge(Judging(MODULE, "judge"), bench, SeededChooser("j"), conflict)
        for _ in range(3):
            opinion = await judge.judge(b"a1", asked, answer(b"x"))
            assert (opinion.word, opinion.here) == (Word.RIGHT, False)
        # Whoever served before serves again: few circuits are drawn.
        assert bench.asked.count(b"b1") == 3
        assert not {b"a1", b"a2"} & set(bench.asked)
        opinion = await judge.judge(b"b1", asked, answer(b"x"))
        assert (opinion.word, opinion.here) == (Word.WRONG, False)
        bench.ends = {b"a1": 0, b"c1": None}
        lonely = await judge.judge(b"a1", asked, answer(b"x"))
        assert lonely.word is Word.NOTHING
        nursery.cancel_scope.cancel()
