"""A user's job: a program or a script, and a worker that runs it."""

from __future__ import annotations

from collections.abc import Callable

from fogbank.client.job_shell import OnState, run_task
from fogbank.client.runtimes import choose_runtime
from fogbank.nodes.user import User
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import Cause, JobRefused
from fogbank.relay.keys import NodeId
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeId, RuntimeSpec
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
    module: bytes | RuntimeId = b""
    runtime: bytes | None = None
    if isinstance(program, RuntimeSpec):
        runtime = choose_runtime(user.topology, program.name).digest
        module = RuntimeId(runtime)
    else:
        module = program
    tried: set[NodeId] = set()
    while True:
        async with user.worker_stream(runtime=runtime, tried=tried) as (stream, path):
            say(f"circuit: {' → '.join(path)}")
            last = runtime is None or len(tried) >= _WORKERS_MAX
            try:
                result = await run_task(stream, module, task, on_state)
            except JobRefused as refusal:
                if last or refusal.cause is not Cause.MODULE:
                    raise
            else:
                if last or result.outcome is not Outcome.UNKNOWN_RUNTIME:
                    return result, path
        say(f"{path[-1]} does not hold the runtime any more: trying another worker")
