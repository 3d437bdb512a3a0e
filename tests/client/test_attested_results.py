"""Results that carry their worker's signature, over real sessions (spec/12 §1)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.job_shell import open_job_session, run_task
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job import attesting
from fogbank.relay.job.attestation import Attestation, Leaf, Proof, Statement, check
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.service_shell import JobService
from fogbank.relay.job.statement import Ended, read_leaf, statement
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task
from tests.client.attesting import ENGINE, NOW, Witness
from tests.relay.job_fakes import CEILINGS, MODULE, RUNTIME, FakeJob, FakeRunner, serve, task

WORKER = Witness("worker")
HELD = (RUNTIME.digest,)


@asynccontextmanager
async def connected() -> AsyncIterator[Any]:
    """A stream to a worker that attests."""
    service = JobService(FakeRunner(), ENGINE, CEILINGS, None, lambda: HELD, attest=WORKER.attest)
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, far)
        yield near
        with trio.CancelScope(shield=True):
            await near.aclose()


def proof_of(result: TaskResult, task: Task, program: bytes, engine: str = ENGINE) -> Proof:
    assert result.attestation is not None
    outputs = result.stdout, result.stderr
    ended = Ended(result.outcome, result.exit_code, result.fuel, *outputs)
    said = statement(program, task, engine, ended)
    return check(Attestation.decode(result.attestation), said, WORKER.identity, NOW)


@pytest.mark.parametrize("program", [MODULE, RUNTIME], ids=["module", "runtime"])
async def test_a_result_s_attestation_holds_for_what_its_client_knows(
    program: bytes | RuntimeId, autojump_clock: MockClock
) -> None:
    digest = hashlib.sha256(MODULE).digest() if program == MODULE else RUNTIME.digest
    asked = task("echo", "x", stdin=b"input")
    async with connected() as stream:
        result = await run_task(stream, program, asked)
    proof = proof_of(result, asked, digest)
    assert read_leaf(Leaf.OUTCOME, proof.shown[Leaf.OUTCOME][1]) == (Outcome.COMPLETED, 0)
    for other in (task("echo", "y", stdin=b"input"), task("echo", "x", stdin=b"inputs")):
        with pytest.raises(ProtocolError):
            proof_of(result, other, digest)
    with pytest.raises(ProtocolError):
        proof_of(result, asked, bytes(32))
    with pytest.raises(ProtocolError):
        proof_of(result, asked, digest, "another class")


@pytest.mark.parametrize("outcome", [Outcome.TRAP, Outcome.OUT_OF_FUEL, Outcome.TOO_SLOW])
async def test_an_end_without_an_exit_code_is_attested_too(
    outcome: Outcome, autojump_clock: MockClock
) -> None:
    asked = task("end", outcome.name)
    async with connected() as stream:
        result = await run_task(stream, MODULE, asked)
    assert proof_of(result, asked, hashlib.sha256(MODULE).digest())


async def test_what_came_to_nothing_is_not_attested(autojump_clock: MockClock) -> None:
    async with connected() as stream, open_job_session(stream, MODULE) as job:
        failed = await job.run(task("end", "HOST_FAILURE"))
        assert failed.outcome is Outcome.HOST_FAILURE
        assert failed.attestation is None
        assert (await job.run(task("exit", "3"))).attestation is not None


class Prompt:
    """A runner that is ready at once."""

    @asynccontextmanager
    async def open_job(self, _program: Any) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        yield FakeJob(FakeRunner())


async def test_large_ends_are_hashed_beside_and_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is not done between two messages: the worker goes on with its links."""
    hashed_in: list[threading.Thread] = []

    def state(*given: Any) -> Statement:
        hashed_in.append(threading.current_thread())
        return statement(*given)

    monkeypatch.setattr(attesting, "statement", state)
    limits = replace(CEILINGS, output=8 << 20)
    service = JobService(Prompt(), ENGINE, limits, attest=WORKER.attest)
    for size, beside in ((1000, False), (3 << 20, True)):
        asked = Task(("echo",), stdin=bytes(size), limits=limits)
        near, far = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, service, far)
            result = await run_task(near, MODULE, asked)
            nursery.cancel_scope.cancel()
        assert len(result.stdout) == size
        assert proof_of(result, asked, hashlib.sha256(MODULE).digest())
        assert (hashed_in.pop() is not threading.current_thread()) is beside
