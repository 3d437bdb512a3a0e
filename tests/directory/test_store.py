"""The authority's database: what was journaled is there after any kill (spec/05 §4.6, §8)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogbank.directory.agreement import Journal
from fogbank.directory.effects import NodeRecord
from fogbank.directory.store_shell import Store, StoreError
from tests.directory.factory import START


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "authority.sqlite")
    yield opened
    opened.close()


def test_a_new_store_is_empty(store: Store) -> None:
    restored = store.restore()
    assert (restored.journals, restored.nodes, restored.consensus) == ({}, (), b"")
    assert store.evidence() == []


def test_what_is_kept_comes_back(store: Store, tmp_path: Path) -> None:
    record = NodeRecord(b"i" * 32, b"descriptor", START, START + 1)
    store.journal_vote(START, b"vote")
    store.journal_signature(START, b"body")
    store.journal_vote(START + 30, b"vote 2")
    store.keep_consensus(START, b"old")
    store.keep_consensus(START + 30, b"new")
    store.keep_nodes([record, NodeRecord(b"j" * 32, b"x", 1, 2)], [])
    store.keep_nodes([], [b"j" * 32])
    store.keep_evidence(START, b"a" * 32, b"proof")
    store.close()
    again = Store(tmp_path / "authority.sqlite")
    restored = again.restore()
    assert restored.journals == {
        START: Journal(b"vote", b"body"),
        START + 30: Journal(b"vote 2"),
    }
    assert restored.nodes == (record,)
    assert restored.consensus == b"new"
    assert again.evidence() == [b"proof"]
    again.close()


def test_the_mint_s_consensus_and_dealings_stay(store: Store) -> None:
    """However many consensuses without a state of the mint come after it."""
    store.keep_consensus(START, b"with the mint")
    store.keep_mint(START, b"with the mint")
    store.keep_dealings([(0, b"one"), (0, b"two"), (1, b"three")])
    for number in range(1, 60):
        store.keep_consensus(START + number, b"without")
    assert (store.restore().mint, store.restore().consensus) == (b"with the mint", b"without")
    assert sorted(store.restore().dealings) == [(0, b"one"), (0, b"two"), (1, b"three")]
    store.keep_mint(START + 100, b"fetched")
    store.keep_dealings([(1, b"three")])
    assert store.restore().mint == store.restore().consensus == b"fetched"
    assert store.restore().dealings == ((1, b"three"),)
    store.keep_consensus(START + 101, b"without")
    assert store.restore().mint == b"fetched"


def test_a_database_of_the_version_before_is_carried_on(store: Store, tmp_path: Path) -> None:
    store.keep_consensus(START, b"kept")
    for table in ("mint", "dealing"):
        store._db.execute(f"DROP TABLE {table}")
    store._db.execute("PRAGMA user_version=1")
    store.close()
    again = Store(tmp_path / "authority.sqlite")
    assert (again.restore().consensus, again.restore().mint) == (b"kept", b"")
    again.keep_mint(START, b"kept")
    assert again.restore().mint == b"kept"
    again._db.execute("PRAGMA user_version=3")
    again.close()
    with pytest.raises(StoreError, match="another version"):
        Store(tmp_path / "authority.sqlite")


def test_one_thing_is_signed_once(store: Store) -> None:
    store.journal_vote(START, b"vote")
    store.journal_vote(START, b"vote")
    with pytest.raises(StoreError, match="does the authority run twice"):
        store.journal_vote(START, b"another")
    store.journal_signature(START, b"body")
    with pytest.raises(StoreError, match="does the authority run twice"):
        store.journal_signature(START, b"another")
    assert store.restore().journals[START] == Journal(b"vote", b"body")


def test_old_things_go(store: Store) -> None:
    store.journal_vote(START, b"vote")
    store.journal_vote(START + 86_401, b"vote")
    for number in range(60):
        store.keep_consensus(START + number, b"%d" % number)
    for number in range(20):
        store.keep_evidence(START + number, b"a" * 32, b"%d" % number)
    restored = store.restore()
    assert set(restored.journals) == {START + 86_401}
    assert restored.consensus == b"59"
    assert store.evidence() == [b"%d" % n for n in range(19, 3, -1)]


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"database .* failed: unable to open"):
        Store(tmp_path / "missing" / "file")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(garbage)
    newer = tmp_path / "newer"
    store = Store(newer)
    store._db.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(StoreError, match="another version of Fogbank"):
        Store(newer)


def test_a_full_disk_is_said_in_a_sentence_and_harms_nothing(store: Store) -> None:
    store.journal_vote(START, b"vote")
    store._db.execute("PRAGMA max_page_count=20")
    with pytest.raises(StoreError, match="full"):
        store.keep_consensus(START, bytes(1_000_000))
    store._db.execute("PRAGMA max_page_count=100000")
    store.keep_consensus(START, bytes(1_000_000))
    assert store.restore().journals == {START: Journal(b"vote")}


WRITER = """
import sys
from pathlib import Path
from fogbank.directory.effects import NodeRecord
from fogbank.directory.store_shell import Store
store = Store(Path(sys.argv[1]))
for number in range(100_000):
    when = 1_800_000_000 + number
    store.journal_vote(when, b"vote %d" % number)
    store.journal_signature(when, b"body %d" % number)
    store.keep_consensus(when, bytes(20_000))
    store.keep_nodes([NodeRecord(bytes(32), bytes(500), number, number)], [])
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 23])
def test_killed_while_it_writes(tmp_path: Path, after: int) -> None:
    """Everything that a finished call journaled is there; nothing is half there."""
    path = tmp_path / "authority.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            done = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        done = max([done, *(int(line) for line in writer.stdout.read().split("\n")[:-1] if line)])
    store = Store(path)
    restored = store.restore()
    for number in range(done + 1):
        journal = restored.journals[START + number]
        assert journal == Journal(b"vote %d" % number, b"body %d" % number)
    assert len(restored.journals) <= done + 2
    assert len(restored.consensus) == 20_000
    assert restored.nodes[0].first_seen >= done
    store.journal_vote(START + 200_000, b"goes on")
    store.close()
