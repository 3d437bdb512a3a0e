"""Guards on disk, shared by all programs of one user (spec/06 §2.5)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fogbank.client.guards import GuardState
from fogbank.client.guards_codec import GUARDS_LIMIT, decode_guards, encode_guards
from fogbank.relay.errors import ProtocolError
from fogbank.sandbox.files_shell import write_atomic

_FILE, _LOCK, _SET_ASIDE = "guards", "guards.lock", "guards.corrupt"

_FAILED_STEP, _SUCCESS_STEP = 8, 300
"""By how much a count of failed circuits, and the time of success, must move to be written."""

_Stamp = tuple[int, int, int]


class GuardStore:
    """The guard state of one network in one folder, which must exist.

    `warn` hears, once each, what the user should know: that a damaged file was set aside, or that
    nothing can be written. Neither stops the client, which then goes on with what it has.
    """

    def __init__(
        self,
        folder: Path,
        network_id: bytes,
        warn: Callable[[str], None],
        write: Callable[[Path, bytes], None] = write_atomic,
    ) -> None:
        self._folder = folder
        self._network_id = network_id
        self._warn = warn
        self._write = write
        self._state = GuardState()
        self._kept = GuardState()
        self._stamp: _Stamp | None = None
        self._warned: set[str] = set()

    def change(self, change: Callable[[GuardState], GuardState]) -> GuardState:
        """Apply `change` to the newest state, keep the result and return it.

        What changes with every circuit is written now and then only.
        """
        with self._locked():
            self._reload()
            self._state = change(self._state)
            if _coarse(self._state) != _coarse(self._kept):
                self._save()
        return self._state

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            handle = os.open(
                self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            self._warn_once(f"the guards cannot be locked: {error.strerror}")
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _reload(self) -> None:
        """Take up the file, if another program or nobody of us has written it."""
        path = self._folder / _FILE
        try:
            stamp = _stamp(path)
            if stamp == self._stamp:
                return
            with path.open("rb") as file:
                data = file.read(GUARDS_LIMIT + 1)
        except FileNotFoundError:
            self._kept = GuardState()
            return
        except OSError as error:
            self._warn_once(f"{path} cannot be read: {error.strerror}; going on without it")
            return
        try:
            self._state = self._kept = decode_guards(data, self._network_id)
            self._stamp = stamp
        except ProtocolError as error:
            self._set_aside(path, error)

    def _set_aside(self, path: Path, reason: ProtocolError) -> None:
        self._kept = GuardState()
        try:
            path.replace(self._folder / _SET_ASIDE)
        except OSError as error:
            self._warn_once(f"{path} is unusable and cannot be renamed: {error.strerror}")
        else:
            self._warn(f"{reason}: it is set aside as {_SET_ASIDE}, and new guards are chosen")

    def _save(self) -> None:
        path = self._folder / _FILE
        try:
            self._write(path, encode_guards(self._state, self._network_id))
            self._stamp = _stamp(path)
            self._kept = self._state
        except OSError as error:
            self._warn_once(
                f"the guards cannot be written to {path} ({error.strerror}): what is there stays; "
                "make room or check the folder's permissions"
            )

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence)


def _stamp(path: Path) -> _Stamp:
    """Return what changes whenever the file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _coarse(state: GuardState) -> GuardState:
    """Return the state without what changes with every circuit and is not worth a write."""
    sample = tuple(
        replace(guard, circuits=0, failed=guard.failed // _FAILED_STEP) for guard in state.sample
    )
    return replace(state, sample=sample, last_success=state.last_success // _SUCCESS_STEP)
