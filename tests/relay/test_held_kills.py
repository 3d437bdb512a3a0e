"""A real worker process, killed between what it accepts and what it delivers (spec/08 §3.2)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.messages import Ack, Resumed
from fogbank.relay.job.kinds import State
from fogbank.relay.job.messages import Accepted, Cancel, Refused, ResultHead, TaskState
from tests.relay.test_held_service import HELLO, RESUME, Client, folders, hold
from tests.relay.test_job_service import module, task

TASKS = 60
LARGE = 40_000
PATIENCE = 60.0


ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    """A worker's process, and the port that it listens at; it is killed at the end."""
    command = [sys.executable, "-m", "tests.relay.held_worker", str(folder)]
    start = partial(subprocess.Popen, command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    process: subprocess.Popen[str] = await trio.to_thread.run_sync(start)
    with process:
        try:
            assert process.stdout is not None
            yield process, int(await trio.to_thread.run_sync(process.stdout.readline))
        finally:
            process.kill()


async def connect(port: int, *words: bytes) -> Client:
    client = Client(await trio.open_tcp_stream("127.0.0.1", port))
    await client.say(HELLO, *words)
    return client


def stdin(number: int) -> bytes:
    """A task's input: some are small enough for the journal, some are not."""
    return bytes([number]) * (number if number % 3 else LARGE)


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_accepted_is_there_after_any_kill(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    accepted: set[int] = set()
    delivered: dict[int, bytes] = {}
    first = [hold(durable=True), module()]
    first += [task(number, "echo", stdin=stdin(number)) for number in range(1, TASKS + 1)]
    words = first
    while words != [RESUME] or accepted != set(delivered):
        async with worker(tmp_path) as (process, port):
            client = await connect(port, *words)
            left = chance.randrange(1, 2 * TASKS)
            with trio.fail_after(PATIENCE):
                while left and (
                    len(delivered) < len(accepted) or not accepted or words != [RESUME]
                ):
                    message = await client.hear()
                    assert message is not None, "the worker ended by itself"
                    left, words = left - 1, [RESUME]
                    match message:
                        case TaskState(task=int(number), state=State.QUEUED) if number:
                            accepted.add(number)
                        case Resumed(tasks=tasks):
                            there = {number for number, _ in tasks}
                            assert accepted - set(delivered) <= there, "accepted, and lost"
                            accepted |= there - set(delivered)
                        case Refused(cause=Cause.UNKNOWN):
                            # It was killed before it had promised anything.
                            assert not accepted
                            words, left = first, 0
                            continue
                        case ResultHead(task=number):
                            # It comes again if it was killed before it heard that it is safe.
                            output = client.opened(number)
                            assert delivered.setdefault(number, output) == output
                            await client.say(frame(Ack(number)))
                process.kill()
            await trio.aclose_forcefully(client.stream)
    assert accepted == set(delivered)
    for number in accepted:
        assert delivered[number] == stdin(number) + b"said"


async def test_an_end_for_good_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    async with worker(tmp_path) as (_, port):
        client = await connect(port, hold(durable=True), module(), task(1, "sleep", "100"))
        with trio.fail_after(PATIENCE):
            await client.hear_until(Accepted)
            await client.hear_until(TaskState, task=1)
        await trio.aclose_forcefully(client.stream)
    async with worker(tmp_path) as (_, port):
        client = await connect(port, RESUME)
        with trio.fail_after(PATIENCE):
            assert (await client.hear_until(Resumed)).tasks[0][0] == 1
            await client.say(frame(Cancel(0)))
            while await client.hear() is not None:
                pass
            await trio.aclose_forcefully(client.stream)
            while folders(tmp_path):  # noqa: ASYNC110 -- it waits for another process
                await trio.sleep(0.01)
