"""How a task ended (spec/07 §4)."""

import enum
from dataclasses import dataclass

from fogbank.sandbox.data import Data

REASON_CHARACTERS = 500
"""The longest reason that a result carries."""


class Outcome(enum.IntEnum):
    """The one way in which a task, or the attempt to run it, ended. The values are on the wire."""

    COMPLETED = 0
    """The program ended of itself, with the exit code that it chose."""
    OUT_OF_FUEL = 1
    """The program used up its fuel."""
    TRAP = 2
    """The program did what WebAssembly forbids, or aborted."""
    OUT_OF_MEMORY = 3
    """The program needs more memory than its limit, or failed while close to it."""
    TIMEOUT = 4
    """The task did not end within its wall-clock limit."""
    OUTPUT_LIMIT = 5
    """The program wrote more than its output limit; what fitted is in the result."""
    UNKNOWN_IMPORT = 6
    """The module imports something that a sandbox does not offer."""
    INVALID_MODULE = 7
    """The bytes are no WebAssembly command module."""
    COMPILE_LIMIT = 8
    """Compiling the module costs more than the worker grants."""
    CANCELLED = 9
    """The task was ended from outside, at its owner's wish."""
    HOST_FAILURE = 10
    """The worker failed; the task may succeed elsewhere."""
    TOO_SLOW = 11
    """The program used less fuel per second of CPU time than the worker's speed floor."""
    UNKNOWN_RUNTIME = 12
    """The worker does not hold the runtime that the job names."""


REFUSALS = frozenset(
    {
        Outcome.UNKNOWN_IMPORT,
        Outcome.INVALID_MODULE,
        Outcome.COMPILE_LIMIT,
        Outcome.HOST_FAILURE,
        Outcome.UNKNOWN_RUNTIME,
    }
)
"""Outcomes with which a module can be refused before any of it is run."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a task left behind.

    `exit_code` is the program's own, None if it did not exit. `fuel` is what it used; where it
    was killed, what it had used when it was last heard of; 0 where the worker failed. `reason` is a
    sentence for a person, empty when there is nothing to say. `seconds` is the real time that it
    ran, without waiting for fuel. `memory`: bytes of linear memory that it had at its end, which is
    the most that it had; 0 where it was killed.
    """

    outcome: Outcome
    exit_code: int | None = None
    fuel: int = 0
    stdout: Data = b""
    stderr: Data = b""
    reason: str = ""
    seconds: float = 0.0
    memory: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the program ran to its end and exited with 0."""
        return self.outcome is Outcome.COMPLETED and self.exit_code == 0


class ModuleRefused(Exception):
    """The module cannot be run here; `outcome` and `reason` say why. Nothing of it was run."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def clean(text: str) -> str:
    """Make `text` from an untrusted source fit for a reason: one line, printable, bounded."""
    words = " ".join(text[: 4 * REASON_CHARACTERS].split())
    return "".join(c if c.isprintable() else "?" for c in words)[:REASON_CHARACTERS]
