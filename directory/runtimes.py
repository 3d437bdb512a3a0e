"""Runtimes that a network accepts: what votes name, and what a quorum agrees on (spec/05 §3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fogbank.directory.entries import MAX_RUNTIMES, is_name
from fogbank.relay.codec import Value, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.sandbox.limits import MODULE_SIZE
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, DIGEST_SIZE, RuntimeId

EXTENSION = 2
"""The number of the vote's extension that holds a list of runtimes (spec/05 §3.1)."""
LIST_LIMIT = 4 << 10


@dataclass(frozen=True, slots=True, order=True)
class Runtime:
    """A runtime as votes and consensuses name it: the SHA-256 and the bytes of its module."""

    name: str
    digest: bytes
    size: int

    @property
    def id(self) -> RuntimeId:
        """How a job names it."""
        return RuntimeId(self.digest)


Runtimes = tuple[Runtime, ...]
"""Each digest once, in the order of names and digests."""

KNOWN: Runtimes = tuple(sorted(Runtime(each.name, each.digest, each.size) for each in CATALOGUE))
"""Those of this program, which an authority votes for unless its operator says otherwise."""


def runtimes_value(runtimes: Runtimes) -> Value:
    """Return the CBOR array of a list."""
    return [[runtime.name, runtime.digest, runtime.size] for runtime in runtimes]


def runtimes_from_value(value: Any) -> Runtimes:
    """Read a list of runtimes; raise `ProtocolError` for anything else."""
    if type(value) is not list or len(value) > MAX_RUNTIMES:
        raise ProtocolError(f"runtimes are not a list of at most {MAX_RUNTIMES}")
    runtimes = tuple(map(_runtime, value))
    if any((a.name, a.digest) >= (b.name, b.digest) for a, b in pairwise(runtimes)):
        raise ProtocolError("runtimes are out of order")
    if len({runtime.digest for runtime in runtimes}) != len(runtimes):
        raise ProtocolError("one runtime has two names")
    return runtimes


def _runtime(value: Any) -> Runtime:
    match value:
        case [str(name), bytes(digest), int(size)] if is_runtime(name, digest, size):
            return Runtime(name, digest, size)
        case _:
            raise ProtocolError("a list of runtimes holds something else than [name, digest, size]")


def is_runtime(name: object, digest: bytes, size: object) -> bool:
    """Tell whether a runtime may be named so, and have that size."""
    fits = type(size) is int and 1 <= size <= MODULE_SIZE
    return is_name(name) and len(digest) == DIGEST_SIZE and fits


def encode_runtimes(runtimes: Runtimes) -> bytes:
    """Return the extension's bytes."""
    return encode(runtimes_value(runtimes))


def decode_runtimes(data: bytes) -> Runtimes:
    """Read the extension of a vote; raise `ProtocolError` for anything else."""
    return runtimes_from_value(decode(data, LIST_LIMIT))


def agreed(lists: Iterable[Sequence[Runtime]], quorum: int) -> Runtimes:
    """Return those that a quorum of lists name alike.

    No list names a digest twice, and two quorums share a list: so neither does what is agreed on.
    """
    counts = Counter(runtime for runtimes in lists for runtime in runtimes)
    return tuple(sorted(each for each, count in counts.items() if count >= quorum)[:MAX_RUNTIMES])
