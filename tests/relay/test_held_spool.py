"""A held session's folder (spec/08 §3.2): torn, cut off, failing, grown; and what it gives away."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey

from fogbank.relay.job.held.kept import Change, KeepModule, KeepTask
from fogbank.relay.job.held.opening import Opening
from fogbank.relay.job.held.records import (
    EndRecord,
    GrantRecord,
    LeftRecord,
    SettledRecord,
    encode_record,
    read_records,
)
from fogbank.relay.job.held.restored import Restored
from fogbank.relay.job.held.sealing import sealed_size
from fogbank.relay.job.held.spool_shell import Spool
from fogbank.sandbox.data import part_of, whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.runtimes.catalogue import RuntimeId
from fogbank.sandbox.task import Task
from tests.relay.test_job_sessions import head, result_head
from tests.vectors import run_generator

MODULE = b"\0asm of a test"
SECRET = PrivateKey(b"s" * 32)
KEY = bytes(SECRET.public_key)
LARGE = bytes(range(256)) * 400
"""Too large for a record."""


def keep(number: int, data: bytes) -> KeepTask:
    """A task, half of whose input is a file."""
    half = len(data) // 2
    limits = Limits(fuel=1000)
    files = (("a/file", data[half:]),)
    task = Task(("program",), (), files, data[:half], limits, bytes(32))
    named = (("a/file", len(data) - half),)
    return KeepTask(replace(head(number, half, limits), files=named), task)


def spool(folder: Path, *changes: Change | LeftRecord) -> Spool:
    made = Spool(folder, KEY)
    made.write([KeepModule(MODULE), *changes])
    return made


def loaded(folder: Path) -> Spool:
    made = Spool.load(folder)
    assert made is not None
    return made


def test_what_is_written_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    ended = result_head(4, fuel=5)
    changes: list[Change | LeftRecord] = [keep(1, b"input"), keep(2, LARGE), keep(3, b"")]
    changes += [GrantRecord(1, 700), EndRecord(ended), SettledRecord(3), LeftRecord(99)]
    first = spool(folder, *changes)
    first.write_output(result_head(5, stdout=3, stderr=2), (b"out", b"er"))
    again = loaded(folder)
    assert again.module() == MODULE
    assert again.state == first.state
    assert {task: fuel for task, (_, fuel) in again.state.tasks.items()} == {1: 700, 2: 500}
    assert set(again.state.ended) == {4, 5}
    assert (again.state.last_id, again.state.left_at) == (5, 99)
    for number, data in ((1, b"input"), (2, LARGE)):
        task = again.task(again.state.tasks[number][0])
        assert whole(task.stdin) + whole(task.files[0][1]) == data
        assert task.args == ("program",)
    again.remove()
    assert not folder.exists()
    assert Spool.load(folder) is None


def test_a_runtime_needs_no_file(tmp_path: Path) -> None:
    made = Spool(tmp_path / "one", KEY)
    made.write([KeepModule(RuntimeId(b"r" * 32)), keep(1, b"")])
    assert loaded(tmp_path / "one").module() == RuntimeId(b"r" * 32)


def test_a_torn_journal_is_what_was_whole_of_it_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    made = spool(folder, keep(1, b"a"), keep(2, b"b"), GrantRecord(1, 900), SettledRecord(2))
    data = made.path.read_bytes()
    states = {0: Restored()}
    for end, record in read_records(io.BytesIO(data).read):
        whole_state = Restored()
        for at, one in read_records(io.BytesIO(data[:end]).read):
            whole_state.take(at, one)
        states[end] = whole_state
        assert encode_record(record) == data[whole_state.size - len(encode_record(record)) : end]
    for size in range(len(data) + 1):
        state = Restored()
        for end, record in read_records(io.BytesIO(data[:size]).read):
            state.take(end, record)
        assert state == states[max(end for end in states if end <= size)]
    made.path.write_bytes(data[:-1])
    again = loaded(folder)
    assert set(again.state.tasks) == {1, 2}
    again.write([keep(3, b"c")])
    assert set(loaded(folder).state.tasks) == {1, 2, 3}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(1, 255))
def test_a_byte_that_changed_takes_what_follows_with_it(tmp_path: Path, at: int, byte: int) -> None:
    made = Spool(tmp_path / "one", KEY)
    if not made.path.exists():
        made.write([KeepModule(MODULE), keep(1, b"a"), keep(2, b"b"), keep(3, b"c")])
    data = bytearray(made.path.read_bytes())
    place = at % len(data)
    data[place] ^= byte
    state, size = Restored(), 0
    for size, record in read_records(io.BytesIO(bytes(data)).read):
        state.take(size, record)
    assert size <= place
    assert list(state.tasks) == [1, 2, 3][: len(state.tasks)]


def test_a_journal_of_settled_tasks_is_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    made = spool(folder, keep(1, b"stays"), GrantRecord(1, 600), LeftRecord(7))
    made.write_output(result_head(2, stdout=4), (b"kept", b""))
    output = made.output(2, sealed_size(4))
    before = whole(output)
    filler = bytes(15_000)
    for number in range(3, 200):
        made.write([keep(number, filler)])
        made.write([SettledRecord(number)])
    assert made.path.stat().st_size < 2 << 20
    again = loaded(folder)
    assert again.state == made.state
    assert again.state.tasks[1][1] == 600
    assert (again.state.last_id, again.state.left_at) == (199, 7)
    assert whole(again.task(again.state.tasks[1][0]).files[0][1]) == b"ays"
    assert whole(output) == before == whole(again.output(2, sealed_size(4)))


def test_what_is_cut_off_is_lost_alone_and_what_belongs_to_nothing_goes(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    made = spool(folder, keep(1, LARGE), keep(2, LARGE), keep(3, LARGE))
    made.write_output(result_head(4, stdout=len(LARGE)), (LARGE, b""))
    (folder / "input-1").write_bytes(LARGE[:-1])
    (folder / "input-2").unlink()
    (folder / "output-9").write_bytes(b"of nobody")
    again = loaded(folder)
    assert set(again.state.tasks) == {3}
    assert set(again.state.ended) == {4}
    assert {path.name for path in folder.iterdir()} == {"journal", "module", "input-3", "output-4"}
    (folder / "module").unlink()
    assert Spool.load(folder) is None


def test_after_a_failure_the_folder_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one"
    made = spool(folder, keep(1, b"a"))

    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", fails)
        with pytest.raises(OSError, match="No space"):
            made.write([keep(2, b"b")])
    assert set(made.state.tasks) == {1}
    made.write([keep(3, b"c")])
    assert set(loaded(folder).state.tasks) == {1, 3}


SPEC = Path(__file__).resolve().parents[2] / "spec" / "vectors"
SEALING = json.loads((SPEC / "08-jobs.json").read_text())["sealing"]
_GENERATED = run_generator("jobs")


@pytest.mark.parametrize("vector", SEALING["outputs"], ids=lambda one: f"{one['length']} bytes")
def test_sealed_outputs_of_the_vectors_open(vector: dict[str, Any]) -> None:
    stdout, stderr = vector["stdout"], vector["stderr"]
    outputs = b"o" * stdout, b"e" * stderr
    sealed = _GENERATED["seal"](b"".join(outputs))
    assert hashlib.sha256(sealed).hexdigest() == vector["sha256"]
    assert sealed.hex() == vector.get("sealed", sealed.hex())
    assert len(sealed) == vector["length"] == sealed_size(stdout + stderr)
    opening = Opening(bytes.fromhex(SEALING["secret"]), stdout, stderr)
    opening.write(memoryview(sealed))
    assert [whole(part) for part in opening.take()] == list(outputs)


@pytest.mark.parametrize("size", [0, 1, 16_000, 20_000, 65_536, 65_537, 200_000])
def test_outputs_are_sealed_to_their_client_alone(tmp_path: Path, size: int) -> None:
    made = spool(tmp_path / "one", keep(1, b""))
    stdout, stderr = bytes(range(200)) * (size // 200), b"e" * (size % 200)
    end = result_head(1, stdout=len(stdout), stderr=len(stderr))
    sealed = made.write_output(end, (stdout, stderr))
    assert len(sealed) == sealed_size(size)
    opening = Opening(bytes(SECRET), len(stdout), len(stderr))
    opening.write(memoryview(whole(part_of(sealed, 0))))
    assert [whole(part) for part in opening.take()] == [stdout, stderr]
    if size > 16:
        on_disk = b"".join(path.read_bytes() for path in (tmp_path / "one").iterdir())
        assert (stdout + stderr)[:16] not in on_disk
