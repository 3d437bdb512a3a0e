"""What a worker signs of its tasks' ends, and when it is made (spec/12 §1). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from fogbank.relay.job.attestation import Statement
from fogbank.relay.job.messages import ResultHead
from fogbank.relay.job.statement import Ended, statement
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task

Attest: TypeAlias = Callable[[Statement], bytes]
"""Signs what a task came to, and returns the attestation as it is sent."""

LARGE: Final = 1 << 20
"""Bytes that a task was given and wrote, beyond which they are not hashed between two messages."""
_UNATTESTED: Final = frozenset({Outcome.CANCELLED, Outcome.HOST_FAILURE})


class Attesting:
    """Attests the ends of one session's tasks, if `attest` is there; `engine` is its offer's."""

    def __init__(self, attest: Attest | None, engine: str) -> None:
        self._attest = attest
        self._engine = engine

    @property
    def is_active(self) -> bool:
        """Whether anything is signed."""
        return self._attest is not None

    def statement_of(
        self, program: bytes, task: Task | None, head: ResultHead, result: Result
    ) -> Statement | None:
        """Return what is to be signed of a task's end, if anything: hashes all that belongs to it.

        `program`: the digest of its module or runtime. Raises `OSError` if something of it is in a
        file that cannot be read.
        """
        if self._attest is None or task is None or head.outcome in _UNATTESTED:
            return None
        outputs = result.stdout, result.stderr
        ended = Ended(head.outcome, head.exit_code, head.fuel, *outputs)
        return statement(program, task, self._engine, ended)

    def attested(self, head: ResultHead, said: Statement | None) -> ResultHead:
        """Return a result with this worker's signature, unless there is nothing to sign."""
        if self._attest is None or said is None:
            return head
        return replace(head, attestation=self._attest(said))


def is_large(task: Task | None, result: Result) -> bool:
    """Tell whether hashing a task's end takes so long that others would notice."""
    given = 0 if task is None else len(task.stdin) + sum(len(data) for _, data in task.files)
    return given + len(result.stdout) + len(result.stderr) > LARGE
