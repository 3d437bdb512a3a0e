"""Jobs from the client's side: tasks on one worker, over one stream or several (spec/08).

    result = await run_task(stream, module, Task(args=("program",)))

    async with open_job_session(stream, module) as job:
        results = [await job.run(task) for task in tasks]

Whatever happens arrives as a `TaskResult`, with the outcome that the worker tells, or as one error:
`JobRefused` if the worker will not, `JobInterrupted` if the session ended before the answer came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fogbank.client.alone_shell import EARLY_SIZE, run_alone
from fogbank.client.call_shell import OnState
from fogbank.client.session_shell import JobSession
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.requests import input_size
from fogbank.relay.messages_shell import Stream
from fogbank.sandbox.data import MemorySink, Sinks
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task


async def run_task(
    stream: Stream,
    module: bytes | RuntimeId,
    task: Task,
    on_state: OnState | None = None,
    patience: Patience | None = None,
    sinks: Sinks = MemorySink,
) -> TaskResult:
    """Run one task of `module` at the other end of `stream`, and close the stream.

    `module` may be a runtime that the worker holds. Raises `JobRefused` or `JobInterrupted`.
    Cancelling ends the task at the worker.
    """
    patience = patience or Patience()
    if isinstance(module, bytes) and len(module) + input_size(task) <= EARLY_SIZE:
        return await run_alone(stream, module, task, on_state, patience, sinks)
    async with open_job_session(stream, module, patience, sinks) as job:
        return await job.run(task, on_state)


@asynccontextmanager
async def open_job_session(
    stream: Stream,
    module: bytes | RuntimeId,
    patience: Patience | None = None,
    sinks: Sinks = MemorySink,
) -> AsyncIterator[JobSession]:
    """Hand `module`, or the name of a runtime, to the worker at the other end, for several tasks.

    Tasks may be run at once, up to what the worker offers; it runs them in order. When the block is
    left the stream is closed, and what still runs is ended. `sinks` makes what keeps outputs.
    Raises `JobRefused`, `JobInterrupted`.
    """
    job = JobSession(module, patience or Patience(), ClientTasks(sinks=sinks))
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.serve, stream)
            try:
                await job.opened()
                yield job
            except Exception as error:  # noqa: BLE001 -- raised below, out of the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        await stream.aclose()
    if failure is not None:
        raise failure
