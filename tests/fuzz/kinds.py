"""What a decoder of hostile bytes is, to its tests, and what must hold of every input.

`check` is the one judge: Hypothesis, the coverage-guided fuzzer and the replay of the corpora
all ask it. For a `Decoder`:

* nothing but its one error escapes;
* what it accepts can be encoded, and decodes to the same again;
* if it is `canonical`, no other bytes mean the same.

For a `StreamDecoder`: only `ProtocolError` escapes, and how the bytes are cut into portions
changes neither what is found nor where it ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from fogbank.relay.errors import ProtocolError


class Form(Enum):
    """What the bytes are made of, for a mutator that changes one part and leaves the rest whole."""

    BYTES = "bytes"
    CBOR = "cbor"
    TOML = "toml"
    JSON = "json"
    WASM = "wasm"
    """A binary module: sections, and in the code section the bodies of functions, by length."""
    FRAMES = "frames"
    """A length of four bytes before each CBOR document, and attachments between them."""


def as_it_is(data: bytes) -> bytes:
    """Repair nothing."""
    return data


@dataclass(frozen=True)
class Decoder:
    """What takes hostile bytes apart; `valid` is what it accepts, `error` all that it may raise.

    With `exact` nothing shorter or longer than `valid` is accepted if it begins with it. `more`
    are further inputs to begin with. `again` encodes what was decoded. `repair` signs a document
    anew after it was changed, so that what stands behind its signatures is reached too. `limit`
    bounds the inputs that the fuzzer makes.
    """

    name: str
    decode: Callable[[bytes], Any]
    valid: bytes
    error: type[Exception] = ProtocolError
    exact: bool = True
    more: tuple[bytes, ...] = ()
    again: Callable[[Any], bytes] | None = None
    canonical: bool = True
    form: Form = Form.CBOR
    repair: Callable[[bytes], bytes] = as_it_is
    limit: int = 2048

    @property
    def seeds(self) -> tuple[bytes, ...]:
        """All inputs to begin with."""
        return (self.valid, *self.more)


@dataclass(frozen=True)
class StreamDecoder:
    """What takes a hostile stream apart; `decode` gets it in portions and yields what it finds."""

    name: str
    decode: Callable[[Iterable[bytes]], Iterator[object]]
    valid: bytes
    error: type[Exception] = ProtocolError
    more: tuple[bytes, ...] = ()
    form: Form = Form.BYTES
    repair: Callable[[bytes], bytes] = as_it_is
    limit: int = 1024

    @property
    def seeds(self) -> tuple[bytes, ...]:
        """All inputs to begin with."""
        return (self.valid, *self.more)


AnyDecoder: TypeAlias = Decoder | StreamDecoder


def check(decoder: AnyDecoder, data: bytes) -> bool:
    """Decode, and tell whether it was accepted; raise if anything is wrong with the decoder."""
    if isinstance(decoder, StreamDecoder):
        return check_stream(decoder, data)
    try:
        value = decoder.decode(data)
    except decoder.error:
        return False
    if decoder.again is not None:
        encoded = decoder.again(value)
        if decoder.canonical:
            assert encoded == data, f"other bytes mean the same: {encoded.hex()}"
        else:
            assert decoder.again(decoder.decode(encoded)) == encoded, "encoded, it changes"
    return True


def check_stream(stream: StreamDecoder, data: bytes) -> bool:
    """Decode whole, byte by byte, and cut at a place that the data choose."""
    whole = outcome(stream, [data])
    cut = zlib.crc32(data) % (len(data) + 1)
    assert outcome(stream, [data[:cut], data[cut:]]) == whole, f"cut at {cut} it is another"
    assert outcome(stream, byte_by_byte(data)) == whole, "byte by byte it is another"
    return not whole[1]


def outcome(stream: StreamDecoder, portions: Iterable[bytes]) -> tuple[list[object], str]:
    """Return what was found, and the error that ended it or nothing."""
    found: list[object] = []
    try:
        for item in stream.decode(portions):
            found.append(item)  # noqa: PERF402  what came before an error is kept too
    except stream.error as error:
        return found, str(error) or type(error).__name__
    return found, ""


def byte_by_byte(data: bytes) -> list[bytes]:
    """Return the smallest portions."""
    return [data[at : at + 1] for at in range(len(data))]
