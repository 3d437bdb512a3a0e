"""One array of `fog map`, its client, and what is to be true of it in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fogbank.client.journal.records import JobRecord, JobState
from fogbank.client.journal.store_shell import Store
from fogbank.nodes.job_spec import JobSpec

PATIENCE = 60.0
_PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const %d))
    (loop $turn
      (br_if $turn (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    (i32.store (i32.const 8)
      (i32.load (i32.add (i32.const 1020) (i32.mul (i32.load (i32.const 0)) (i32.const 4)))))
    (i32.store (i32.const 12)
      (i32.sub (i32.add (i32.const 4095) (i32.load (i32.const 4))) (i32.load (i32.const 8))))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))
"""
"""Takes some time, then writes its last argument."""


class Array:
    """An array of `count` tasks: its folder, its journal, and the client that is at work on it.

    `turns` of a loop are what each task takes. `leave`: the first client hands all over at once.
    """

    def __init__(self, home: Path, folder: Path, count: int, turns: int, *, leave: bool) -> None:
        folder.mkdir()
        self._home = home
        self._count = count
        self._results = folder / "results"
        self._notes = folder / "notes"
        self._log = folder / "log"
        self._client: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, tuple[int, int]] = {}
        self._id: str | None = None
        program = folder / "program.wat"
        program.write_text(_PROGRAM % turns)
        more = ("-d",) if leave else ()
        # Inputs that words describe: a client that is killed before it has read them loses none.
        self._begin = (
            "map", program, *more, "-j", "6", "-o", self._results, "--array", f"1-{count}"
        )  # fmt: skip

    def start(self) -> None:
        """Start a client: the first, or one that goes on with the job."""
        name = self._job()
        if name is not None:
            self._run("attach", name)
        else:
            # One that was killed before there was a job may have made the folder.
            shutil.rmtree(self._results, ignore_errors=True)
            self._run(*self._begin)

    def poll(self) -> int | None:
        """Return the exit code of the client, None while it is at work."""
        return None if self._client is None else self._client.poll()

    def end_client(self, number: signal.Signals) -> None:
        """Send the client a signal, and wait until it is gone."""
        if self._client is not None:
            self._client.send_signal(number)
            self._client.wait(PATIENCE)

    @property
    def record(self) -> JobRecord | None:
        """What the journal says of the job; None before it knows it."""
        store = Store(self._home / "jobs")
        try:
            for record in store.jobs():
                if JobSpec.load(record.spec).results.folder == str(self._results):
                    return record
        finally:
            store.close()
        return None

    @property
    def is_over(self) -> bool:
        """Whether the job is over and all of it delivered."""
        record = self.record
        return record is not None and record.is_over and not record.undelivered

    def ways(self) -> list[list[str]]:
        """Return the circuits of late, by the nicknames of the nodes on them."""
        return [words[1:] for words in self._noted() if words[0] == "way"][-4:]

    def sends(self) -> int:
        """Return how often tasks were sent: those of sessions that were gone back to, once."""
        return sum(words[0] == "sent" for words in self._noted())

    def look(self) -> int:
        """Remember what is marked as delivered while no client is there; return how many results.

        What a client was killed over between the two comes again, to the same place (spec/13 §3).
        """
        for number in self._delivered():
            about = (self._results / str(number)).stat()
            self._seen.setdefault(number, (about.st_ino, about.st_mtime_ns))
        return len(self._seen)

    def _delivered(self) -> list[int]:
        store = Store(self._home / "jobs")
        try:
            rows = store.database.reader.execute(
                "SELECT number FROM task WHERE job = ? AND level = 0 AND delivered", (self._job(),)
            )
            return [number for (number,) in rows]
        finally:
            store.close()

    def faults(self) -> list[str]:
        """Say what of the array that is over is not as it should be."""
        found: list[str] = []
        record = self.record
        if record is None or record.state is not JobState.DONE:
            words = "no job" if record is None else f"{record.state}: {record.reason}"
            found.append(f"the job is not done but {words}")
        numbers = range(1, self._count + 1)
        for number in numbers:
            path = self._results / str(number) / "stdout"
            if not path.exists() or path.read_text() != str(number):
                found.append(f"the result of task {number} is missing or wrong")
        logged = (self._results / "joblog").read_text().splitlines()[1:]
        times = Counter(int(row.split("\t")[0]) for row in logged)
        found += [f"task {n} is {times[n]} times in the log" for n in numbers if times[n] != 1]
        before = dict(self._seen)
        self._seen = {}
        self.look()
        for number, about in before.items():
            if self._seen.get(number) != about:
                found.append(f"the result of task {number} was delivered again")
        return found + self.computed_again()

    def computed_again(self) -> list[str]:
        """Say what was sent, or came, after its result was safe."""
        found: list[str] = []
        ended: set[int] = set()
        for words in self._noted():
            if words[0] == "way":
                continue
            number = int(words[1])
            if number in ended:
                found.append(f"task {number} was {words[0]} although its result was here")
            if words[0] == "ended":
                ended.add(number)
        return found

    def words(self) -> str:
        """Return what clients said last."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def _job(self) -> str | None:
        record = self.record
        return None if record is None else record.id

    def _noted(self) -> list[list[str]]:
        text = self._notes.read_text() if self._notes.exists() else ""
        return [line.split() for line in text.splitlines()]

    def _run(self, *arguments: str | Path) -> None:
        environment = {
            **os.environ, "FOGBANK_HOME": str(self._home), "FOGBANK_NOTES": str(self._notes)
        }  # fmt: skip
        with self._log.open("ab") as output:
            self._client = subprocess.Popen(
                [sys.executable, "-m", "tests.kills.client", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=Path(__file__).parents[2],
            )

    def wait(self, seconds: float) -> bool:
        """Wait for the client to end; return whether it did."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.poll() is not None
