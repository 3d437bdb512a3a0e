"""Every decoder of the project against hostile bytes: only its one error may escape (spec/00 §5).

A decoder is registered with valid examples (`tests/fuzz/registry.py`). It is then given each cut at
every byte, with every byte changed, with parts replaced, well-formed CBOR of the wrong shape in
the place of each field, and arbitrary bytes. Decoders of a stream are given all this in portions
too, byte by byte among them: how bytes are cut into portions must change nothing.

The coverage-guided fuzzer in `tests/fuzz` goes further with the same decoders.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.relay.codec import MAX_KEY, decode, encode
from fogbank.relay.errors import ProtocolError
from tests.fuzz.kinds import Decoder, StreamDecoder, byte_by_byte, check, outcome
from tests.fuzz.registry import DECODERS, STREAMS

EXAMPLES = [
    pytest.param(decoder, seed, id=f"{decoder.name}{number or ''}")
    for decoder in DECODERS
    for number, seed in enumerate(decoder.seeds)
]
each = pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.name)
each_example = pytest.mark.parametrize(("decoder", "valid"), EXAMPLES)
each_stream = pytest.mark.parametrize("stream", STREAMS, ids=lambda d: d.name)
fuzzed = settings(max_examples=25, deadline=None, derandomize=True)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 20) | st.just(MAX_KEY), inner, max_size=4)
    ),
    max_leaves=10,
)


def mangled(data: st.DataObject, valid: bytes) -> bytes:
    """Replace some bytes of `valid` by others, fewer or more."""
    at = data.draw(st.integers(0, len(valid)))
    until = data.draw(st.integers(at, min(len(valid), at + 40)))
    return valid[:at] + data.draw(st.binary(max_size=40)) + valid[until:]


@each_example
def test_a_valid_example_is_accepted(decoder: Decoder, valid: bytes) -> None:
    assert check(decoder, valid)


@each_example
def test_cut_at_every_byte(decoder: Decoder, valid: bytes) -> None:
    step = max(1, len(valid) // 500)
    for end in range(0, len(valid), step):
        accepted = check(decoder, valid[:end])
        assert not (accepted and decoder.exact), end
    assert not (check(decoder, valid + b"\0") and decoder.exact)


@each_example
def test_every_byte_changed(decoder: Decoder, valid: bytes) -> None:
    for place in range(0, len(valid), max(1, len(valid) // 500)):
        data = bytearray(valid)
        data[place] ^= 1 << place % 8
        check(decoder, bytes(data))


@each
@fuzzed
@given(data=st.data())
def test_arbitrary_and_mangled_bytes(decoder: Decoder, data: st.DataObject) -> None:
    check(decoder, data.draw(st.binary(max_size=300)))
    check(decoder, mangled(data, data.draw(st.sampled_from(decoder.seeds))))


@each
@fuzzed
@given(data=st.data())
def test_well_formed_cbor_of_the_wrong_shape(decoder: Decoder, data: st.DataObject) -> None:
    """Any value in the place of one field, however deep, or of everything."""
    try:
        whole = [decode(data.draw(st.sampled_from(decoder.seeds)), 1 << 20)]
    except ProtocolError:
        whole = [None]
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(VALUES)
    check(decoder, encode(whole[0]))


@each_stream
def test_a_valid_stream_is_the_same_in_any_portions(stream: StreamDecoder) -> None:
    found, error = outcome(stream, [stream.valid])
    assert found
    assert not error
    assert outcome(stream, byte_by_byte(stream.valid)) == (found, "")


@each_stream
@fuzzed
@given(data=st.data())
def test_a_hostile_stream_is_the_same_in_any_portions(
    stream: StreamDecoder, data: st.DataObject
) -> None:
    hostile = data.draw(st.binary(max_size=100))
    if data.draw(st.booleans()):
        hostile = mangled(data, stream.valid)
    whole = outcome(stream, [hostile])
    assert outcome(stream, byte_by_byte(hostile)) == whole
    cut = data.draw(st.integers(0, len(hostile)))
    assert outcome(stream, [hostile[:cut], hostile[cut:]]) == whole
