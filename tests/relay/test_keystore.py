"""A node's keys: renewed in time (spec/01 §2), and whole on disk whatever happens."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from stat import S_IMODE

import pytest

from fogbank.relay.certificates import DAY, Use, open_certificate
from fogbank.relay.codec import decode
from fogbank.relay.errors import KeyStoreError, ProtocolError
from fogbank.relay.keystore_shell import (
    KeyStore,
    create_family_key,
    issue_family_certificate,
    keep_secret,
    load_family_key,
)
from fogbank.relay.node_keys import NodeKeys
from fogbank.sandbox.files_shell import write_atomic
from tests.relay.stores import NOW, reopened


def test_a_new_store_proves_its_identity(store: KeyStore) -> None:
    keys = store.chain.verify(NOW)
    assert keys.identity == store.identity
    assert keys.signing == store.signing_key.public
    assert keys.link == store.credentials(NOW).link_key.public
    assert [key.public for key in store.onion_keys()] == [keys.onion]
    assert not store.rotate(NOW)


def test_only_the_owner_can_read(store: KeyStore) -> None:
    assert S_IMODE(store._folder.stat().st_mode) == 0o700
    files = sorted(store._folder.iterdir())
    assert [file.name for file in files] == ["identity.key", "node.keys"]
    assert {S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_store_comes_back_from_disk(store: KeyStore) -> None:
    again = reopened(store)
    assert again.identity == store.identity
    assert again.chain == store.chain
    assert [k.public for k in again.onion_keys()] == [k.public for k in store.onion_keys()]


def test_no_repr_shows_a_secret(store: KeyStore) -> None:
    seed = store.signing_key.seed()
    shown = repr(store._keys) + repr(store.credentials(NOW)) + repr(store)
    assert repr(seed) not in shown
    assert seed.hex() not in shown


def test_keys_are_renewed_when_they_are_due(store: KeyStore) -> None:
    """Walk through a hundred days, three hours at a time."""
    seen: dict[str, list[float]] = {"signing": [NOW], "link": [NOW], "onion": [NOW]}
    before, accepted = store.chain.verify(NOW), 1
    for hour in range(3, 100 * 24, 3):
        now = NOW + hour * 3600
        changed = store.rotate(now)
        keys = store.chain.verify(now)
        assert changed == (keys != before or len(store.onion_keys()) != accepted)
        for name, times in seen.items():
            if getattr(keys, name) != getattr(before, name):
                times.append(now)
        before, accepted = keys, len(store.onion_keys())
        assert store.onion_keys()[0].public == keys.onion
    gaps = {
        name: {round((late - early) / DAY) for early, late in pairwise(times)}
        for name, times in seen.items()
    }
    assert gaps == {"signing": {20}, "link": {1}, "onion": {7}}
    assert len(seen["onion"]) == 15


def test_the_previous_onion_key_is_accepted_for_a_day_more(store: KeyStore) -> None:
    (old,) = store.onion_keys()
    assert not store.rotate(NOW + DAY - 1)
    assert store.rotate(NOW + 7 * DAY)
    new, kept = store.onion_keys()
    assert kept.public == old.public
    assert new.public != old.public
    store.rotate(NOW + 8 * DAY - 1)
    assert len(store.onion_keys()) == 2
    store.rotate(NOW + 8 * DAY)
    assert [key.public for key in store.onion_keys()] == [new.public]
    assert [key.public for key in reopened(store).onion_keys()] == [new.public]


def test_a_node_that_slept_for_weeks_starts_anew(store: KeyStore) -> None:
    now = NOW + 50 * DAY
    with pytest.raises(ProtocolError, match="expired"):
        store.chain.verify(now)
    assert store.rotate(now)
    store.chain.verify(now)
    assert len(store.onion_keys()) == 1


def test_keys_made_while_the_clock_was_wrong_are_replaced(store: KeyStore) -> None:
    now = NOW - 400 * DAY
    assert store.rotate(now)
    store.chain.verify(now)


def test_a_clock_that_goes_back_a_little_changes_nothing(store: KeyStore) -> None:
    assert not store.rotate(NOW - 60)


def test_an_offline_identity_serves_until_the_signing_key_expires(store: KeyStore) -> None:
    path = store._folder / "identity.key"
    secret = path.read_bytes()
    path.unlink()
    store = reopened(store)
    assert store.rotate(NOW + 8 * DAY)
    with pytest.raises(KeyStoreError, match=r"run `fog relay key request`"):
        store.rotate(NOW + 20 * DAY)
    # All else was renewed, and serves on.
    store.chain.verify(NOW + 21 * DAY)
    store.credentials(NOW + 21 * DAY)
    with pytest.raises(KeyStoreError, match=r"expired on 2027-02-14"):
        store.credentials(NOW + 30 * DAY)
    path.write_bytes(secret)
    path.chmod(0o600)
    assert store.rotate(NOW + 31 * DAY)
    store.chain.verify(NOW + 31 * DAY)
    store.credentials(NOW + 31 * DAY)


def test_another_nodes_identity_is_refused(store: KeyStore, tmp_path: Path) -> None:
    other = KeyStore.create(tmp_path / "other", NOW)
    (other._folder / "identity.key").replace(store._folder / "identity.key")
    with pytest.raises(KeyStoreError, match="another node's"):
        store.rotate(NOW + 20 * DAY)


def test_keys_are_never_overwritten(store: KeyStore) -> None:
    before = {file.name: file.read_bytes() for file in store._folder.iterdir()}
    with pytest.raises(KeyStoreError, match="already"):
        KeyStore.create(store._folder, NOW)
    assert {file.name: file.read_bytes() for file in store._folder.iterdir()} == before


def test_a_damaged_store_is_made_again_with_the_same_identity(store: KeyStore) -> None:
    (store._folder / "node.keys").unlink()
    again = KeyStore.create(store._folder, NOW)
    assert again.identity == store.identity


@pytest.mark.parametrize("name", ["identity.key", "node.keys"])
def test_damage_anywhere_in_a_file_is_one_clear_error(store: KeyStore, name: str) -> None:
    path = store._folder / name
    whole = path.read_bytes()

    def read() -> None:
        KeyStore.open(store._folder).rotate(NOW + 20 * DAY)

    broken = [whole[:length] for length in range(0, len(whole), 17)]
    broken += [whole + b"\0", b"garbage", whole * 40]
    for position in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        broken.append(bytes(flipped))
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(KeyStoreError, match=rf"{name} is damaged: .*(delete|put back)"):
            read()


def test_a_key_beside_another_keys_certificate_is_refused(store: KeyStore) -> None:
    keys = store._keys
    mixed = NodeKeys(keys.identity, keys.signing, keys.signing, keys.onion)
    with pytest.raises(ProtocolError):
        NodeKeys.decode(mixed.encode())
    assert NodeKeys.decode(keys.encode()) == keys
    assert isinstance(decode(keys.encode(), 8192), dict)


def test_a_missing_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="initialise the node first"):
        KeyStore.open(tmp_path / "nowhere")


def test_a_file_that_others_can_read_is_refused(store: KeyStore) -> None:
    (store._folder / "node.keys").chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        KeyStore.open(store._folder)


def test_a_family_key_makes_members(tmp_path: Path, store: KeyStore) -> None:
    path = tmp_path / "family.key"
    key = create_family_key(path)
    assert load_family_key(path).public == key.public
    assert S_IMODE(path.stat().st_mode) == 0o600
    certificate = issue_family_certificate(key, store.identity, NOW)
    opened = open_certificate(certificate, Use.FAMILY, NOW, key.public)
    assert opened.subject == store.identity
    with pytest.raises(KeyStoreError, match="already"):
        create_family_key(path)
    with pytest.raises(KeyStoreError, match="damaged"):
        load_family_key(store._folder / "identity.key")


# What can go wrong while a file is written, step by step.


class Killed(BaseException):
    """Stands for a kill -9: nothing after it runs, no handler cleans up."""


def break_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let the `step`-th system call of a write fail; calls: ftruncate, fchmod, fsync, replace, …"""
    calls = iter(range(100))

    def breaking(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(calls) == step:
                raise error
            return real(*arguments, **named)

        return call

    for name in ("ftruncate", "fchmod", "fsync"):
        monkeypatch.setattr(os, name, breaking(getattr(os, name)))
    monkeypatch.setattr(Path, "replace", breaking(Path.replace))


# ftruncate, fchmod, fsync, replace, fsync of the folder.
@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")])
def test_a_write_that_breaks_off_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with monkeypatch.context() as patch:
        break_at(patch, step, error)
        with pytest.raises(type(error)):
            write_atomic(path, b"new")
    assert path.read_bytes() == (b"new" if step == 4 else b"old")
    left = [file.name for file in tmp_path.iterdir()]
    assert len(left) <= (2 if isinstance(error, Killed) else 1)
    write_atomic(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", range(5))
def test_a_rotation_that_breaks_off_leaves_a_readable_store(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    later = NOW + 20 * DAY
    with monkeypatch.context() as patch:
        break_at(patch, step, Killed())
        with pytest.raises(Killed):
            store.rotate(later)
    again = reopened(store)
    assert again.identity == store.identity
    again.rotate(later)
    again.chain.verify(later)


@pytest.mark.parametrize("step", range(13))
def test_a_creation_that_breaks_off_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = tmp_path / "keys"
    with monkeypatch.context() as patch:
        break_at(patch, step, Killed())
        try:
            created = KeyStore.create(folder, NOW)
        except Killed:
            created = None
    assert (created is None) == (step < 11)
    if not (folder / "node.keys").exists():
        KeyStore.create(folder, NOW)
    KeyStore.open(folder).chain.verify(NOW)


def test_a_full_disk_says_so_and_keeps_the_old_keys(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = store.chain
    with monkeypatch.context() as patch:
        break_at(patch, 2, OSError(28, "No space left on device"))
        with pytest.raises(KeyStoreError, match=r"No space left on device.*free some space"):
            store.rotate(NOW + 2 * DAY)
    assert store.chain == chain
    assert reopened(store).chain == chain


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    program = (
        "import sys, pathlib\n"
        "from fogbank.sandbox.files_shell import write_atomic\n"
        "for n in range(200):\n"
        "    write_atomic(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 5000)\n"
        "    data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "    assert len(data) == 5000 and len(set(data)) == 1, data[:10]\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), letter]) for letter in "ab"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# One process forks another that renews its keys without end, and kills it at a moment that
# nobody chose: as soon as a number of renewals were reported.
KILLER = """
import os, signal, sys
from pathlib import Path
from fogbank.relay.keystore_shell import KeyStore

folder, now, kills = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
identity = KeyStore.open(folder).identity
for kill in range(kills):
    report, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(report)
        store = KeyStore.open(folder)
        while True:
            now += 86_400
            store.rotate(now)
            os.write(told, b".")
    os.close(told)
    for _ in range(1 + kill % 4):
        assert os.read(report, 1) == b"."
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    os.close(report)
    store = KeyStore.open(folder)
    assert store.identity == identity
    now += 30 * 86_400
    store.rotate(now)
    store.chain.verify(now)
"""


def test_kills_during_rotations_leave_a_readable_store(store: KeyStore) -> None:
    kills = 20
    subprocess.run(
        [sys.executable, "-c", KILLER, str(store._folder), str(NOW), str(kills)],
        check=True,
        timeout=60,
    )
    assert KeyStore.open(store._folder).identity == store.identity
    assert len(list(store._folder.iterdir())) <= 3


def test_a_store_is_replaced_whole(store: KeyStore) -> None:
    """Nobody writes into the file that a reader has open."""
    path = store._folder / "node.keys"
    with path.open("rb") as reader:
        before = path.stat().st_ino
        store.rotate(NOW + 2 * DAY)
        assert path.stat().st_ino != before
        NodeKeys.decode(reader.read())


def test_a_secret_is_made_once_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "mint.key"
    secret = keep_secret(path, "mint")
    assert len(secret) == 32
    assert keep_secret(path, "mint") == secret
    assert S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyStoreError, match="damaged"):
        keep_secret(path, "identity")


def test_a_secret_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    """What is killed before the file has its name makes another one at the next start."""
    path = tmp_path / "mint.key"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyStoreError, match="free some space"):
        keep_secret(path, "mint", write=fail)
    assert not path.exists()
    path.write_bytes(b"")
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="damaged"):
        keep_secret(path, "mint")
