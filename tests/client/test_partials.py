"""A large output that had begun to come goes on after its client was killed (spec/08 §3.1)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fogbank.client.partials_shell import PartialFolder
from fogbank.relay.job.client_session import ClientSession, TaskDone, TaskResult
from fogbank.relay.job.client_tasks import ClientTasks
from fogbank.relay.job.frames import frame
from fogbank.relay.job.held.messages import Resumed
from fogbank.relay.job.held.sealing import CHUNK, Sealed
from fogbank.relay.job.kinds import ModulePlace, State
from fogbank.relay.job.limits import Patience
from fogbank.sandbox.data import NoRoom, joined, whole
from tests.relay.test_job_resuming import KEEP, LARGE, ROOMY, seal
from tests.relay.test_job_sessions import result_head

DATA = os.urandom(3 * CHUNK + 100)
SEALED = seal(KEEP.hold.key, DATA)
HEAD = result_head(1, stdout=CHUNK + 5, stderr=len(DATA) - CHUNK - 5)


def client(partials: PartialFolder) -> tuple[ClientTasks, ClientSession]:
    """A client that begins, and finds that an earlier one has sent task 1."""
    tasks = ClientTasks(KEEP, 1, begun=True, partials=partials)
    tasks.expect(1, replace(LARGE, output=1 << 20))
    session = ClientSession(Patience(), 0.0, tasks)
    session.receive(frame(ROOMY), 0.0)
    session.resume()
    session.receive(frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))), 0.0)
    return tasks, session


def have(tasks: ClientTasks) -> dict[int, int]:
    return dict(tasks.resume().have)


def result(offset: int) -> bytes:
    return frame(replace(HEAD, sealed=Sealed(len(SEALED), offset))) + SEALED[offset:]


def answer(events: list[Any]) -> bytes:
    (done,) = [event.answer for event in events if isinstance(event, TaskDone)]
    assert isinstance(done, TaskResult)
    assert len(done.stdout) == HEAD.stdout
    return whole(joined(done.stdout, done.stderr))


@pytest.mark.parametrize("cuts", [[1], [104], [70_000], [len(SEALED) - 1], [5, 90_000, 150_000]])
def test_it_goes_on_where_the_client_was_killed(tmp_path: Path, cuts: list[int]) -> None:
    partials, offset = PartialFolder(tmp_path / "arriving"), 0
    for cut in cuts:
        tasks, session = client(partials)
        assert have(tasks) == ({1: offset} if offset else {})
        assert tasks.has_part is bool(offset)
        session.receive(result(offset)[: cut - len(SEALED)], 0.0)
        assert tasks.has_part
        offset = cut
    tasks, session = client(partials)
    assert have(tasks) == {1: offset}
    assert answer(session.receive(result(offset), 0.0)) == DATA
    assert not tasks.has_part
    assert list((tmp_path / "arriving").iterdir()) == []


def test_a_stream_that_breaks_in_between_changes_nothing(tmp_path: Path) -> None:
    partials = PartialFolder(tmp_path)
    tasks, session = client(partials)
    session.receive(result(0)[: 90_000 - len(SEALED)], 0.0)
    again = ClientSession(Patience(), 0.0, tasks)
    again.receive(frame(ROOMY), 0.0)
    again.resume()
    again.receive(frame(Resumed(ModulePlace.OPEN, ((1, State.DONE),))), 0.0)
    again.receive(result(90_000)[: 150_000 - len(SEALED)], 0.0)
    tasks, session = client(partials)
    assert have(tasks) == {1: 150_000}
    assert answer(session.receive(result(150_000), 0.0)) == DATA


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "missing", "other lengths"])
def test_what_is_damaged_is_fetched_anew(tmp_path: Path, damage: str) -> None:
    partials = PartialFolder(tmp_path)
    _, session = client(partials)
    session.receive(result(0)[: 150_000 - len(SEALED)], 0.0)
    (path,) = tmp_path.iterdir()
    kept = bytearray(path.read_bytes())
    match damage:
        case "cut":
            kept = kept[:10]
        case "changed":
            kept[80_000] ^= 1
        case "longer":
            kept += os.urandom(200_000)
        case "other lengths":
            kept[0] ^= 1
    path.write_bytes(kept)
    if damage == "missing":
        path.unlink()
    tasks, session = client(partials)
    assert have(tasks) == {}
    assert answer(session.receive(result(0), 0.0)) == DATA
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_only_what_would_be_spared(tmp_path: Path) -> None:
    class Full(PartialFolder):
        def begin(self, *_: Any) -> Any:
            raise NoRoom("it is full")

    _, session = client(Full(tmp_path))
    assert answer(session.receive(result(0), 0.0)) == DATA

    class Filling(PartialFolder):
        def begin(self, ticket: bytes, task: int, lengths: tuple[int, int]) -> Any:
            log = super().begin(ticket, task, lengths)
            os.close(log._descriptor)
            log._descriptor = os.open("/dev/full", os.O_WRONLY)
            return log

    _, session = client(Filling(tmp_path))
    assert answer(session.receive(result(0), 0.0)) == DATA
