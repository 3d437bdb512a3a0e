"""What those who look at answers say to each other (spec/12 §2, §3): small values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from fogbank.client.scheduling.words import Replicas, Verdict
from fogbank.relay.job.attestation import Leaf, Proof
from fogbank.relay.job.client_tasks import TaskResult
from fogbank.relay.keys import NodeId
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.task import Task

_BY_THE_PROGRAM: Final = frozenset({Outcome.COMPLETED, Outcome.OUT_OF_FUEL, Outcome.OUTPUT_LIMIT})
"""What the program and its input alone bring about; a shortage of the host cannot."""
_COMPARED: Final = (Leaf.OUTCOME, Leaf.STDOUT, Leaf.STDERR, Leaf.FUEL, Leaf.ENGINE)


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer that its worker attested. `judged`: a program has judged it, and found it right."""

    result: TaskResult
    proof: Proof
    judged: bool = False

    @property
    def convicts(self) -> bool:
        """Whether an honest worker can come to nothing else than this."""
        return self.result.outcome in _BY_THE_PROGRAM

    @property
    def essence(self) -> tuple[bytes, ...]:
        """What two answers have in common that are equal: of each leaf that counts, its value."""
        compared = _COMPARED if self.convicts else (Leaf.OUTCOME, Leaf.ENGINE)
        return tuple(self.proof.shown[leaf][1] for leaf in compared)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What became of an answer: ANSWERED if it counts as one; else `answer` says why not."""

    verdict: Verdict
    answer: TaskResult | Exception
    checked: Checked | None = None


class Inspector(Protocol):
    """Looks at each answer before it counts; it may take its time, and is cancelled at any."""

    async def inspect(
        self, worker: NodeId, engine: str, task: Task, result: TaskResult
    ) -> Inspection:
        """Say what an answer is worth that `worker` gave, whose offer named the class `engine`."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How an array's answers are verified: who answers each task, and what each answer is worth."""

    replicas: Replicas
    inspector: Inspector
