"""Whether a worker told the truth, by whoever ran the same task again (spec/12 §4). Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from fogbank.relay.job.attestation import Leaf, Proof
from fogbank.relay.job.messages import wire_exit_code
from fogbank.relay.job.statement import Ended, read_leaf, statement
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task

_SHORTAGES: Final = frozenset({Outcome.TRAP, Outcome.OUT_OF_MEMORY, Outcome.TIMEOUT})
_COMPARED: Final[tuple[Leaf, ...]] = (Leaf.OUTCOME, Leaf.STDOUT, Leaf.STDERR, Leaf.FUEL)
_GIVEN: Final = ((Leaf.MODULE, "program"), (Leaf.INPUT, "input, arguments or files"))


class NotTold(ValueError):
    """It cannot be told whether the worker was right; the message says why."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """A proof that shows everything, and what is said to be its task.

    `program`: the digest of its module or runtime. `engine`: the class in which it is run again.
    """

    proof: Proof
    program: bytes
    engine: str
    said: Task

    def task(self) -> Task:
        """Return the task with the limits that it had; raise `NotTold` if it was another one."""
        hidden = [leaf.name.lower() for leaf in Leaf if leaf not in self.proof.shown]
        if hidden:
            raise NotTold(f"this attestation does not show its {hidden[0]}: it cannot be rerun")
        engine, limits = self._shown(Leaf.ENGINE), self._shown(Leaf.LIMITS)
        if engine != self.engine or not isinstance(limits, Limits):
            raise NotTold(
                f"this machine runs the engine class {self.engine}, the worker {engine}: what they "
                "come to may differ, so nothing is told"
            )
        task = replace(self.said, limits=limits)
        known = self._values(task, Result(Outcome.CANCELLED))
        for leaf, what in _GIVEN:
            if known[leaf] != self._value(leaf):
                raise NotTold(f"the worker was given another {what}: this is another task")
        return task

    def faults(self, task: Task, result: Result) -> Collection[Leaf]:
        """Return in which parts of its answer the worker was wrong, by what came of it here.

        Raises `NotTold` if a shortage, here or there, may be behind the difference.
        """
        told = self._shown(Leaf.OUTCOME)
        if result.outcome in {Outcome.HOST_FAILURE, Outcome.CANCELLED, Outcome.TOO_SLOW}:
            raise NotTold(f"this machine could not run it ({result.reason}): nothing is told")
        compared = _COMPARED
        if isinstance(told, tuple) and _SHORTAGES & {told[0], result.outcome}:
            if told[0] is not result.outcome:
                raise NotTold(
                    f"here it ended as {result.outcome.name.lower()}: that, or what was attested,"
                    " may come of a shortage, so nothing is told"
                )
            compared = (Leaf.OUTCOME,)
        came = self._values(task, result)
        return tuple(leaf for leaf in compared if came[leaf] != self._value(leaf))

    def _values(self, task: Task, result: Result) -> tuple[bytes, ...]:
        """Return what a worker would attest that came to this."""
        code = None if result.exit_code is None else wire_exit_code(result.exit_code)
        ended = Ended(result.outcome, code, result.fuel, result.stdout, result.stderr)
        return statement(self.program, task, self.engine, ended).values

    def _value(self, leaf: Leaf) -> bytes:
        return self.proof.shown[leaf][1]

    def _shown(self, leaf: Leaf) -> object:
        return read_leaf(leaf, self._value(leaf))
