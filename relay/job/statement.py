"""What a worker attests of a task: the leaves' values, and how they are read (spec/12 §1.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.attestation import HASH_SIZE, VALUE_SIZE, Leaf, Statement
from fogbank.sandbox.data import Data, sha256
from fogbank.sandbox.limits import CEILINGS, LimitError, Limits
from fogbank.sandbox.outcome import Outcome
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task

ENGINE_SIZE: Final = 128
_CODE_MAX: Final = 255
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a task ended, as its result tells it."""

    outcome: Outcome
    exit_code: int | None
    fuel: int
    stdout: Data
    stderr: Data


LeafValue: TypeAlias = "bytes | Limits | tuple[Outcome, int | None] | tuple[int, bytes] | int | str"
"""What a leaf says: a digest; limits; outcome and exit code; length and digest; fuel; a class."""


def statement(program: bytes, task: Task, engine: str, ended: Ended) -> Statement:
    """Return what is attested of a task; `program` is the digest of its module or runtime."""
    outcome: list[Value] = [ended.outcome, ended.exit_code]
    values: dict[Leaf, Value] = {
        Leaf.MODULE: program,
        Leaf.INPUT: input_digest(task),
        Leaf.LIMITS: _limits(task.limits),
        Leaf.OUTCOME: outcome,
        Leaf.STDOUT: _output(ended.stdout),
        Leaf.STDERR: _output(ended.stderr),
        Leaf.FUEL: ended.fuel,
        Leaf.ENGINE: engine,
    }
    return Statement(tuple(encode(values[leaf]) for leaf in Leaf))


def program_digest(program: bytes | RuntimeId) -> bytes:
    """Return the digest by which a module or runtime is named."""
    return program.digest if isinstance(program, RuntimeId) else sha256(program)


def input_digest(task: Task) -> bytes:
    """Return the digest of all that a task was given but its limits."""
    files: list[Value] = [[path, sha256(data)] for path, data in task.files]
    env: list[Value] = [list(pair) for pair in task.env]
    return sha256(encode([list(task.args), env, files, sha256(task.stdin), task.seed]))


def read_leaf(leaf: Leaf, value: bytes) -> LeafValue:
    """Return what a leaf says; raise `ProtocolError` if it is not of that leaf's form."""
    return _READERS[leaf](decode(value, VALUE_SIZE))


def _limits(limits: Limits) -> list[Value]:
    # Up to the next whole millisecond, but not for the last bits of a float (spec/08 §2).
    wall = max(1, math.ceil(round(limits.wall_seconds * 1000, 6)))
    return [limits.fuel, limits.memory, wall, limits.output]


def _output(data: Data) -> list[Value]:
    return [len(data), sha256(data)]


def _read_digest(value: object) -> LeafValue:
    if type(value) is bytes and len(value) == HASH_SIZE:
        return value
    raise _unfit()


def _read_limits(value: object) -> LeafValue:
    match value:
        case [int(fuel), int(memory), int(wall), int(output)] if type(wall) is int:
            limits = Limits(fuel, memory, wall / 1000, output)
            try:
                limits.check()
            except LimitError:
                raise _unfit() from None
            return limits
    raise _unfit()


def _read_outcome(value: object) -> LeafValue:
    match value:
        case [int(number), int() | None as code] if _OUTCOMES.get(number) is not None:
            outcome = _OUTCOMES[number]
            told = outcome is Outcome.COMPLETED
            fits = (code is not None) == told and 0 <= (code or 0) <= _CODE_MAX
            if fits and bool not in {type(number), type(code)}:
                return outcome, code
    raise _unfit()


def _read_output(value: object) -> LeafValue:
    match value:
        case [int(length), bytes(digest)] if (
            type(length) is int and 0 <= length <= CEILINGS.output and len(digest) == HASH_SIZE
        ):
            return length, digest
    raise _unfit()


def _read_fuel(value: object) -> LeafValue:
    if type(value) is int and 0 <= value <= CEILINGS.fuel:
        return value
    raise _unfit()


def _read_engine(value: object) -> LeafValue:
    if type(value) is str and len(value.encode()) <= ENGINE_SIZE and value.isprintable():
        return value
    raise _unfit()


def _unfit() -> ProtocolError:
    return ProtocolError("a leaf of an attestation does not say what its place is for")


_READERS: dict[Leaf, Callable[[object], LeafValue]] = {
    Leaf.MODULE: _read_digest,
    Leaf.INPUT: _read_digest,
    Leaf.LIMITS: _read_limits,
    Leaf.OUTCOME: _read_outcome,
    Leaf.STDOUT: _read_output,
    Leaf.STDERR: _read_output,
    Leaf.FUEL: _read_fuel,
    Leaf.ENGINE: _read_engine,
}
