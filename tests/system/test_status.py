"""The status file: what is in it, and what never is (spec/10 §1)."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from fogbank.cli.status import _lines
from fogbank.directory.addresses import Address
from fogbank.directory.descriptor import Role
from fogbank.directory.network import dump_network
from fogbank.nodes.home import Home, HomeError, Settings
from fogbank.nodes.status import (
    MAX_REASON,
    STATUS_LIMIT,
    AuthorityReport,
    Contact,
    Observed,
    Publication,
    Reply,
    SeriesReport,
    State,
    Status,
    make_status,
    rounded,
)
from fogbank.nodes.status_shell import read_status, run_with_status
from fogbank.sandbox.files_shell import write_atomic
from tests.directory.factory import START, make_network, make_synthetic, relay

SYNTHETIC = make_synthetic()
NOW = float(SYNTHETIC.consensus.valid_after + 5)
RELAY = SYNTHETIC.relays[0]


def status(links: int = 3, *, listed: bool = True, ended: bool = False) -> Status:
    observed = Observed(
        RELAY.identity if listed else bytes(32),
        links,
        SYNTHETIC.consensus,
        (Publication.of("auth0", Reply.REFUSED, NOW, "too often"),),
        (Contact("relay1", True),),
        AuthorityReport(
            "consensus of 5",
            3,
            2,
            {"auth3": "no answer"},
            9030,
            (SeriesReport(0, 3, 2, True),),
            10,
            "series 0 is current",
        ),
        effort=12,
    )
    return make_status(observed, "relay", "alpha", "1.2", (NOW - 60, NOW, 10.0), ended=ended)


@pytest.mark.parametrize("listed", [True, False])
def test_a_status_comes_back_as_it_was_written(listed: bool) -> None:
    made = status(listed=listed)
    assert Status.decode(made.encode()) == made
    assert (made.flags is None) == (not listed)
    assert json.loads(made.encode())["schema"] == "fogbank.status/3"


def test_every_field_is_one_that_the_specification_names() -> None:
    """A new field is a decision: does it name a circuit, a client or a job?"""
    fields = json.loads(status().encode())
    assert set(fields) == {
        *("schema", "role", "nickname", "identity", "version", "started", "written", "period"),
        *("ended", "links", "valid_after", "fresh_until", "valid_until", "flags", "published"),
        *("contacts", "authority", "effort", "leaving"),
    }
    assert set(fields["published"][0]) == {"authority", "reply", "at", "reason"}
    assert set(fields["contacts"][0]) == {"nickname", "linked"}
    assert set(fields["authority"]) == {
        *("round", "nodes", "running", "unreachable", "tor_port", "mint", "mint_effort"),
        "credit",
    }
    assert set(fields["authority"]["mint"][0]) == {"series", "locked", "issued", "votes"}


@pytest.mark.parametrize(("links", "shown"), [(0, 0), (1, 8), (8, 8), (9, 16), (1000, 1000)])
def test_counts_of_peers_are_rounded_up(links: int, shown: int) -> None:
    assert rounded(links) == shown
    assert status(links).links == shown


def test_an_operator_sees_that_work_is_asked_for_circuits() -> None:
    assert any("takes work now, of effort 12" in line for line in _lines(status(), NOW))
    calm = replace(status(), effort=0)
    assert not any("effort 12" in line for line in _lines(calm, NOW))


def test_an_operator_sees_the_mints_series_and_that_work_is_asked_for_votes() -> None:
    made = status()
    report = made.authority
    assert report is not None
    lines = _lines(made, NOW)
    assert "credit     series 0 is current" in lines
    assert "series 0   3 tokens locked, 2 issued" in lines
    assert any("asks for work of effort 10" in line for line in lines)
    old = replace(report, mint=(SeriesReport(0, 3, 2, False),), mint_effort=0)
    lines = _lines(replace(made, authority=old), NOW)
    assert any("MERGES the others' ledgers" in line for line in lines)
    assert not any("effort 10" in line for line in lines)


def test_reasons_are_cut() -> None:
    assert len(Publication.of("a", Reply.REFUSED, NOW, "x" * 10_000).reason) == MAX_REASON


def test_a_node_that_writes_no_more_is_silent_and_one_that_said_so_has_stopped() -> None:
    assert status().state(NOW) is State.RUNNING
    assert status().state(NOW + 30) is State.RUNNING
    assert status().state(NOW + 36) is State.SILENT
    assert status(ended=True).state(NOW) is State.STOPPED


@given(st.binary(max_size=400))
def test_any_bytes_are_a_status_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="status file"):
        Status.decode(data)


@given(st.data())
def test_a_field_of_another_type_is_refused(data: st.DataObject) -> None:
    fields = json.loads(status().encode())
    name = data.draw(st.sampled_from(sorted(set(fields) - {"flags", "authority"})))
    fields[name] = data.draw(st.none() | st.lists(st.integers(), min_size=1, max_size=1))
    with pytest.raises(ValueError, match="no status file"):
        Status.decode(json.dumps(fields).encode())


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(ValueError, match="status file is too large"):
        Status.decode(b" " * (STATUS_LIMIT + 1))


# On the disk.


def home_at(folder: Path) -> Home:
    home = Home(folder)
    home.create(Settings(Role.RELAY, "alpha", (Address("127.1.0.1", 9001),)), None, None, START)
    home.set_network(dump_network(make_network().signed()))
    return home


def observed() -> Observed:
    return Observed(relay(1).identity, 3, None)


async def test_it_is_written_while_the_node_runs_and_says_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_at(tmp_path / "relay")
    assert read_status(home) is None
    seen: list[Status] = []

    written = trio.Event()

    def write(path: Path, data: bytes) -> None:
        write_atomic(path, data)
        with suppress(RuntimeError):  # the last time it is in trio's own thread
            trio.from_thread.run_sync(written.set)

    monkeypatch.setattr("fogbank.nodes.status_shell.write_atomic", write)

    async def run() -> None:
        await written.wait()
        now = read_status(home)
        assert now is not None
        seen.append(now)

    await run_with_status(home, run, observed)
    assert not seen[0].ended
    assert (seen[0].role, seen[0].nickname, seen[0].links) == ("relay", "alpha", 8)
    assert seen[0].period <= 30
    last = read_status(home)
    assert last is not None
    assert last.ended
    assert stat.S_IMODE(home.status_file.stat().st_mode) == 0o600


async def test_a_node_that_fails_says_that_it_has_ended(tmp_path: Path) -> None:
    home = home_at(tmp_path / "relay")

    async def run() -> None:
        raise OSError("a port is taken")

    with pytest.RaisesGroup(OSError):
        await run_with_status(home, run, observed)
    last = read_status(home)
    assert last is not None
    assert last.ended


async def test_a_full_disk_ends_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = home_at(tmp_path / "relay")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fogbank.nodes.status_shell.write_atomic", full)
    ran = []

    async def run() -> None:
        await trio.testing.wait_all_tasks_blocked()
        ran.append(1)

    await run_with_status(home, run, observed)
    assert ran == [1]
    assert caplog.text.count("No space left on device") == 1


def test_a_damaged_file_is_explained(tmp_path: Path) -> None:
    home = home_at(tmp_path / "relay")
    write_atomic(home.status_file, b"{")
    with pytest.raises(HomeError, match="damaged"):
        read_status(home)


def test_one_that_was_told_to_end_is_leaving_until_it_has_ended() -> None:
    told = replace(status(), leaving=int(NOW) + 60)
    assert Status.decode(told.encode()) == told
    assert told.state(NOW) is State.LEAVING
    assert replace(told, ended=True).state(NOW) is State.STOPPED
    assert told.state(NOW + 1000) is State.SILENT
    (line,) = [line for line in _lines(told, NOW) if line.startswith("state")]
    assert "takes no new work" in line
    departed = _lines(replace(told, role="authority"), NOW)
    assert any("leaving: serves the mint's series of its time" in line for line in departed)
