"""Workers that attest what they are told to say: for tests of those who judge answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from fogbank.client.verification.words import Checked
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.job.attestation import Proof, Signer, Statement, check
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.statement import Ended, statement
from fogbank.relay.keys import Ed25519Key, NodeId
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task

NOW: Final = 1_800_000_000.0
PROGRAM: Final = hashlib.sha256(b"the program").digest()
ENGINE: Final = "class"
TASK: Final = Task(("program", "one"), stdin=b"input")


def right(stdout: bytes = b"42\n", fuel: int = 1000) -> TaskResult:
    """What an honest worker answers."""
    return TaskResult(Outcome.COMPLETED, 0, fuel, stdout=stdout)


def ended(outcome: Outcome) -> TaskResult:
    """A result without an exit code."""
    return TaskResult(outcome, fuel=7)


@dataclass(frozen=True, slots=True)
class Witness:
    """A worker with keys of its own."""

    name: str

    @property
    def identity(self) -> NodeId:
        """Its identity."""
        return self._key("identity").public

    def _key(self, use: str) -> Ed25519Key:
        return Ed25519Key(hashlib.sha256(f"{self.name} {use}".encode()).digest())

    @property
    def signer(self) -> Signer:
        """What it signs with."""
        signing, begin = self._key("signing"), NOW - 1000
        certificate = issue(
            self._key("identity"), Use.SIGNING, signing.public, begin, SIGNING_LIFETIME
        )
        return Signer(signing, certificate)

    def attest(self, said: Statement) -> bytes:
        """Sign what its job service tells it."""
        return self.signer.attest(said, hashlib.sha256(said.values[1]).digest(), NOW).encode()

    def answer(
        self, result: TaskResult, task: Task = TASK, engine: str = ENGINE, program: bytes = PROGRAM
    ) -> TaskResult:
        """Give a result with its attestation."""
        said = statement(program, task, engine, _ended(result))
        return replace(result, attestation=self.attest(said))

    def checked(self, result: TaskResult, engine: str = ENGINE, *, judged: bool = False) -> Checked:
        """Give an answer whose attestation holds."""
        said = statement(PROGRAM, TASK, engine, _ended(result))
        attestation = self.signer.attest(said, bytes(32), NOW)
        return Checked(result, check(attestation, said, self.identity, NOW), judged)

    def proof(self, result: TaskResult) -> Proof:
        """Give the proof of an answer."""
        return self.checked(result).proof


def _ended(result: TaskResult) -> Ended:
    return Ended(result.outcome, result.exit_code, result.fuel, result.stdout, result.stderr)
