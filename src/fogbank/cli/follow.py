"""Commands that see a job to its end: at work on it themselves, or while another process is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import trio

from fogbank.cli.attachment import Attachment, Manner, attach
from fogbank.cli.home import user_home
from fogbank.cli.output import note
from fogbank.cli.session import Session
from fogbank.client.journal.errors import JobBusy
from fogbank.client.journal.records import JobRecord
from fogbank.client.journal.store_shell import Store

_LOOK_SECONDS = 0.3


def see_to_end(store: Store, names: Sequence[str], manner: Manner, *, as_json: bool = False) -> int:
    """Take jobs to their end, or wait while other processes do; return the exit code.

    That of the first of them that did not succeed; or that of a signal, which detaches.
    """
    while True:
        with ExitStack() as stack:
            mine, busy = _take(store, names, manner, stack)
            working = [each for each in mine if not store.job(each.job.id).is_over]
            for each in mine:
                if each not in working:
                    trio.run(each.deliver_rest)
            if working:
                code = Session(user_home(), working, as_json=as_json).run()
                if any(not store.job(each.job.id).is_over for each in working):
                    return code
        if not busy:
            break
        note(f"another process is at work on {', '.join(busy)}: waiting for it")
        for name in busy:
            wait_while_driven(store, name)
    return next((code for name in names if (code := store.job(name).code)), 0)


def _take(
    store: Store, names: Sequence[str], manner: Manner, stack: ExitStack
) -> tuple[list[Attachment], list[str]]:
    mine: list[Attachment] = []
    busy: list[str] = []
    for name in dict.fromkeys(store.job(name).id for name in names):
        try:
            mine.append(stack.enter_context(attach(store, name, manner)))
        except JobBusy:
            busy.append(name)
    return mine, busy


def wait_while_driven(
    store: Store, name: str, look: Callable[[], None] = lambda: None
) -> JobRecord:
    """Wait until a job is over, or nobody drives it any more; `look` is called now and then."""
    while True:
        record = store.job(name)
        look()
        if record.is_over or not store.is_driven(record.id):
            return store.job(name)
        time.sleep(_LOOK_SECONDS)
