"""Bytes that need not be in memory, and the files that keep them."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.data import (
    Data,
    MemorySink,
    NoRoom,
    Sink,
    fill,
    joined,
    portions,
    sha256,
    whole,
)
from fogbank.sandbox.scratch_shell import IN_MEMORY, FileData, Scratch, write_data

BYTES = bytes(range(256)) * 5000


class Dribble:
    """Gives less than it is asked for."""

    def __init__(self, content: bytes, most: int) -> None:
        self._content = content
        self._most = most

    def __len__(self) -> int:
        return len(self._content)

    def read(self, start: int, size: int) -> bytes:
        return self._content[start : start + min(size, self._most)]


@given(st.binary(max_size=40), st.integers(1, 9), st.integers(0, 45), st.integers(1, 50))
def test_data_is_the_same_whoever_keeps_it(
    content: bytes, most: int, start: int, size: int
) -> None:
    kinds: list[Data] = [content, Dribble(content, most)]
    kinds += [joined(content[:at], Dribble(content[at:], most)) for at in (0, 3, len(content))]
    kinds.append(joined(Dribble(content[:2], most), b"", content[2:5], Dribble(content[5:], most)))
    for data in kinds:
        assert len(data) == len(content)
        assert whole(data) == content == fill(data)
        assert sha256(data) == hashlib.sha256(content).digest()
        parts = list(portions(data, start, size))
        assert b"".join(parts) == content[start:]
        assert all(0 < len(part) <= size for part in parts)


def test_what_becomes_shorter_is_an_error() -> None:
    class Cut(Dribble):
        def __len__(self) -> int:
            return super().__len__() + 1

    with pytest.raises(OSError, match="shorter"):
        whole(Cut(b"abc", 2))


def filled(sink: Sink, content: bytes, step: int) -> Data:
    for at in range(0, len(content), step):
        sink.write(memoryview(content)[at : at + step])
    return sink.done()


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, len(BYTES)])
@pytest.mark.parametrize("step", [70_001, 2 * len(BYTES)])
def test_a_spool_keeps_little_in_memory_and_much_in_a_file_without_a_name(
    tmp_path: Path, size: int, step: int
) -> None:
    content = BYTES[:size]
    folder = tmp_path / "made" / "when needed"
    kept = filled(Scratch(folder).sink(), content, step)
    assert whole(kept) == content == whole(filled(MemorySink(), content, step))
    assert isinstance(kept, bytes) == (size <= IN_MEMORY)
    assert folder.exists() == (size > IN_MEMORY)
    if folder.exists():
        assert list(folder.iterdir()) == []


def test_a_spool_needs_no_support_for_files_without_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no such files here")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    assert whole(filled(Scratch(tmp_path).sink(), BYTES, 1 << 16)) == BYTES
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoRoom, match="No space left on device"):
        filled(Scratch(tmp_path).sink(), BYTES, 1 << 16)


def test_files_are_closed_with_what_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_data(path, Dribble(BYTES, 1 << 16))
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    data = FileData.open(path)
    path.unlink()
    assert data.read(len(BYTES) - 3, 10) == BYTES[-3:]
    assert data.read(len(BYTES), 10) == b""
    assert whole(data) == BYTES
    del data
    spooled = filled(Scratch(tmp_path).sink(), BYTES, 1 << 16)
    del spooled
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
