"""Errors of a job's session; each docstring is what the user should know or do."""

from __future__ import annotations

from enum import IntEnum

from fogbank.relay.errors import RelayError


class Cause(IntEnum):
    """Why a worker refused a session or a task (spec/08 §2)."""

    VERSION = 1
    BUSY = 2
    MODULE = 3
    LIMITS = 4
    TASK = 5
    SILENT = 6
    SHUTDOWN = 7
    UNKNOWN = 8


class Progress(IntEnum):
    """How far a task had got, as far as the worker's word goes (spec/08 §6)."""

    NOT_SENT = 0
    SENT = 1
    QUEUED = 2
    RUNNING = 3
    ARRIVING = 4


class JobError(RelayError):
    """A job could not be run; the message says why and what to do."""


class JobRefused(JobError):
    """A worker refused a job; mend what the message names, or try another worker.

    `cause` says of what kind the refusal is; `here` that no worker was asked: none could take it.
    """

    def __init__(self, cause: Cause, reason: str, *, here: bool = False) -> None:
        hint = _HINTS.get(cause, "")
        words = reason or "it gave no reason"
        what = "The job cannot be sent to any worker" if here else "The worker refused the job"
        super().__init__(f"{what}: {words}.{hint}")
        self.cause = cause
        self.reason = reason
        self.here = here


class JobInterrupted(JobError):
    """A session ended before the answer was there; run the job again.

    `progress` says how far the task had got: whether the worker had taken it, and had begun.
    """

    def __init__(self, progress: Progress, why: str) -> None:
        super().__init__(f"The job was interrupted {_WHEN[progress]}: {why}. {_THEN[progress]}")
        self.progress = progress
        self.why = why

    @property
    def accepted(self) -> bool:
        """Whether the worker is known to have taken the task."""
        return self.progress >= Progress.QUEUED

    @property
    def running(self) -> bool:
        """Whether the worker is known to have begun it."""
        return self.progress >= Progress.RUNNING


class StreamReplaced(JobError):
    """A client came back to its session over another stream; this one was ended."""


class PeerSilent(JobError):
    """A client sent too slowly, or did not take what was sent; its session was ended."""


_HINTS = {
    Cause.VERSION: " Upgrade fogbank.",
    Cause.MODULE: " Try another worker.",
    Cause.BUSY: " Try again later, or another worker.",
    Cause.SHUTDOWN: " Try another worker.",
    Cause.UNKNOWN: " Run the job again.",
    Cause.LIMITS: " Lower the limits, or take a worker that offers more.",
}
_WHEN = {
    Progress.NOT_SENT: "before the task was sent",
    Progress.SENT: "after the task was sent and before the worker took it",
    Progress.QUEUED: "while the task waited at the worker",
    Progress.RUNNING: "while the task was running",
    Progress.ARRIVING: "while the result was arriving",
}
_THEN = {
    Progress.NOT_SENT: "Nothing of it has run: run it again.",
    Progress.SENT: "Whether it has run is not known, and no result came: run it again.",
    Progress.QUEUED: "As far as is known nothing of it has run: run it again.",
    Progress.RUNNING: "A task whose client is gone is ended, and no result came: run it again.",
    Progress.ARRIVING: "The task had ended, but its result is not whole: run it again.",
}
