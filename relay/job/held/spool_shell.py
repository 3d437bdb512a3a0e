"""One held session on its worker's disk: a journal, and files for what is large (spec/08 §3.2).

Its methods wait for the disk, so they are called in a thread, one at a time. What they return is
read in portions later, from whichever thread.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from fogbank.relay.job.held.kept import Change, KeepModule, KeepTask
from fogbank.relay.job.held.records import (
    INLINE,
    AnyRecord,
    EndRecord,
    GrantRecord,
    LeftRecord,
    SessionRecord,
    SettledRecord,
    TaskRecord,
    decode_body,
    encode_record,
    read_records,
)
from fogbank.relay.job.held.restored import Restored
from fogbank.relay.job.held.sealing import Sealed, sealed_size
from fogbank.relay.job.held.sealing_shell import seal
from fogbank.relay.job.messages import ResultHead, TaskHead
from fogbank.sandbox.data import Data, part_of, portions, whole
from fogbank.sandbox.files_shell import sync, write_atomic
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.scratch_shell import IN_MEMORY
from fogbank.sandbox.task import Task

_JOURNAL: Final = "journal"
_MODULE: Final = "module"
_RECORD_HEAD: Final = 8
_WASTE: Final = 1 << 20
"""Bytes of a journal that are of no more use, before it is written anew."""


class SpoolLost(OSError):
    """A held session cannot be read from the disk any more: its client runs its tasks elsewhere."""


class Spool:
    """A session's folder, which is made when something is first kept.

    All methods raise `OSError`. After one the folder is as it was before.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        """`key`: what outputs are sealed to."""
        self.folder = folder
        self.state = Restored(key)
        self._key = key
        self._guard = threading.Lock()

    @property
    def path(self) -> Path:
        """The journal."""
        return self.folder / _JOURNAL

    # Writing.

    def write(self, changes: Sequence[Change | LeftRecord]) -> None:
        """Put changes on the disk, in order; but for words of little weight, wait until there."""
        self._begin()
        settled = [change.task for change in changes if isinstance(change, SettledRecord)]
        made = False
        records: list[AnyRecord] = []
        for change in changes:
            if isinstance(change, KeepModule):
                made |= self._write_module(change)
                records.append(change.record)
            elif isinstance(change, KeepTask):
                inline = self._write_input(change)
                made |= inline is None
                records.append(TaskRecord(change.head, inline))
            else:
                records.append(change)
        if made:
            sync(self.folder)
        light = all(isinstance(one, SettledRecord | GrantRecord | LeftRecord) for one in records)
        self._append(records, sync=not light)
        for task in settled:
            self._drop(task)
        self._compact()

    def write_output(self, head: ResultHead, outputs: Iterable[Data]) -> Data:
        """Seal an output, put it and its task's end on the disk, and return what is sealed."""
        self._begin()
        size = head.stdout + head.stderr
        length = sealed_size(size)
        sealed = seal(chain.from_iterable(map(portions, outputs)), size, self._key)
        inline = b"".join(sealed) if length <= INLINE else None
        if inline is None:
            self._write_file(self._output(head.task), sealed)
            sync(self.folder)
        self._append([EndRecord(replace(head, sealed=Sealed(length)), inline)], sync=True)
        return self.output(head.task, length)

    def _begin(self) -> None:
        """Make the folder and the journal if they are not there."""
        if self.state.size:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = SessionRecord(self._key)
        first = encode_record(record)
        write_atomic(self.path, first)
        sync(self.folder.parent)
        self.state.take(len(first), record)

    def _append(self, records: Sequence[AnyRecord], *, sync: bool) -> None:
        parts = [encode_record(record) for record in records]
        with self.path.open("r+b") as file:
            # What a failed writer left behind its last whole record goes.
            file.truncate(self.state.size)
            file.seek(self.state.size)
            file.write(b"".join(parts))
            file.flush()
            if sync:
                os.fdatasync(file.fileno())
        with self._guard:
            for record, part in zip(records, parts, strict=True):
                self.state.take(self.state.size + len(part), record)

    def _write_module(self, change: KeepModule) -> bool:
        if isinstance(change.module, bytes):
            self._write_file(self.folder / _MODULE, [change.module])
        return isinstance(change.module, bytes)

    def _write_input(self, change: KeepTask) -> bytes | None:
        """Return a task's input if it is small, else write it to a file."""
        if change.head.input_size <= INLINE:
            return b"".join(map(whole, change.input))
        parts = chain.from_iterable(map(portions, change.input))
        self._write_file(self._input(change.head.id), parts)
        return None

    def _write_file(self, path: Path, parts: Iterable[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())

    def _compact(self) -> None:
        """Write the journal anew without what is settled, if that is most of it."""
        state = self.state
        live = sum(spot.size for spot in state.spots.values())
        if state.size < 2 * live + _WASTE:
            return
        with self.path.open("rb") as file:
            records = [self._at(file.fileno(), task) for task in sorted(state.spots)]
        first: list[AnyRecord] = [SessionRecord(self._key)]
        first += [state.module] if state.module is not None else []
        # The highest id is known again from a task that is settled.
        first += [SettledRecord(state.last_id)] if state.last_id not in state.spots else []
        grants: list[AnyRecord] = [
            GrantRecord(task, fuel)
            for task, (head, fuel) in state.tasks.items()
            if fuel != (head.limits.fuel if head.granted is None else head.granted)
        ]
        left: list[AnyRecord] = [LeftRecord(state.left_at)] if state.left_at else []
        new = Restored(self._key)
        parts = []
        for record in (*first, *records, *grants, *left):
            part = encode_record(record)
            parts.append(part)
            new.take(new.size + len(part), record)
        with self._guard:
            write_atomic(self.path, b"".join(parts))
            self.state = new

    def _drop(self, task: int) -> None:
        for path in (self._input(task), self._output(task)):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget everything."""
        # Renamed first: a folder without a journal is none, whatever is left in it.
        with suppress(OSError):
            self.path.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Reading.

    def module(self) -> bytes | RuntimeId:
        """Read the module."""
        record = self.state.module
        if record is None:
            raise SpoolLost("the module is not on the disk")
        return RuntimeId(record.digest) if record.is_runtime else self._module().read_bytes()

    def module_size(self) -> int:
        """Return how many bytes the module has here."""
        path = self._module()
        return path.stat().st_size if path.exists() else 0

    def task(self, head: TaskHead) -> Task:
        """Read a task; what is large of its input stays on the disk."""
        data = self._input_data(head)
        if len(data) <= IN_MEMORY:
            data = whole(data)
        parts: list[Data] = []
        at = 0
        for length in head.lengths:
            parts.append(part_of(data, at, length))
            at += length
        paths = (path for path, _ in head.files)
        files = tuple(zip(paths, parts[1:], strict=True))
        return Task(head.args, head.env, files, parts[0], head.limits, head.seed)

    def output(self, task: int, size: int) -> Data:
        """Return a sealed output of `size` bytes."""
        return _Kept(self, task, size) if size <= INLINE else _File(self._output(task), size)

    def read_inline(self, task: int) -> bytes:
        """Return what the last record of a task holds."""
        with self._guard, self.path.open("rb") as file:
            record = self._at(file.fileno(), task)
        if isinstance(record, TaskRecord | EndRecord) and record.inline is not None:
            return record.inline
        raise SpoolLost("a held session's journal does not hold what it should")

    def _input_data(self, head: TaskHead) -> Data:
        if head.input_size <= INLINE:
            return self.read_inline(head.id)
        return _File(self._input(head.id), head.input_size)

    def _at(self, handle: int, task: int) -> AnyRecord:
        spot = self.state.spots.get(task)
        if spot is None:
            raise SpoolLost("a task that is not held any more")
        return decode_body(os.pread(handle, spot.size, spot.at)[_RECORD_HEAD:])

    def _module(self) -> Path:
        return self.folder / _MODULE

    def _input(self, task: int) -> Path:
        return self.folder / f"input-{task}"

    def _output(self, task: int) -> Path:
        return self.folder / f"output-{task}"

    # After the worker's end.

    @classmethod
    def load(cls, folder: Path) -> Spool | None:
        """Return what a worker left here; None if it is not whole, and so nobody was told of it."""
        state = Restored()
        try:
            with (folder / _JOURNAL).open("rb") as file:
                for end, record in read_records(file.read):
                    state.take(end, record)
        except OSError:
            return None
        if state.key is None or state.module is None:
            return None
        spool = cls(folder, state.key)
        spool.state = state
        spool._lose_what_is_not_there()
        if not state.module.is_runtime and not spool._module().exists():
            return None
        return spool

    def _lose_what_is_not_there(self) -> None:
        """Forget tasks whose files are gone or cut off, and files of no task."""
        state = self.state
        files = {path.name: path.stat().st_size for path in self.folder.iterdir()}
        known = {_JOURNAL, _MODULE}
        for task, (head, _) in list(state.tasks.items()):
            self._check(files, known, self._input(task).name, head.input_size, task)
        for task, head_of_end in list(state.ended.items()):
            sealed = head_of_end.sealed
            size = 0 if sealed is None else sealed.size
            self._check(files, known, self._output(task).name, size, task)
        for name in files.keys() - known:
            (self.folder / name).unlink(missing_ok=True)

    def _check(
        self, files: dict[str, int], known: set[str], name: str, size: int, task: int
    ) -> None:
        if size <= INLINE:
            return
        if files.get(name) == size:
            known.add(name)
        else:
            self.state.take(self.state.size, SettledRecord(task))


class _File:
    """A file that is open only while it is read: there may be many."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), size, start)


class _Kept:
    """What a record in a journal holds."""

    def __init__(self, spool: Spool, task: int, size: int) -> None:
        self._spool = spool
        self._task = task
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> bytes:
        return self._spool.read_inline(self._task)[start : start + size]
