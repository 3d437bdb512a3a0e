"""The log of an array (spec/11 §4): what it says was done, was done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fogbank.cli.joblog import Entry, JobLog, Recorded


def entry(number: int, code: int = 0) -> Entry:
    return Entry(number, "worker1", 1.5, 0.25, 10, 20, code, "p.wasm 'a b'", "00" * 8)


def written(path: Path, count: int = 3) -> bytes:
    log = JobLog.open(path, resume=False)
    for number in range(count):
        log.record(entry(number, number))
    log.close()
    return path.read_bytes()


def test_its_columns_are_those_that_people_know(tmp_path: Path) -> None:
    first, second, *_ = written(tmp_path / "log").decode().splitlines()
    assert first.split("\t") == [
        "Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal",
        "Command", "Task",
    ]  # fmt: skip
    assert second == "0\tworker1\t1.500\t0.250\t10\t20\t0\t0\tp.wasm 'a b'\t" + "00" * 8


def test_what_was_recorded_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path)
    log = JobLog.open(path, resume=True)
    assert log.recorded == {number: Recorded(number, "00" * 8) for number in range(3)}
    log.record(entry(9))
    log.close()
    again = JobLog.open(path, resume=True)
    assert sorted(again.recorded) == [0, 1, 2, 9]
    again.close()


def test_a_log_cut_off_anywhere_says_what_is_whole_and_goes_on(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole")
    path = tmp_path / "log"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        log = JobLog.open(path, resume=True)
        lines = max(0, whole[:size].count(b"\n") - 1)
        assert sorted(log.recorded) == list(range(lines))
        log.record(entry(7))
        log.close()
        assert path.read_bytes().splitlines()[-1].startswith(b"7\t")
        assert len(path.read_bytes().splitlines()) == lines + 2


@pytest.mark.parametrize(
    "text", [b"something else\n", b"Seq\tHost\n", b"\xff\xfe\n", bytes(100) + b"\n"]
)
def test_another_file_is_not_taken_for_a_log_and_stays(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="no log"):
        JobLog.open(path, resume=True)
    assert path.read_bytes() == text


@pytest.mark.parametrize("line", [b"x\n", b"\n", b"1\tw\t1\t1\t1\t1\tx\t0\tc\td\n", b"1\t2\n"])
def test_a_damaged_log_is_told_and_stays(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log"
    text = written(path) + line
    path.write_bytes(text)
    with pytest.raises(ValueError, match="damaged"):
        JobLog.open(path, resume=True)
    assert path.read_bytes() == text


def test_two_programs_do_not_write_one_log(tmp_path: Path) -> None:
    log = JobLog.open(tmp_path / "log", resume=False)
    log.record(entry(1))
    with pytest.raises(ValueError, match="another `fog map`"):
        JobLog.open(tmp_path / "log", resume=False)
    log.close()
    assert b"\n1\t" in (tmp_path / "log").read_bytes()


def test_a_disk_that_is_full_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = JobLog(Path("/dev/full"), os.open("/dev/full", os.O_WRONLY), {})
    with pytest.raises(OSError, match=r"[Nn]o space"):
        log.record(entry(1))
    log.close()
