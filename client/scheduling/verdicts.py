"""What a worker's answer means for its task and for the worker (spec/11 §3). Pure."""

from __future__ import annotations

from fogbank.client.scheduling.words import Verdict
from fogbank.relay.job.client_session import TaskResult
from fogbank.relay.job.errors import Cause, JobInterrupted, JobRefused, Progress
from fogbank.sandbox.outcome import Outcome

_OUTCOMES = {
    Outcome.HOST_FAILURE: Verdict.FAILED,
    Outcome.CANCELLED: Verdict.FAILED,
    # Another worker may have a lower floor.
    Outcome.TOO_SLOW: Verdict.FAILED,
    Outcome.UNKNOWN_IMPORT: Verdict.REFUSED,
    Outcome.INVALID_MODULE: Verdict.REFUSED,
    Outcome.COMPILE_LIMIT: Verdict.REFUSED,
    Outcome.UNKNOWN_RUNTIME: Verdict.UNFIT,
}
_CAUSES = {
    Cause.VERSION: Verdict.UNFIT,
    Cause.BUSY: Verdict.NOT_TAKEN,
    Cause.MODULE: Verdict.UNFIT,
    Cause.LIMITS: Verdict.UNFIT,
    Cause.TASK: Verdict.FAILED,
    Cause.SILENT: Verdict.NOT_TAKEN,
    Cause.SHUTDOWN: Verdict.UNFIT,
    Cause.UNKNOWN: Verdict.NOT_TAKEN,
}


def judge(answer: TaskResult | Exception) -> Verdict:
    """Return what an answer, or the error in its place, means."""
    match answer:
        case TaskResult(outcome=outcome):
            return _OUTCOMES.get(outcome, Verdict.ANSWERED)
        case JobRefused(here=True):
            return Verdict.HOPELESS
        case JobRefused(cause=cause):
            return _CAUSES[cause]
        case JobInterrupted(progress=progress) if progress >= Progress.RUNNING:
            return Verdict.FAILED
    return Verdict.NOT_TAKEN
