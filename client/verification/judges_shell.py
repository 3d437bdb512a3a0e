"""Where a program that judges runs: in the user's own sandbox, or on workers (spec/12 §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio

from fogbank.client.chance import Chooser, Weighted
from fogbank.client.errors import ClientError
from fogbank.client.job_shell import run_task
from fogbank.client.lines_shell import Lines, Reach
from fogbank.client.verification.inspector_shell import Opinion, Word
from fogbank.relay.errors import RelayError
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.keys import NodeId
from fogbank.sandbox.data import Data, portions
from fogbank.sandbox.limits import LimitError, SandboxConfig
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.pool_shell import Job, open_sandbox
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.task import Task, TaskError

INPUT_NAME: Final = "input"
"""The file in which a program that judges finds what the task was given."""
_TRIES: Final = 3
_AT_ONCE: Final = 16
_TOLD: Final = 200


@dataclass(frozen=True, slots=True)
class Judging:
    """The program that judges: its module or runtime, its name, and its script's file if any."""

    program: bytes | RuntimeId
    name: str
    files: tuple[tuple[str, Data], ...] = ()

    def task(self, task: Task, result: TaskResult) -> Task:
        """Return the task in which it judges an answer: within the same limits, as is its due."""
        files = (*self.files, (INPUT_NAME, task.stdin))
        args = (self.name, *task.args[1:])
        return replace(task, args=args, files=files, stdin=result.stdout)


class LocalJudge:
    """Runs the program in jobs of the user's own sandbox, one answer at a time in each."""

    def __init__(self, judging: Judging, jobs: list[Job]) -> None:
        self._judging = judging
        self._jobs = jobs
        self._free = trio.Semaphore(len(jobs))

    async def judge(self, worker: NodeId, task: Task, result: TaskResult) -> Opinion:
        """Say what the program makes of an answer."""
        del worker
        async with self._free:
            job = self._jobs.pop()
            try:
                return opinion_of(await job.run(self._judging.task(task, result)))
            except (TaskError, LimitError) as error:
                return Opinion(Word.NOTHING, str(error))
            finally:
                self._jobs.append(job)


@asynccontextmanager
async def open_local_judge(
    judging: Judging, store: RuntimeStore, jobs: int
) -> AsyncIterator[LocalJudge]:
    """Give a judge in a sandbox of `jobs` processes; `store` holds the runtime that it may need.

    Raises `SandboxUnavailable`, or `ModuleRefused` if that is no program.
    """
    config = SandboxConfig(processes=jobs, spares=0)
    async with open_sandbox(config, store) as sandbox, AsyncExitStack() as stack:
        opened = [sandbox.open_job(judging.program) for _ in range(jobs)]
        yield LocalJudge(judging, [await stack.enter_async_context(job) for job in opened])


class RemoteJudge:
    """Runs the program on workers that are apart from the one that is judged."""

    def __init__(
        self,
        judging: Judging,
        reach: Reach,
        chooser: Chooser,
        conflict: Callable[[NodeId, NodeId], bool],
    ) -> None:
        self._judging = judging
        self._reach = reach
        self._lines = Lines(reach)
        self._chooser = chooser
        self._conflict = conflict
        self._served: list[NodeId] = []
        self._slots = trio.Semaphore(_AT_ONCE)

    async def judge(self, worker: NodeId, task: Task, result: TaskResult) -> Opinion:
        """Say what the program makes of an answer."""
        tried: set[NodeId] = set()
        reason = "no other worker could run it"
        async with self._slots:
            for _ in range(_TRIES):
                judge = self._choose(worker, tried)
                if judge is None:
                    break
                tried.add(judge)
                try:
                    answer = await self._run(judge, self._judging.task(task, result))
                except (RelayError, ClientError) as error:
                    reason = str(error)
                    if judge in self._served:
                        self._served.remove(judge)
                    continue
                opinion = opinion_of(answer, here=False)
                if answer.outcome is not Outcome.HOST_FAILURE:
                    return opinion
                reason = opinion.reason
        return Opinion(Word.NOTHING, reason, here=False)

    async def _run(self, judge: NodeId, task: Task) -> TaskResult:
        async with self._lines.to(judge) as line:
            result = await run_task(await line.open_stream(), self._judging.program, task)
        if judge not in self._served:
            self._served.append(judge)
        return result

    def _choose(self, worker: NodeId, tried: set[NodeId]) -> NodeId | None:
        """Draw a worker that is apart from `worker`, one that has served before if there is."""

        def fits(judge: NodeId) -> bool:
            return judge not in tried and not self._conflict(worker, judge)

        listed = self._reach.candidates()
        names = {each.identity for each in listed}
        known = [judge for judge in self._served if judge in names and fits(judge)]
        if known:
            return known[0]
        draw = Weighted([each.identity for each in listed], (each.weight for each in listed))
        return draw.draw_where(fits, self._chooser)


def opinion_of(result: TaskResult | Result, *, here: bool = True) -> Opinion:
    """Return what the end of the program that judges means."""
    if result.succeeded:
        return Opinion(Word.RIGHT, here=here)
    said = clean(next(portions(result.stderr, size=_TOLD), b"").decode(errors="replace"))
    if result.outcome is Outcome.COMPLETED:
        what = f"it ended with exit code {result.exit_code}"
        return Opinion(Word.WRONG, f"{what} ({said})" if said else what, here)
    what = f"it ended as {result.outcome.name.lower()}"
    return Opinion(
        Word.NOTHING, f"{what} ({clean(result.reason)})" if result.reason else what, here
    )
