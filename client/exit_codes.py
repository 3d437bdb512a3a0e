"""What the command line ends with, and what it says about it (spec/08 §7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fogbank.client.errors import AnswerRefused, ClientError, NoQuorum
from fogbank.client.scheduling.tasks import TaskEnd
from fogbank.client.scheduling.words import Ending as TaskEnding
from fogbank.relay.errors import RelayError
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import JobRefused
from fogbank.sandbox.outcome import ModuleRefused, Outcome


class ExitCode(IntEnum):
    """Exit codes that are not the program's own."""

    TOO_SLOW = 119
    OUT_OF_FUEL = 120
    OUT_OF_MEMORY = 121
    TRAP = 122
    OUTPUT_LIMIT = 123
    TIMEOUT = 124
    FAILED = 125
    REFUSED = 126
    NO_QUORUM = 127
    CANCELLED = 130


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit code, and the line for stderr: empty for a program that ended of itself."""

    code: int
    sentence: str = ""


def ending_of(outcome: Outcome, exit_code: int | None = None, reason: str = "") -> Ending:
    """Return what a task's outcome is at the command line; `reason` is the worker's."""
    if outcome is Outcome.COMPLETED and exit_code is not None:
        return Ending(exit_code)
    code, what, advice = _OUTCOMES[outcome]
    detail = f" ({reason.rstrip('. ')})" if reason else ""
    return Ending(code, f"{what}{detail}.{advice}")


def ending_of_error(error: RelayError | ClientError | ModuleRefused) -> Ending:
    """Return what an error is at the command line."""
    if isinstance(error, ModuleRefused):
        return ending_of(error.outcome, reason=error.reason)
    code = ExitCode.REFUSED if isinstance(error, JobRefused) else ExitCode.FAILED
    if isinstance(error, NoQuorum | AnswerRefused):
        code = ExitCode.NO_QUORUM
    return Ending(code, str(error))


def ending_of_task(end: TaskEnd) -> Ending:
    """Return what the end of an array's task is at the command line (spec/11 §2)."""
    match end:
        case TaskEnd(ending=TaskEnding.EXPIRED):
            return Ending(ExitCode.TIMEOUT, "The array's time was up before the task had ended.")
        case TaskEnd(ending=TaskEnding.CANCELLED):
            return Ending(ExitCode.CANCELLED, "The task was cancelled.")
        case TaskEnd(result=TaskResult() as result):
            return ending_of(result.outcome, result.exit_code, result.reason)
        case TaskEnd(error=(RelayError() | ClientError()) as error):
            return ending_of_error(error)
    return Ending(ExitCode.FAILED, "No worker could be reached: try again in a while.")


_OUTCOMES: dict[Outcome, tuple[ExitCode, str, str]] = {
    Outcome.COMPLETED: (ExitCode.FAILED, "The worker told no exit code", " Run the job again."),
    Outcome.OUT_OF_FUEL: (
        ExitCode.OUT_OF_FUEL,
        "The program used up its fuel",
        " Give it more with --fuel.",
    ),
    Outcome.TRAP: (
        ExitCode.TRAP,
        "The program crashed",
        " The fault is in the program or its input.",
    ),
    Outcome.OUT_OF_MEMORY: (
        ExitCode.OUT_OF_MEMORY,
        "The program ran out of memory",
        " Give it more with --memory.",
    ),
    Outcome.TIMEOUT: (
        ExitCode.TIMEOUT,
        "The program did not end in time",
        " Give it longer with --timeout.",
    ),
    Outcome.OUTPUT_LIMIT: (
        ExitCode.OUTPUT_LIMIT,
        "The program wrote more than it may",
        " What fitted was delivered: raise --output-limit, or have it write less.",
    ),
    Outcome.UNKNOWN_IMPORT: (
        ExitCode.REFUSED,
        "The program needs what no worker offers",
        " Build it for WASI preview 1.",
    ),
    Outcome.INVALID_MODULE: (
        ExitCode.REFUSED,
        "This is no program that a worker can run",
        " Build it as a WASI preview 1 command.",
    ),
    Outcome.COMPILE_LIMIT: (
        ExitCode.REFUSED,
        "Compiling the program costs more than the worker grants",
        " Make it smaller, or try another worker.",
    ),
    Outcome.CANCELLED: (ExitCode.CANCELLED, "The job was cancelled", ""),
    Outcome.HOST_FAILURE: (
        ExitCode.FAILED,
        "The worker failed",
        " The fault is not the program's: run the job again.",
    ),
    Outcome.TOO_SLOW: (
        ExitCode.TOO_SLOW,
        "The program ran slower than the worker's speed floor",
        " It waits for memory too much: mend that, or take a worker with a lower floor.",
    ),
    Outcome.UNKNOWN_RUNTIME: (
        ExitCode.REFUSED,
        "The worker does not hold the runtime that the job needs",
        " Run the job again: another worker may hold it.",
    ),
}
