"""A user's job: a program or a script, and a worker that runs it."""

from __future__ import annotations

from collections.abc import Callable

from fogbank.client.errors import NoPath
from fogbank.client.job_shell import run_task
from fogbank.client.runtimes import choose_runtime
from fogbank.client.session_shell import OnState
from fogbank.nodes.user import User
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.keys import NodeId
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec
from fogbank.sandbox.task import Task

_WORKERS_MAX = 4
"""Workers that are asked one after another: a consensus may list a runtime that is gone."""


async def run_job(
    user: User,
    program: bytes | RuntimeSpec,
    task: Task,
    say: Callable[[str], None],
    on_state: OnState | None = None,
) -> tuple[TaskResult, tuple[str, ...]]:
    """Run a task of a module, or of a runtime, on a worker; `say` hears what happens.

    Returns its result, and the nicknames on the way to who ran it. Raises `NoPath`,
    `CircuitUnavailable`, `JobRefused` or `JobInterrupted`.
    """
    if isinstance(program, bytes):
        async with user.worker_stream() as (stream, path):
            say(_way(path))
            return await run_task(stream, program, task, on_state), path
    runtime = choose_runtime(user.topology, program.name).id
    tried: set[NodeId] = set()
    while True:
        try:
            async with user.worker_stream(runtime=runtime.digest, tried=tried) as (stream, path):
                say(_way(path))
                last = len(tried) >= _WORKERS_MAX
                try:
                    result = await run_task(stream, runtime, task, on_state)
                except JobRefused as refusal:
                    if last or refusal.cause is not Cause.MODULE:
                        raise
                else:
                    if last or result.outcome is not Outcome.UNKNOWN_RUNTIME:
                        return result, path
        except NoPath as error:
            if not tried:
                raise
            raise NoPath(
                f"none of the workers that the consensus names holds the runtime {program.name} "
                "any more: wait for the next consensus"
            ) from error
        say(f"{path[-1]} does not hold the runtime any more: trying another worker")


def _way(path: tuple[str, ...]) -> str:
    return f"circuit: {' → '.join(path)}"
