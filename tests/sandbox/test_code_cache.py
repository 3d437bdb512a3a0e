"""Compiled code on disk: what does not bear the cache's own MAC is never used (spec/07 §8)."""

import os
from pathlib import Path
from stat import S_IMODE

import pytest

from fogbank.sandbox import code_cache_shell
from fogbank.sandbox.code_cache_shell import MAC_SIZE, CodeCache

ONE, TWO, THREE = bytes(32), bytes([1] * 32), bytes([2] * 32)
CODE = b"compiled" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "compiled"


def cache(folder: Path, entries: int = 4, largest: int = 1000) -> CodeCache:
    return CodeCache(folder, entries, largest)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.code"))


def test_what_was_kept_is_found_again_by_the_next_process(folder: Path) -> None:
    assert cache(folder).load(ONE) is None
    cache(folder).keep(ONE, CODE)
    assert cache(folder).load(ONE) == CODE
    assert cache(folder).load(TWO) is None
    cache(folder).keep(ONE, CODE[:-1])
    assert cache(folder).load(ONE) == CODE[:-1]
    assert {S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("at", [0, MAC_SIZE - 1, MAC_SIZE, -1])
def test_an_entry_with_one_bit_changed_is_dropped(folder: Path, at: int) -> None:
    cache(folder).keep(ONE, CODE)
    (entry,) = entries(folder)
    data = bytearray(entry.read_bytes())
    data[at] ^= 1
    entry.write_bytes(data)
    assert cache(folder).load(ONE) is None
    assert entries(folder) == []


@pytest.mark.parametrize("size", [0, 1, MAC_SIZE, MAC_SIZE + 1, MAC_SIZE + len(CODE) - 1])
def test_a_truncated_entry_is_dropped(folder: Path, size: int) -> None:
    cache(folder).keep(ONE, CODE)
    (entry,) = entries(folder)
    os.truncate(entry, size)
    assert cache(folder).load(ONE) is None
    assert entries(folder) == []


def test_an_entry_that_is_too_long_is_not_even_read(folder: Path) -> None:
    cache(folder).keep(ONE, CODE)
    os.truncate(entries(folder)[0], 1 << 40)
    assert cache(folder).load(ONE) is None
    assert entries(folder) == []
    cache(folder, largest=len(CODE) - 1).keep(ONE, CODE)
    assert entries(folder) == []


def test_an_entry_is_bound_to_its_module(folder: Path) -> None:
    cache(folder).keep(ONE, CODE)
    (one,) = entries(folder)
    cache(folder).keep(TWO, CODE[::-1])
    two = next(entry for entry in entries(folder) if entry != one)
    two.write_bytes(one.read_bytes())
    assert cache(folder).load(TWO) is None
    assert cache(folder).load(ONE) == CODE


def test_an_entry_is_bound_to_every_setting_of_the_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(folder).keep(ONE, CODE)
    (own,) = entries(folder)
    monkeypatch.setattr(code_cache_shell, "engine_class", lambda: "wasmtime-50.0.1-other")
    assert cache(folder).load(ONE) is None
    cache(folder).keep(ONE, CODE[::-1])
    other = next(entry for entry in entries(folder) if entry != own)
    # Moved to where the other is looked for, it still is not the other.
    other.write_bytes(own.read_bytes())
    assert cache(folder).load(ONE) is None


def test_an_entry_of_another_worker_is_dropped(folder: Path, tmp_path: Path) -> None:
    cache(folder).keep(ONE, CODE)
    cache(tmp_path / "other").keep(ONE, CODE)
    (own,), (foreign,) = entries(folder), entries(tmp_path / "other")
    assert own.name == foreign.name
    own.write_bytes(foreign.read_bytes())
    assert cache(folder).load(ONE) is None


@pytest.mark.parametrize("spoil", [
    lambda key: key.chmod(0o644),
    lambda key: key.unlink(),
    lambda key: key.write_bytes(b"short"),
    lambda key: key.write_bytes(bytes(32)),
])  # fmt: skip
def test_a_key_that_others_may_know_is_not_used(folder: Path, spoil: object) -> None:
    cache(folder).keep(ONE, CODE)
    assert callable(spoil)
    spoil(folder / "key")
    assert cache(folder).load(ONE) is None
    cache(folder).keep(ONE, CODE)
    assert cache(folder).load(ONE) == CODE
    assert S_IMODE((folder / "key").stat().st_mode) == 0o600


def test_the_oldest_entries_make_room(folder: Path) -> None:
    small = cache(folder, entries=2)
    for at, digest in enumerate((ONE, TWO, THREE, THREE)):
        small.keep(digest, CODE)
        for entry in entries(folder):
            if entry.stat().st_mtime_ns > 10**12:
                os.utime(entry, ns=(at, at))
    assert len(entries(folder)) == 2
    assert small.load(ONE) is None
    assert small.load(TWO) == small.load(THREE) == CODE


def test_a_disk_that_fails_costs_the_entry_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    broken = cache(tmp_path / "file" / "compiled")
    broken.keep(ONE, CODE)
    assert broken.load(ONE) is None
