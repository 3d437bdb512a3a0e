"""Looks at answers before they count: are they attested, does a program find them right (spec/12).

inspector = Inspecting(program, clock, engine, judge, convict)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, TypeVar

import trio

from fogbank.client.errors import AnswerRefused
from fogbank.client.scheduling.words import Verdict
from fogbank.client.verification.words import Checked, Inspection
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attestation import Attestation, Leaf, Proof, check
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.job.statement import Ended, statement
from fogbank.relay.keys import NodeId
from fogbank.sandbox.task import Task

_T = TypeVar("_T")
_LARGE: Final = 1 << 20
"""Bytes to be hashed, beyond which that is done beside."""
_REMEMBERED: Final = 4096
"""Inputs whose refused and accepted answers are kept in mind."""

Convict = Callable[[NodeId, str, Proof, Sequence[Proof]], None]
"""Hears of a worker that is proven wrong: why, what it attested, and what others did."""


class Word(Enum):
    """What a program that judges says of an answer."""

    RIGHT = auto()
    WRONG = auto()
    NOTHING = auto()
    """It came to no end of its own, or could not be run."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a program says, and why; `here` if the user's own sandbox ran it."""

    word: Word
    reason: str = ""
    here: bool = True


class Judge(Protocol):
    """Runs the program that judges."""

    async def judge(self, worker: NodeId, task: Task, result: TaskResult) -> Opinion:
        """Say what it makes of an answer by `worker`."""


class Inspecting:
    """Looks at the answers of one array's program, by its digest `program`.

    `engine`: the one class in which answers are compared, or empty. `clock`: the time of day.
    """

    def __init__(
        self,
        program: bytes,
        clock: Callable[[], float],
        engine: str = "",
        judge: Judge | None = None,
        convict: Convict | None = None,
    ) -> None:
        self._program = program
        self._clock = clock
        self._engine = engine
        self._judge = judge
        self._convict = convict
        self._refused: dict[bytes, dict[NodeId, tuple[str, Proof]]] = {}
        self._accepted: dict[bytes, Proof] = {}

    async def inspect(
        self, worker: NodeId, engine: str, task: Task, result: TaskResult
    ) -> Inspection:
        """Say what an answer is worth that `worker` gave, whose offer named the class `engine`."""
        if self._engine and engine != self._engine:
            reason = "A worker runs another engine than the consensus says: it is not compared."
            return Inspection(Verdict.UNFIT, AnswerRefused(reason))
        try:
            proof = await self._proof(worker, engine, task, result)
        except ProtocolError as error:
            reason = f"A worker's answer does not count, since {error}."
            return Inspection(Verdict.FAILED, AnswerRefused(reason))
        if self._judge is None or not result.succeeded:
            return Inspection(Verdict.ANSWERED, result, Checked(result, proof))
        opinion = await self._judge.judge(worker, task, result)
        if opinion.word is Word.RIGHT:
            self._accept(proof)
            return Inspection(Verdict.ANSWERED, result, Checked(result, proof, judged=True))
        refusal = AnswerRefused(f"The program that judges refused an answer: {opinion.reason}.")
        if opinion.word is Word.NOTHING or not opinion.here:
            return Inspection(Verdict.FAILED, refusal)
        self._refuse(worker, proof, opinion.reason)
        return Inspection(Verdict.WRONG, refusal)

    async def _proof(self, worker: NodeId, engine: str, task: Task, result: TaskResult) -> Proof:
        if result.attestation is None:
            raise ProtocolError("its worker did not attest it")
        attestation = Attestation.decode(result.attestation)
        outputs = result.stdout, result.stderr
        ended = Ended(result.outcome, result.exit_code, result.fuel, *outputs)
        given = self._program, task, engine, ended
        size = len(task.stdin) + sum(len(data) for _, data in task.files)
        if size + len(result.stdout) + len(result.stderr) > _LARGE:
            said = await trio.to_thread.run_sync(statement, *given)
        else:
            said = statement(*given)
        return check(attestation, said, worker, self._clock())

    # A program that refuses one answer and accepts another to the same input knows the difference.

    def _accept(self, proof: Proof) -> None:
        given = _input_of(proof)
        _remember(self._accepted, given, proof)
        for worker, (reason, wrong) in self._refused.pop(given, {}).items():
            self._tell(worker, reason, wrong, proof)

    def _refuse(self, worker: NodeId, proof: Proof, reason: str) -> None:
        given = _input_of(proof)
        right = self._accepted.get(given)
        if right is not None:
            self._tell(worker, reason, proof, right)
            return
        if given not in self._refused:
            _remember(self._refused, given, {})
        self._refused[given][worker] = reason, proof

    def _tell(self, worker: NodeId, reason: str, wrong: Proof, right: Proof) -> None:
        if self._convict is not None:
            self._convict(worker, f"the program that judges refused it: {reason}", wrong, [right])


def _remember(known: dict[bytes, _T], given: bytes, value: _T) -> None:
    if len(known) >= _REMEMBERED:
        del known[next(iter(known))]
    known[given] = value


def _input_of(proof: Proof) -> bytes:
    return proof.shown[Leaf.INPUT][1] + proof.shown[Leaf.ENGINE][1]
