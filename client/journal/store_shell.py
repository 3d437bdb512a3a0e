"""The journal of a user's jobs: what outlives the end of the client at any moment (spec/13).

    store = Store(folder)
    job = await store.create(title, spec, files={"program": module})
    with store.drive(job_id) as job:            # one process at a time
        await job.take_in([...]); ...; job.journal()

The folder holds `jobs.db`, and a folder for each job with its program, inputs and outputs.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fogbank.client.database_shell import Database, Schema, Transaction
from fogbank.client.journal.errors import JobBusy, JobUnknown, JournalError
from fogbank.client.journal.job_shell import Job
from fogbank.client.journal.records import Event, JobRecord, JobState, Stage
from fogbank.client.journal.schema import MIGRATIONS
from fogbank.sandbox.data import Data, portions
from fogbank.sandbox.files_shell import sync

ID_SIZE: Final = 8
_ID_BYTES: Final = 5
_LOCK: Final = "lock"
_LOCK_TRIES: Final = 25
_LOCK_PAUSE: Final = 0.02
_KEPT_SECONDS: Final = 7 * 86400.0
"""How long a job is kept that is over and whose results are where they belong."""
_ORPHAN_SECONDS: Final = 3600.0
_JOBS: Final = Schema(
    "the journal of jobs", "move it away, and its jobs are forgotten", JournalError, MIGRATIONS
)
_FORGET: Final = (
    "DELETE FROM task WHERE job = ?",
    "DELETE FROM lane WHERE job = ?",
    "DELETE FROM sent WHERE job = ?",
    "DELETE FROM event WHERE job = ?",
    "DELETE FROM job WHERE id = ?",
)


class Store:
    """The journal in a folder, which is made if it is not there; raises `JournalError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"{folder} cannot be made ({error.strerror}): jobs are kept there. Make room, or "
                "mend the folder's permissions"
            ) from error
        self.database = Database(folder / "jobs.db", _JOBS)

    def close(self) -> None:
        """Give it up."""
        self.database.close()

    def create(
        self,
        title: str,
        spec: str,
        files: Mapping[str, Data],
        *,
        log: str | None = None,
    ) -> str:
        """Make a job with these files in its folder, and return its id.

        `spec` is what its maker needs to go on with it; `log`: the path of the log that it
        writes, by which it is found again. Raises `JournalError`.
        """
        self.prune()
        name = self._new_id()
        try:
            for path, data in files.items():
                _write_file(self.folder / name / path, data)
            sync(self.folder / name)
            sync(self.folder)
        except OSError as error:
            raise JournalError(
                f"{self.folder / name} cannot be written ({error.strerror}): make room on its disk"
            ) from error
        row = (name, time.time(), title, spec, log)

        def write(transaction: Transaction) -> None:
            columns = "INSERT INTO job (id, created, title, spec, log) VALUES (?, ?, ?, ?, ?)"
            transaction.db.execute(columns, row)

        self.database.write_now(write)
        return name

    def _new_id(self) -> str:
        while True:
            name = base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()
            with suppress(FileExistsError):
                (self.folder / name).mkdir(mode=0o700)
                return name

    # What there is.

    def jobs(self) -> list[JobRecord]:
        """Return all jobs, the oldest first."""
        names = self.database.reader.execute("SELECT id FROM job ORDER BY created, id").fetchall()
        return [self.job(name) for (name,) in names]

    def job(self, name: str, *, is_left: bool = False) -> JobRecord:
        """Return one job, by its id or the beginning of it; raise `JobUnknown`.

        `is_left`: as it is once the process that drives it has left it.
        """
        reader = self.database.reader
        rows = reader.execute(
            "SELECT id, created, title, spec, total, state, reason, code, ended FROM job "
            "WHERE substr(id, 1, ?) = ?",
            (len(name), name.lower()),
        ).fetchall()
        if len(rows) != 1 or not name:
            raise JobUnknown(name)
        ((key, *_),) = rows
        counts = dict(
            reader.execute(
                "SELECT stage, count(*) FROM task WHERE job = ? AND level = 0 GROUP BY stage",
                (key,),
            ).fetchall()
        )
        failed, undelivered, fuel = reader.execute(
            "SELECT sum(over AND code != 0), sum(over AND NOT delivered), sum(fuel) "
            "FROM task WHERE job = ? AND level = 0",
            (key,),
        ).fetchone()
        (_, created, title, spec, total, told, reason, code, ended) = rows[0]
        state = JobState.DETACHED if is_left else self._state_of(key, counts)
        if told != JobState.OPEN:
            state = JobState(told)
        return JobRecord(
            id=key,
            created=created,
            title=title,
            spec=spec,
            total=total,
            state=state,
            reason=self._reason_of(key, state, reason),
            code=code,
            ended=ended,
            counts={Stage(stage): count for stage, count in counts.items()},
            failed=failed or 0,
            undelivered=undelivered or 0,
            fuel=fuel or 0,
        )

    def _state_of(self, name: str, counts: Mapping[str, int]) -> JobState:
        if not self.is_driven(name):
            return JobState.DETACHED
        return JobState.RUNNING if counts.get(Stage.RUNNING) else JobState.QUEUED

    def _reason_of(self, name: str, state: JobState, reason: str) -> str:
        """Return why a job is where it is: what was written, unless its client was killed."""
        if state is JobState.DETACHED:
            return reason or "its client was ended before it could say why"
        if state not in {JobState.QUEUED, JobState.RUNNING}:
            return reason
        what = "no task runs yet" if state is JobState.QUEUED else "tasks run"
        with suppress(OSError):
            process = (self.folder / name / _LOCK).read_text(errors="replace")
            return f"process {process} is at work on it; {what}"
        return what

    def find_log(self, log: str) -> str | None:
        """Return the newest job that is not over and writes this log, if there is one."""
        row = self.database.reader.execute(
            "SELECT id FROM job WHERE log = ? AND state = 'open' ORDER BY created DESC", (log,)
        ).fetchone()
        return None if row is None else str(row[0])

    def events(self, name: str, number: int | None = None) -> list[Event]:
        """Return what happened to a job, or to one task of it, in order."""
        rows = self.database.reader.execute(
            "SELECT time, number, text FROM event WHERE job = ?1 AND (?2 IS NULL OR number = ?2) "
            "ORDER BY rowid",
            (name, number),
        )
        return [Event(*row) for row in rows]

    @contextmanager
    def look(self, name: str) -> Iterator[Job]:
        """Read a job, which another process may drive meanwhile; raise `JobUnknown`."""
        record = self.job(name)
        with self._open(record.id) as job:
            yield job

    @contextmanager
    def _open(self, name: str) -> Iterator[Job]:
        try:
            job = Job(self.database, self.folder / name, name)
        except OSError as error:
            raise JournalError(
                f"the files of job {name} cannot be used ({error.strerror}): mend the permissions "
                f"of {self.folder / name}, or forget it with `fog rm {name}`"
            ) from error
        try:
            yield job
        finally:
            job.close()

    # One process at a time.

    def is_driven(self, name: str) -> bool:
        """Whether some process drives the job now."""
        try:
            handle = os.open(self.folder / name / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    @contextmanager
    def drive(self, name: str) -> Iterator[Job]:
        """Have a job to oneself; raise `JobBusy` if another process has it, `JobUnknown`."""
        record = self.job(name)
        handle = self._lock(record.id)
        try:
            with self._open(record.id) as job:
                yield job
        finally:
            os.close(handle)

    def _lock(self, name: str) -> int:
        path = self.folder / name / _LOCK
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JournalError(
                f"the files of job {name} are gone ({error.strerror}): `fog rm {name}` forgets it"
            ) from error
        # Whoever only looks holds the lock for a moment.
        for _ in range(_LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                return handle
            time.sleep(_LOCK_PAUSE)
        process = os.pread(handle, 20, 0).decode(errors="replace")
        os.close(handle)
        raise JobBusy(name, process)

    def wish(self, name: str, wish: str) -> None:
        """Leave a wish for the process that drives the job: `cancel` or `detach`."""

        def write(transaction: Transaction) -> None:
            transaction.db.execute("UPDATE job SET wish = ? WHERE id = ?", (wish, name))

        self.database.write_now(write)

    # The end of jobs.

    def remove(self, name: str) -> None:
        """Forget a job and all that is kept of it; raise `JobBusy`, `JobUnknown`."""
        key = self.job(name).id
        if not (self.folder / key).exists():
            self._forget(key)
            return
        handle = self._lock(key)
        try:
            self._forget(key)
            shutil.rmtree(self.folder / key, ignore_errors=True)
        finally:
            os.close(handle)

    def _forget(self, name: str) -> None:
        def write(transaction: Transaction) -> None:
            for statement in _FORGET:
                transaction.db.execute(statement, (name,))

        self.database.write_now(write)

    def prune(self) -> None:
        """Forget jobs that ended long ago, and folders whose job never came to be."""
        old = time.time() - _KEPT_SECONDS
        rows = self.database.reader.execute(
            "SELECT id FROM job WHERE state != 'open' AND ended < ? AND NOT EXISTS "
            "(SELECT 1 FROM task WHERE job = id AND level = 0 AND NOT delivered)",
            (old,),
        ).fetchall()
        for (name,) in rows:
            with suppress(JobBusy, JobUnknown):
                self.remove(name)
        known = {name for (name,) in self.database.reader.execute("SELECT id FROM job")}
        for path in self.folder.iterdir():
            with suppress(OSError):
                is_job = len(path.name) == ID_SIZE and path.is_dir() and path.name not in known
                if is_job and path.stat().st_mtime < time.time() - _ORPHAN_SECONDS:
                    shutil.rmtree(path)


def _write_file(path: Path, data: Data) -> None:
    """Write a file that is not there, and wait until it is on the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.writelines(portions(data))
        file.flush()
        os.fsync(handle)
