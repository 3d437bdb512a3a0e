"""Errors of the journal; each docstring is what the user should know or do."""

from __future__ import annotations

from fogbank.client.errors import ClientError


class JournalError(ClientError):
    """The journal of jobs cannot be used; the message says what to do."""


class JobUnknown(JournalError):
    """There is no such job; `fog ps --all` lists those that there are."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no job {name}: `fog ps --all` lists the jobs that there are")


class JobBusy(JournalError):
    """Another process drives the job; wait for it, or end that process."""

    def __init__(self, name: str, process: str) -> None:
        where = f" (process {process})" if process else ""
        super().__init__(f"another process{where} is at work on job {name}: `fog wait {name}`")
        self.process = process
