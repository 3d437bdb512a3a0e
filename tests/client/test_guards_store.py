"""Guards on disk (spec/06 §2.5): damage, foreign files, full disks, and two programs at once."""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.client.guards import Guard, GuardState, Outcome, report, update
from fogbank.client.guards_codec import GUARDS_LIMIT, decode_guards, encode_guards
from fogbank.client.guards_store_shell import GuardStore
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.sandbox.files_shell import write_atomic
from tests.client import networks
from tests.client.networks import NETWORK_ID, NOW, SeededChooser

TOPOLOGY = networks.topology(networks.small_network())
STATE = update(GuardState(), TOPOLOGY, NOW, SeededChooser("store"))
VALID = encode_guards(STATE, NETWORK_ID)


def store(folder: Path, said: list[str] | None = None) -> GuardStore:
    unheard: list[str] = []
    return GuardStore(folder, NETWORK_ID, unheard.append if said is None else said.append)


def current(store: GuardStore) -> GuardState:
    return store.change(lambda state: state)


def sample_again(state: GuardState) -> GuardState:
    return update(state, TOPOLOGY, NOW, SeededChooser("again"))


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    said: list[str] = []
    first = store(tmp_path, said).change(sample_again)
    assert len(first.sample) == 5
    assert store(tmp_path, said).change(sample_again) == first
    assert said == []
    assert (tmp_path / "guards").stat().st_mode & 0o777 == 0o600


def test_two_programs_see_each_others_guards(tmp_path: Path) -> None:
    one, two = store(tmp_path), store(tmp_path)
    state = one.change(sample_again)
    assert current(two) == state
    guard = state.sample[3].identity
    changed = two.change(
        lambda state: report(state, guard, Outcome.UNREACHABLE, NOW, SeededChooser(0))
    )
    assert changed != state
    assert current(one) == changed


def test_programs_at_once_lose_no_change(tmp_path: Path) -> None:
    def add(number: int) -> None:
        mine = store(tmp_path)
        for count in range(5):
            guard = Guard(networks.identity(f"{number} {count}"), NOW, NOW + 1)
            mine.change(lambda state, g=guard: replace(state, sample=(*state.sample, g)))  # type: ignore[misc]

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(current(store(tmp_path)).sample) == 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not at all",
        VALID[:-1],
        VALID + b"\0",
        VALID[:40] + b"\xff" + VALID[41:],
        encode_guards(STATE, b"x" * 32),
        encode({1: 2, 2: NETWORK_ID, 3: [], 4: [], 5: 0}),
        encode({1: 1, 2: NETWORK_ID, 3: [[b"g" * 32]], 4: [], 5: 0}),
        encode({1: 1, 2: NETWORK_ID, 3: [], 4: [[b"g" * 32, 1], [b"g" * 32, 2]], 5: 0}),
        encode({1: 1, 2: NETWORK_ID, 3: [], 4: [[b"g" * 31, 1]], 5: 0}),
        encode({1: 1, 2: NETWORK_ID, 3: [], 4: [[b"g" * 32, -1]], 5: 0}),
        bytes(GUARDS_LIMIT + 1),
    ],
)
def test_a_damaged_or_foreign_file_is_set_aside_in_one_line(tmp_path: Path, data: bytes) -> None:
    said: list[str] = []
    (tmp_path / "guards").write_bytes(data)
    state = store(tmp_path, said).change(sample_again)
    assert len(state.sample) == 5
    (sentence,) = said
    assert "guards.corrupt" in sentence
    assert "\n" not in sentence
    assert (tmp_path / "guards.corrupt").read_bytes() == data
    assert current(store(tmp_path, said)) == state
    assert len(said) == 1


def test_a_full_disk_leaves_the_old_file_and_the_client_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    old = store(tmp_path).change(sample_again)
    before = (tmp_path / "guards").read_bytes()
    full = True

    def write(path: Path, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data)

    client = GuardStore(tmp_path, NETWORK_ID, said.append, write)
    guard = old.sample[0].identity

    def fail(state: GuardState) -> GuardState:
        return report(state, guard, Outcome.UNREACHABLE, NOW, SeededChooser(0))

    once = client.change(fail)
    twice = client.change(fail)
    assert (once.sample[0].failures, twice.sample[0].failures) == (1, 2)
    assert (tmp_path / "guards").read_bytes() == before
    (sentence,) = said
    assert "No space left" in sentence
    full = False
    kept = client.change(lambda state: state)
    assert kept == twice == current(store(tmp_path))


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    gone = store(tmp_path / "missing", said)
    for _ in range(3):
        state = gone.change(sample_again)
    assert len(state.sample) == 5
    assert len(said) == len(set(said)) == 2


def test_circuits_alone_are_not_worth_a_write(tmp_path: Path) -> None:
    writes = 0

    def write(path: Path, data: bytes) -> None:
        nonlocal writes
        writes += 1
        write_atomic(path, data)

    said: list[str] = []
    client = GuardStore(tmp_path, NETWORK_ID, said.append, write)
    state = client.change(sample_again)
    guard = state.sample[0].identity
    for second in range(100):
        state = client.change(
            lambda state, at=NOW + second: report(  # type: ignore[misc]
                state, guard, Outcome.BUILT, at, SeededChooser(0)
            )
        )
    assert state.sample[0].circuits == 100
    assert 2 <= writes <= 3
    assert said == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_only_the_protocol_error_leaves_the_decoder(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(VALID)))
    until = data.draw(st.integers(at, min(at + 40, len(VALID))))
    mangled = VALID[:at] + data.draw(st.binary(max_size=40)) + VALID[until:]
    try:
        state = decode_guards(mangled, NETWORK_ID)
    except ProtocolError:
        return
    assert encode_guards(state, NETWORK_ID) == mangled


def test_every_prefix_is_refused() -> None:
    for length in range(len(VALID)):
        with pytest.raises(ProtocolError):
            decode_guards(VALID[:length], NETWORK_ID)
