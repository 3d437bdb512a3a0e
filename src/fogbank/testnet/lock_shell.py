"""One command at a time starts a test network in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fogbank.nodes.home import HomeError

LOCK_FILE = "testnet.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` for a block; raise `HomeError` if another process does.

    The file stays, as two could each hold a file of that name if it were removed. The system lets
    go of the lock when the process ends, however it ends.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("ab")
    except OSError as error:
        raise HomeError(
            f"{folder} cannot be written ({error.strerror}): choose another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeError(
                f"another `fog testnet up` is at work in {folder}: wait until it is done, or "
                "choose another folder"
            ) from None
        yield
