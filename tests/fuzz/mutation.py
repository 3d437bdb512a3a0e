"""Structured mutation: one part of a document is changed, the rest stays whole.

Random bytes hardly ever get past a canonical encoding, and never past a signature. So a document
is parsed (CBOR, TOML, JSON, or frames of CBOR; within CBOR also the documents inside byte strings),
one to three places in it get another value, and it is encoded again; what was signed is then signed
anew. A part of the mutations is left to the engine's own mutator of bytes, and a part is not signed
anew, so that the front of every decoder is not forgotten. All follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fogbank.relay.codec import MAX_KEY, encode
from tests.fuzz.forms import put_together, taken_apart
from tests.fuzz.kinds import AnyDecoder, Form
from tests.fuzz.signing import nested

_PLAIN = 0.2
_UNSIGNED = 0.1
_GROWN = 0.15
_DEEPEST = 40
_WIDEST = 3
_INTEGERS = (0, 1, 2, 3, 23, 24, 255, 256, 65535, 65536, 1 << 31, 1 << 32, 1 << 53, (1 << 64) - 1)
_TEXTS = ("", "a", "\0", "\n", "é", "a" * 40, "\u202e", "127.0.0.1", "::1", "0", "-", "\x7f")
_STRINGS = (b"", b"\0", bytes(32), b"\xff" * 32, bytes(64), b"a" * 33)

MutateBytes = Callable[[bytes, int], bytes]
"""The engine's own mutator: bytes and the most that may come of them."""


