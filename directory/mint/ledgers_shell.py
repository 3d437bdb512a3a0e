"""The ledgers of all series in one folder, and the word that they may be old (spec/09 §7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from fogbank.directory.mint.ledger_shell import SeriesFile, delete_file
from fogbank.directory.store_shell import StoreError
from fogbank.relay.job.held.keeper_shell import Blocking, in_thread
from fogbank.sandbox.files_shell import write_atomic

log = logging.getLogger(__name__)

RESTORED: Final = "restored"
"""A file of this name in the folder says that all ledgers come from a backup."""
_SUFFIX = ".db"


def mark_restored(folder: Path) -> None:
    """Note in a folder of ledgers that they come from a backup; raise `StoreError`."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(folder / RESTORED, b"")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}): see that the folder is an authority's"
        ) from error


def has_ledgers(folder: Path) -> bool:
    """Tell whether a folder holds a series' ledger: its authority was in office once."""
    return any(folder.glob(f"*{_SUFFIX}"))


class Ledgers:
    """The files of a folder, which is made if it is not there. Raises `StoreError`.

    `make` opens a series' file; `blocking` calls what waits for the disk.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        blocking: Blocking = in_thread,
        make: Callable[[Path, float, Blocking, int], SeriesFile] = SeriesFile,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._blocking = blocking
        self._make = make
        self._open: dict[int, SeriesFile] = {}
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be made ({error.strerror}): the mint's ledgers are kept there. "
                "Make room, or mend the permissions"
            ) from error

    @property
    def _mark(self) -> Path:
        return self._folder / RESTORED

    def get(self, series: int) -> SeriesFile | None:
        """Return a series' ledger if it is open."""
        return self._open.get(series)

    def has(self, series: int) -> bool:
        """Tell whether there is a ledger of a series, open or not."""
        return series in self._open or self._path(series).exists()

    def all(self) -> dict[int, SeriesFile]:
        """Return the ledgers that are open, by series."""
        return dict(self._open)

    def counts(self) -> dict[int, int]:
        """Return how many answers are in each ledger that is open, and 1 (spec/09 §7.4)."""
        return {series: file.head.count for series, file in self._open.items()}

    async def open(self, series: int, named: int = 0) -> SeriesFile:
        """Return a series' ledger, which is opened or made if it is not there.

        `named` is the highest count that a state names of it.
        """
        known = self._open.get(series)
        if known is not None:
            return known
        make = partial(self._make, self._path(series), self._clock(), self._blocking, named)
        made: SeriesFile = await self._blocking(make)
        if self._mark.exists():
            # Nobody is to find it before it is doubted.
            await made.doubt(self._clock())
        # Another task may have been as quick.
        if series in self._open:
            made.close()
        return self._open.setdefault(series, made)

    async def doubt_if_told(self) -> None:
        """Doubt every ledger that is open, if the operator says that they are from a backup."""
        if not self._mark.exists():
            return
        for file in self._open.values():
            await file.doubt(self._clock())
        self._mark.unlink(missing_ok=True)
        log.warning("the mint's ledgers are from a backup: others' are merged before any LOCK")

    async def expire(self, is_over: Callable[[int], bool]) -> list[int]:
        """Delete the ledgers of series that are over, and return which."""
        over = [each for each in self._numbers() if is_over(each)]
        for series in over:
            file = self._open.pop(series, None)
            try:
                if file is not None:
                    await file.wait_idle()
                    file.close()
                await self._blocking(delete_file, self._path(series))
            except OSError as error:
                log.error("an expired ledger cannot be deleted: %s", error.strerror)  # noqa: TRY400 - a sentence for the operator
            else:
                log.info("series %d is over: its ledger is deleted", series)
        return over

    def _numbers(self) -> list[int]:
        names = (path.stem for path in self._folder.glob(f"*{_SUFFIX}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, series: int) -> Path:
        return self._folder / f"{series}{_SUFFIX}"

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()
