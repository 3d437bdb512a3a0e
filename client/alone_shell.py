"""One small task at a worker, all of it sent at once: nothing is waited for but the answer.

What may be sent before the offer is in spec/08 §3. It saves a journey to the worker and back, and
with it a wake-up of each relay on the way; the end is the worker's to make, as it knows that no
task follows.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from fogbank.client.call_shell import OnState
from fogbank.client.talk_shell import FAULTS, End, end_by, end_without
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.errors import JobError, JobRefused
from fogbank.relay.job.frames import portions
from fogbank.relay.job.limits import Patience
from fogbank.relay.job.messages import TaskState
from fogbank.relay.messages_shell import Stream
from fogbank.relay.streams.shell import leave
from fogbank.sandbox.data import PORTION, Sinks
from fogbank.sandbox.task import Task

EARLY_SIZE: Final = 48 << 10
"""The bytes of module and input that are sent before the offer: as many as one least row has."""


async def run_alone(
    stream: Stream,
    module: bytes,
    task: Task,
    on_state: OnState | None,
    patience: Patience,
    sinks: Sinks,
) -> TaskResult:
    """Run one task at the other end of `stream`, and close the stream.

    Raises `JobRefused` or `JobInterrupted`. Cancelling ends the task at the worker.
    """
    session = ClientSession(patience, trio.current_time(), ClientTasks(sinks=sinks))
    number = 0
    answer: TaskResult | JobError | End
    try:
        number = session.send_all(module, task)
        answer = await _answer(stream, session, on_state)
    except JobRefused as refused:
        answer = refused
    except FAULTS as error:
        answer = end_by(error)
    except BaseException:
        await stream.aclose()
        raise
    if isinstance(answer, TaskResult):
        await leave(stream)
        return answer
    await stream.aclose()
    if isinstance(answer, End):
        raise session.interruption(number, answer.why) from answer.fault
    raise answer


async def _answer(
    stream: Stream, session: ClientSession, on_state: OnState | None
) -> TaskResult | JobError | End:
    """Return what the one task comes to, or why nothing is heard of it."""
    for portion in portions(session.data_to_send(), PORTION):
        await stream.send_all(portion)
    session.sent_all()
    session.sent_some(trio.current_time())
    with trio.CancelScope() as listening:
        while True:
            due = session.deadline()
            listening.deadline = math.inf if due is None else due
            data = await stream.receive_some(PORTION)
            if not data:
                return end_without(data, session)
            for event in session.receive(data, trio.current_time()):
                if isinstance(event, TaskDone):
                    return event.answer
                if isinstance(event, TaskState) and on_state is not None:
                    on_state(event)
    return end_without(None, session)
