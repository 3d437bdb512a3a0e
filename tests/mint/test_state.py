"""The mint's state in a consensus: what is written is read, and nothing else (spec/09 §4.3)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.directory.consensus import open_consensus
from fogbank.directory.mint.state import (
    COMPLAIN,
    DEALING_LIMIT,
    Allotment,
    Generation,
    Member,
    MintKeys,
    MintState,
    Seat,
    SeriesRecord,
    state_from_value,
)
from fogbank.relay.codec import decode
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import make_consensus, make_synthetic

NAMES = [bytes([i]) * 32 for i in range(1, 5)]


def some(number: int, length: int) -> bytes:
    return (hashlib.sha256(bytes([number])).digest() * 4)[:length]


KEYS = [MintKeys(some(i, 48), some(i, 96), some(i, 32)) for i in range(4)]
MEMBERS = tuple(
    Member(name, some(i, 32) if i else b"", some(i, 96), 7 * i) for i, name in enumerate(NAMES)
)
SERIES = SeriesRecord(
    3, 3, some(9, 96), MEMBERS, ((NAMES[0], some(1, 32)), (NAMES[2], bytes(32))), 6
)
GENERATION = Generation(
    4,
    2,
    COMPLAIN,
    (Seat(NAMES[0]), *(Seat(name, KEYS[i]) for i, name in enumerate(NAMES) if i)),
    (NAMES[1],),
    ((NAMES[2], bytes(32)),),
    ((NAMES[2], b"dealing"),),
    (NAMES[0], NAMES[3]),
    1,
)
STATE = MintState(
    tuple(zip(NAMES, KEYS, strict=True)),
    GENERATION,
    (SERIES, replace(SERIES, number=4)),
    (Allotment(NAMES[0], 3, 5), Allotment(NAMES[0], 4, 6), Allotment(NAMES[1], 3, 1)),
)


def test_what_is_written_is_read() -> None:
    for state in (MintState(), STATE, replace(STATE, generation=None)):
        again = state_from_value(decode(state.encode(), 1 << 20))
        assert again == state
        assert again.digest() == state.digest()


def test_a_consensus_carries_it_from_method_4_on() -> None:
    network = make_synthetic().network
    plain = make_consensus(network)
    assert plain.mint is None
    assert 16 not in decode(plain.encode_body(), 1 << 20)
    body = replace(plain, mint=STATE).encode_body()
    assert decode(body, 1 << 20)[16] == decode(STATE.encode(), 1 << 20)
    with pytest.raises(ProtocolError, match="field 16 is unknown"):
        open_consensus(network.sign(body), network.document, plain.valid_after)


def test_what_is_looked_up() -> None:
    assert STATE.series_of(4) == replace(SERIES, number=4)
    assert STATE.series_of(5) is None
    assert STATE.allotted(NAMES[0], 4) == 6
    assert STATE.allotted(NAMES[1], 4) == 0
    assert [SERIES.place_of(name) for name in (*NAMES, bytes(32))] == [1, 2, 3, 4, 0]
    assert SERIES.member(1) == MEMBERS[0]
    assert SERIES.member(0) is SERIES.member(5) is None
    assert SERIES.faulty == 1


@pytest.mark.parametrize(
    "state",
    [
        replace(STATE, keys=STATE.keys[::-1]),
        replace(STATE, keys=(STATE.keys[0], STATE.keys[0])),
        replace(STATE, keys=((NAMES[0], replace(KEYS[0], y1=bytes(47))),)),
        replace(STATE, series=STATE.series[::-1]),
        replace(STATE, series=(replace(SERIES, quorum=5),)),
        replace(STATE, series=(replace(SERIES, quorum=0),)),
        replace(STATE, series=(replace(SERIES, key=bytes(95)),)),
        replace(STATE, series=(replace(SERIES, members=MEMBERS[::-1]),)),
        replace(STATE, series=(replace(SERIES, members=(replace(MEMBERS[0], vote_key=b"x"),)),)),
        replace(STATE, series=tuple(replace(SERIES, number=i) for i in range(17))),
        replace(STATE, allotments=STATE.allotments[::-1]),
        replace(STATE, allotments=(Allotment(NAMES[0], 3, 0),)),
        replace(STATE, generation=replace(GENERATION, step=4)),
        replace(STATE, generation=replace(GENERATION, step=0)),
        replace(STATE, generation=replace(GENERATION, attempt=1 << 32)),
        replace(STATE, generation=replace(GENERATION, committee=GENERATION.committee[::-1])),
        replace(STATE, generation=replace(GENERATION, committee=GENERATION.committee * 9)),
        replace(STATE, generation=replace(GENERATION, excluded=(NAMES[1], NAMES[1]))),
        replace(STATE, generation=replace(GENERATION, answered=(NAMES[1], NAMES[0]))),
        replace(STATE, generation=replace(GENERATION, rounds=256)),
        replace(STATE, series=(replace(SERIES, attempt=1 << 32),)),
        replace(STATE, generation=replace(GENERATION, commitments=((NAMES[1], bytes(31)),))),
        replace(
            STATE,
            generation=replace(GENERATION, dealings=((NAMES[1], bytes(DEALING_LIMIT + 1)),)),
        ),
    ],
)
def test_states_that_contradict_themselves(state: MintState) -> None:
    with pytest.raises(ProtocolError):
        state_from_value(decode(state.encode(), 1 << 20))


@given(st.data())
def test_a_state_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(STATE.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    try:
        state = state_from_value(decode(bytes(raw), 1 << 20))
    except ProtocolError:
        return
    assert state.encode() == bytes(raw)


@pytest.mark.parametrize("value", [None, 1, [], {}, {1: [], 3: []}, {1: [], 3: [], 4: [], 5: 0}])
def test_what_is_no_state(value: object) -> None:
    with pytest.raises(ProtocolError):
        state_from_value(value)