class Mutator:
    """Changes inputs of one decoder; `mutate_bytes` does so without knowing what they are."""

    def __init__(self, decoder: AnyDecoder, mutate_bytes: MutateBytes) -> None:
        self._decoder = decoder
        self._mutate_bytes = mutate_bytes
        self._seen: list[Any] = [taken_apart(seed, decoder.form) for seed in decoder.seeds]
        self._others: dict[type, Callable[[Any, Random], Any]] = {
            bool: lambda old, _: not old,
            int: _other_integer,
            float: _other_float,
            bytes: self._other_bytes,
            str: self._other_text,
            list: self._other_list,
            dict: self._other_map,
        }

    def mutate(self, data: bytes, limit: int, seed: int) -> bytes:
        """Return another input, of at most `limit` bytes."""
        random = Random(seed)
        if self._decoder.form is Form.BYTES or random.random() < _PLAIN:
            return self._mutate_bytes(data, limit)
        value = taken_apart(data, self._decoder.form)
        if value is None:
            # What is broken is mended, or broken further.
            value = random.choice(self._seen)
            if random.random() < _PLAIN:
                return self._mutate_bytes(data, limit)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            value = self._changed(value, random)
        changed = put_together(value, self._decoder.form)
        if changed is not None and random.random() >= _UNSIGNED:
            changed = self._decoder.repair(changed)
        if changed is None or len(changed) > limit:
            return self._mutate_bytes(data, limit)
        return changed

    def cross(self, one: bytes, other: bytes, limit: int, seed: int) -> bytes:
        """Put a part of one input into another."""
        random = Random(seed)
        first, second = (taken_apart(each, self._decoder.form) for each in (one, other))
        if first is None or second is None:
            cut = random.randint(0, len(one))
            return (one[:cut] + other[random.randint(0, len(other)) :])[:limit]
        part = self._part(second, random)
        changed = put_together(self._replaced(first, random, lambda _: part), self._decoder.form)
        if changed is not None:
            changed = self._decoder.repair(changed)
        return one[:limit] if changed is None or len(changed) > limit else changed

    def _changed(self, value: Any, random: Random) -> Any:
        return self._replaced(value, random, lambda old: self._other(old, random))

    def _replaced(
        self, value: Any, random: Random, other: Callable[[Any], Any], depth: int = 0
    ) -> Any:
        """Return `value` with one place in it, however deep, turned into another value."""
        if depth < _DEEPEST:
            match value:
                case bytes() if (inner := nested(value)) is not None and random.random() < 0.9:
                    return _encoded(self._replaced(inner, random, other, depth + 1))
                case list() | dict() if value and random.random() > _GROWN:
                    copy: Any = value.copy()
                    key = random.choice(list(_keys(copy)))
                    copy[key] = self._replaced(copy[key], random, other, depth + 1)
                    return copy
        return other(value)

    def _part(self, value: Any, random: Random) -> Any:
        """Return something that stands somewhere in `value`."""
        for _ in range(_DEEPEST):
            if isinstance(value, bytes) and (inner := nested(value)) is not None:
                value = inner
            elif isinstance(value, list | dict) and value and random.random() > _GROWN:
                value = value[random.choice(list(_keys(value)))]
            else:
                break
        return value

    def _other(self, old: Any, random: Random) -> Any:
        """Return another value, mostly of the same type."""
        choice = random.random()
        if choice < 0.08:
            return self._part(random.choice(self._seen), random)
        if choice < 0.14:
            return self._any(random)
        return self._others.get(type(old), self._any_instead)(old, random)

    def _other_bytes(self, old: bytes, random: Random) -> bytes:
        if random.random() < 0.2:
            return random.choice(_STRINGS)
        if old and random.random() < 0.4:
            # Of the same length, as most byte strings have one.
            place = random.randrange(len(old))
            return old[:place] + bytes([random.randrange(256)]) + old[place + 1 :]
        return self._mutate_bytes(old, len(old) + 64)

    def _other_text(self, old: str, random: Random) -> str:
        if random.random() < 0.3:
            return random.choice(_TEXTS)
        data = old.encode("utf-8", "replace")
        changed = self._mutate_bytes(data, len(data) + 32)
        return changed.decode("utf-8", "replace")

    def _other_list(self, old: list[Any], random: Random) -> list[Any]:
        new = old.copy()
        place = random.randint(0, len(new))
        match random.randrange(5):
            case 0 if new:
                new.pop(random.randrange(len(new)))
            case 1 if new:
                new.insert(place, random.choice(new))
            case 2 if len(new) > 1:
                random.shuffle(new)
            case 3 if new:
                new *= random.choice((2, 3, 8, 33, 70))
            case _:
                new.insert(place, self._any(random))
        return new

    def _other_map(self, old: dict[Any, Any], random: Random) -> dict[Any, Any]:
        new = old.copy()
        if new and random.random() < 0.5:
            del new[random.choice(list(new))]
        if random.random() < 0.6:
            textual = any(isinstance(key, str) for key in old) or self._decoder.form in {
                Form.JSON,
                Form.TOML,
            }
            known = [key for seen in self._seen if isinstance(seen, dict) for key in seen]
            key: Any = random.choice([*known, "x"] if textual else [*range(20), MAX_KEY])
            new[key] = self._any(random)
        return new

    def _any_instead(self, _: Any, random: Random) -> Any:
        return self._any(random)

    def _any(self, random: Random, depth: int = 0) -> Any:
        """Return any value."""
        kinds: list[Callable[[], Any]] = [
            lambda: None if self._decoder.form is Form.CBOR else "",
            lambda: random.random() < 0.5,
            lambda: _other_integer(0, random),
            lambda: random.choice(_STRINGS),
            lambda: random.choice(_TEXTS),
        ]
        if depth < _WIDEST:
            kinds += [
                lambda: self._part(random.choice(self._seen), random),
                lambda: [self._any(random, depth + 1) for _ in range(random.randrange(4))],
                lambda: {
                    key: self._any(random, depth + 1)
                    for key in random.sample(range(20), random.randrange(4))
                },
                lambda: _deep(random.choice((1, 15, 16, 17, 300))),
            ]
        return random.choice(kinds)()


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _other_float(old: float, random: Random) -> float:
    return random.choice((0.0, -1.0, 1e300, float("inf"), float("nan"), old * 2))


def _other_integer(old: int, random: Random) -> int:
    match random.randrange(4):
        case 0:
            return old + random.choice((-1, 1, -2, 2, 600, -600, 86400, -86400))
        case 1:
            return -random.choice(_INTEGERS) - 1
        case 2:
            return random.getrandbits(random.choice((4, 8, 16, 32, 63, 64)))
        case _:
            return random.choice(_INTEGERS)


def _keys(value: list[Any] | dict[Any, Any]) -> Any:
    return value if isinstance(value, dict) else range(len(value))


def _encoded(value: Any) -> bytes:
    try:
        return encode(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return b""
