"""The judge of an array's answers, as its scheduler asks it (spec/12 §2). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fogbank.client.scheduling.tasks import Answer
from fogbank.client.scheduling.words import Judgement, Kind, Reply
from fogbank.client.verification.jury import Rule, judge
from fogbank.client.verification.words import Checked
from fogbank.relay.job.attestation import Proof
from fogbank.relay.keys import NodeId


class Panel:
    """Judges replies that are `Answer`s, each checked."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def judge(self, task: int, replies: Sequence[Reply]) -> Judgement:
        """Say what the replies to a task come to."""
        del task
        finding = judge(checked_of(replies), self._rule)
        if finding.kind is not Kind.ENOUGH:
            return Judgement(finding.kind, None, max(1, finding.more))
        answer = next(each.answer for each in replies if each.worker in finding.agreed)
        return Judgement(Kind.ENOUGH, answer, 1, finding.wrong)


@dataclass(frozen=True, slots=True)
class Conviction:
    """A worker that others' answers prove wrong: what it attested, and what they did."""

    worker: NodeId
    reason: str
    own: Proof
    others: tuple[Proof, ...]


def convictions(task: int, replies: Sequence[Reply], wrong: Collection[NodeId]) -> list[Conviction]:
    """Return the evidence against the workers that were `wrong` about a task."""
    checked = checked_of(replies)
    by_worker = dict(checked)
    # The judge names nobody wrong but for an answer that was agreed on: the commonest one.
    counts = Counter(answer.essence for _, answer in checked)
    right = max(counts, key=counts.__getitem__, default=())
    agreed = tuple(answer.proof for _, answer in checked if answer.essence == right)
    return [
        Conviction(
            worker,
            f"{len(agreed)} workers agreed on another answer to task {task}",
            by_worker[worker].proof,
            agreed,
        )
        for worker in wrong
        if worker in by_worker
    ]


def checked_of(replies: Sequence[Reply]) -> list[tuple[NodeId, Checked]]:
    """Return what workers answered, as far as it was checked."""
    return [
        (reply.worker, reply.answer.checked)
        for reply in replies
        if isinstance(reply.answer, Answer) and reply.answer.checked is not None
    ]
