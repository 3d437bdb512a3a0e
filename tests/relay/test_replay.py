"""The replay cache (spec/03 §2.4): what it must remember, and how little it may hold."""

import pytest

from fogbank.relay.errors import ProtocolError
from fogbank.relay.replay import ReplayCache


def number(value: int) -> bytes:
    return value.to_bytes(32, "big")


def test_the_latest_generation_is_always_remembered() -> None:
    cache = ReplayCache(generation=8)
    for value in range(100):
        cache.add(b"B", number(value))
        for known in range(max(0, value - 7), value + 1):
            with pytest.raises(ProtocolError, match="replayed"):
                cache.add(b"B", number(known))


def test_a_flood_is_never_refused_and_memory_stays_bounded() -> None:
    cache = ReplayCache(generation=8)
    for value in range(1000):
        cache.add(b"B", number(value))
        assert len(cache) <= 16


def test_what_is_older_than_two_generations_is_forgotten() -> None:
    cache = ReplayCache(generation=8)
    for value in range(17):
        cache.add(b"B", number(value))
    cache.add(b"B", number(0))


def test_onion_keys_are_apart_and_the_first_ones_are_forgotten() -> None:
    cache = ReplayCache()
    for key in (b"1", b"2", b"3"):
        cache.add(key, number(1))
    assert len(cache) == 3
    for key in (b"1", b"2", b"3"):
        with pytest.raises(ProtocolError):
            cache.add(key, number(1))
    cache.add(b"4", number(1))
    assert len(cache) == 3
    cache.add(b"1", number(1))


def test_the_default_holds_what_the_spec_asks() -> None:
    cache = ReplayCache()
    for value in range(3 * 65_536):
        cache.add(b"B", number(value))
    assert 65_536 <= len(cache) <= 2 * 65_536
    with pytest.raises(ProtocolError):
        cache.add(b"B", number(2 * 65_536))
