"""When several workers' answers make a task's answer, and who was wrong (spec/12 §2, §4). Pure.

    finding = judge(answers, Rule(replicas=3, quorum=2, most=8))

Asked anew with each answer that comes; what it says depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fogbank.client.scheduling.words import Kind
from fogbank.client.verification.words import Checked
from fogbank.relay.keys import NodeId

REPLICAS_MAX = 16


@dataclass(frozen=True, slots=True)
class Rule:
    """How many workers run a task at first, how many must agree, how many are asked at most.

    `judges`: a program judges answers. What it cannot judge, because the task did not end well, two
    workers must agree on at least.
    """

    replicas: int = 1
    quorum: int = 1
    most: int = 1
    judges: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= REPLICAS_MAX:
            raise ValueError(f"a task is run by 1 to {REPLICAS_MAX} workers, not {self.replicas}")
        if not self.replicas < 2 * self.quorum <= 2 * self.replicas:
            least = self.replicas // 2 + 1
            raise ValueError(
                f"with {self.replicas} replicas, {least} to {self.replicas} must agree, not "
                f"{self.quorum}: with fewer, two answers could both win"
            )
        if self.most < self.replicas:
            raise ValueError("no fewer workers are asked at most than at first")

    def needed(self, answer: Checked) -> int:
        """Return how many must give this answer."""
        return max(self.quorum, 2) if self.judges and not answer.judged else self.quorum


@dataclass(frozen=True, slots=True)
class Finding:
    """What the answers come to.

    ENOUGH: `agreed` gave the answer, the first's is taken; `wrong` are proven to have been wrong.
    MORE: `more` further answers are missing at least.
    """

    kind: Kind
    more: int = 0
    agreed: tuple[NodeId, ...] = ()
    wrong: tuple[NodeId, ...] = ()


def judge(answers: Sequence[tuple[NodeId, Checked]], rule: Rule) -> Finding:
    """Say what the answers of different workers come to, which are in the order of their coming."""
    groups: dict[tuple[bytes, ...], list[tuple[NodeId, Checked]]] = {}
    for worker, answer in answers:
        groups.setdefault(answer.essence, []).append((worker, answer))
    missing = rule.quorum
    for group in groups.values():
        lacks = rule.needed(group[0][1]) - len(group)
        if lacks <= 0:
            agreed = tuple(worker for worker, _ in group)
            # What one worker said, if a program finds it ever so right, convicts no other.
            wrong = _wrong(answers, group[0][1]) if len(group) > 1 else ()
            return Finding(Kind.ENOUGH, 0, agreed, wrong)
        missing = min(missing, lacks)
    if len(answers) + missing > rule.most:
        return Finding(Kind.DISPUTED)
    return Finding(Kind.MORE, missing)


def _wrong(answers: Sequence[tuple[NodeId, Checked]], right: Checked) -> tuple[NodeId, ...]:
    """Return who gave another answer than the right one, and cannot have come to it honestly."""
    if not right.convicts:
        return ()
    return tuple(
        worker
        for worker, answer in answers
        if answer.convicts
        and answer.essence != right.essence
        and answer.essence[-1] == right.essence[-1]
    )
