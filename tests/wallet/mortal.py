"""Kills a wallet at its writes: right before one is on the disk, or right after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fogbank.client.database_shell import Database

_COMMIT = Database._commit


class Killed(BaseException):
    """The process is gone; what it holds in memory is not to be used any more."""


@contextmanager
def mortal(lives: int, *, after: bool) -> Iterator[None]:
    """Raise `Killed` at the write after so many others: `after` it is on the disk, or before."""
    left = lives

    def commit(database: Database, batch: Any) -> None:
        nonlocal left
        left -= 1
        if left < -1 or (left == -1 and not after):
            raise Killed
        _COMMIT(database, batch)
        if left == -1:
            raise Killed

    with patch.object(Database, "_commit", commit):
        yield
