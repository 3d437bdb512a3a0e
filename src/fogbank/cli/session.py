"""A command's work at jobs: signals detach, errors are told, what goes on is named."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from fogbank.cli.attachment import Attachment
from fogbank.cli.output import emit, note
from fogbank.cli.reports import job_report
from fogbank.client.errors import ClientError
from fogbank.nodes.home import Home
from fogbank.nodes.user import User, open_user
from fogbank.relay.errors import RelayError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALLED = 128


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep signals that detach until a session hears them: a job that is made is told of."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Session:
    """The work at one job or several, until all are over, or a signal detaches."""

    def __init__(self, home: Home, attachments: Sequence[Attachment], *, as_json: bool) -> None:
        self._home = home
        self._attachments = attachments
        self._as_json = as_json
        self._signal = 0
        self._error: Exception | None = None
        self._opening = trio.CancelScope()

    def run(self) -> int:
        """Work, and return the exit code; raise what is to be told in words."""
        trio.run(self._run)
        for each in self._attachments:
            each.sum_up()
            if each.end is None or each.end.state is None:
                self._tell_detached(each)
        if self._error is not None:
            raise self._error
        if self._signal:
            return _SIGNALLED + self._signal
        return next((each.end.code for each in self._attachments if each.end and each.end.code), 0)

    @property
    def is_signalled(self) -> bool:
        """Whether a signal ended it."""
        return bool(self._signal)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen)
            try:
                with self._opening:
                    async with open_user(self._home, self._say) as user:
                        # From here on each job ends by itself.
                        self._opening = trio.CancelScope()
                        async with trio.open_nursery() as jobs:
                            for each in self._attachments:
                                jobs.start_soon(self._guarded, each, user)
            except BaseException as error:
                with trio.CancelScope(shield=True):
                    for each in self._attachments:
                        if each.end is None and not each.failed:
                            await each.driver.fail(error)
                raise
            for each in self._attachments:
                if each.end is None and not each.failed:
                    await each.run(None)
            nursery.cancel_scope.cancel()

    async def _guarded(self, each: Attachment, user: User) -> None:
        """Work at one job; what is wrong with it does not end the others."""
        try:
            await each.run(user)
        except* (RelayError, ClientError, ValueError, OSError) as errors:
            each.failed = True
            self._error = self._error or _first(errors)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        # A command that was told to outlive its terminal does.
        heeded = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        with trio.open_signal_receiver(*heeded) as received:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            task_status.started()
            async for number in received:
                self._signal = self._signal or number
                self._opening.cancel()
                for each in self._attachments:
                    each.driver.detach(f"its client was told to leave ({_name(number)})")

    def _say(self, text: str) -> None:
        self._attachments[0].say(text)

    def _tell_detached(self, each: Attachment) -> None:
        record = each.store.job(each.job.id, is_left=True)
        if record.is_over:
            return
        if self._as_json:
            emit(json.dumps(job_report(record)))
        held = sum(len(lane.tasks) for lane in each.job.journal().held())
        where = f"workers have {held} of its tasks" if held else "no worker has any of it now"
        whole = "?" if record.total is None else record.total
        note(f"job {record.id} is detached: {record.over} of {whole} tasks have ended, {where}")
        note(f"`fog attach {record.id}` goes on with it; so do `fog wait` and `fog get`")


def _first(error: BaseException) -> Exception:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Exception):
        raise error
    return error


def _name(number: int) -> str:
    return signal.Signals(number).name
