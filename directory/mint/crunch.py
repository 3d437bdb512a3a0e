"""What the mint computes for many requests at once: signatures, points, pairings, shares. Pure.

A batch of tasks costs one pairing equation for each series whose tokens are in it, and if one is
wrong, what it takes to find it (spec/09 §1). The checks of a task are made the cheap ones first,
and a task that fails one is not looked into any further.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cbor2

from fogbank.directory.mint.points import (
    G1,
    G2,
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    sign_share,
    wrong_signatures,
)
from fogbank.relay.codec import Value
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import verify

MESSAGE_LIMIT: Final = 32 << 20
"""Bytes of a batch, or of its results, between two processes of one authority."""
KEPT_POINTS: Final = 8192
"""Decoded outputs that are kept, some 2 MB."""
GATHER_SECONDS: Final = 0.004
"""A batch begins so long after the one before, for each task in that."""
GATHER_MOST: Final = 0.010
"""Longest time from one batch to the next."""
FULL: Final = 32
"""So many tasks wait for no others."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A body that was signed under a label: pairs of a key and its signature."""

    label: str
    body: bytes
    signatures: tuple[tuple[bytes, bytes], ...]

    def value(self) -> Value:
        """Return the CBOR array."""
        return [self.label, self.body, [list(each) for each in self.signatures]]


@dataclass(frozen=True, slots=True)
class Task:
    """What has to hold of a request, and what is wanted of it.

    `statements` are what Ed25519 keys signed; `tokens` are serials and signatures by the key of the
    series; `outputs` are points, of which `wants_shares` says that they be signed.
    """

    series: int
    statements: tuple[Statement, ...]
    outputs: tuple[bytes, ...]
    tokens: tuple[tuple[bytes, bytes], ...] = ()
    wants_shares: bool = False

    @property
    def weight(self) -> int:
        """What it costs, roughly, in multiplications of points."""
        return 1 + 2 * len(self.tokens) + len(self.outputs)

    def value(self) -> Value:
        """Return the CBOR array."""
        return [
            self.series,
            [each.value() for each in self.statements],
            list(self.outputs),
            [list(each) for each in self.tokens],
            self.wants_shares,
        ]


Outcome: TypeAlias = "tuple[bytes, ...] | str"
"""The shares of a task that holds, none if none were wanted; or why it does not hold."""


class Cruncher:
    """Computes batches. It knows the network and, of each series, the key and its own share."""

    def __init__(self, network_id: bytes) -> None:
        self._network_id = network_id
        self._points: OrderedDict[bytes, G1] = OrderedDict()
        self._keys: dict[int, G2] = {}
        self._shares: dict[int, int] = {}

    def learn(self, series: int, key: bytes, share: int) -> None:
        """Take a series' key X and this authority's share of it."""
        self._keys[series] = decode_g2(key)
        self._shares[series] = share

    def forget(self, series: int) -> None:
        """Drop a series that is over."""
        self._keys.pop(series, None)
        self._shares.pop(series, None)

    def run(self, tasks: Sequence[Task], random: bytes) -> list[Outcome]:
        """Return what becomes of each task; `random` are 32 fresh random bytes."""
        outcomes: list[Outcome] = [()] * len(tasks)
        points: dict[int, list[G1]] = {}
        tokens: dict[int, list[tuple[int, G1, G1]]] = defaultdict(list)
        for at, task in enumerate(tasks):
            try:
                points[at], signed = self._open(task)
            except ProtocolError as error:
                outcomes[at] = str(error)
                continue
            tokens[task.series] += [(at, message, signature) for message, signature in signed]
        for series, each in tokens.items():
            for at in self._wrong(series, each, random):
                outcomes[at] = "a token is not signed by its series' key"
        for at, outputs in points.items():
            if tasks[at].wants_shares and outcomes[at] == ():
                share = self._shares[tasks[at].series]
                outcomes[at] = tuple(encode_point(sign_share(share, each)) for each in outputs)
        return outcomes

    def _open(self, task: Task) -> tuple[list[G1], list[tuple[G1, G1]]]:
        """Return a task's outputs, and its tokens' messages and signatures; or raise."""
        if task.series not in self._keys:
            raise ProtocolError("this authority has no key of that series")
        for statement in task.statements:
            for public, signature in statement.signatures:
                verify(public, statement.label, statement.body, signature)
        outputs = [self._output(each) for each in task.outputs]
        signatures = [decode_g1(signature) for _, signature in task.tokens]
        messages = [hash_token(self._network_id, serial) for serial, _ in task.tokens]
        return outputs, list(zip(messages, signatures, strict=True))

    def _output(self, data: bytes) -> G1:
        """Return an output's point; what was decoded for a LOCK is at hand for the ISSUE."""
        point = self._points.get(data)
        if point is None:
            point = self._points[data] = decode_g1(data)
            if len(self._points) > KEPT_POINTS:
                self._points.popitem(last=False)
        return point

    def _wrong(self, series: int, tokens: Sequence[tuple[int, G1, G1]], random: bytes) -> set[int]:
        signed = [(message, signature) for _, message, signature in tokens]
        wrong = wrong_signatures(signed, self._keys[series], random) if signed else ()
        return {tokens[each][0] for each in wrong}


class Pace:
    """When the next batch begins: while many tasks come, they are left some time to come together.

    Each batch costs an equation, a message and a commit, whatever is in it. Times in seconds.
    """

    def __init__(self, each: float = GATHER_SECONDS, most: float = GATHER_MOST) -> None:
        self._each = each
        self._most = most
        self._gap = 0.0
        self.due = 0.0
        """The next batch begins no sooner, unless `FULL` tasks wait."""

    def began(self, now: float, tasks: int) -> None:
        """Hear that a batch of so many tasks begins: the fewer they were, the sooner the next."""
        self._gap = min(max(self._each * tasks, self._gap / 2), self._most)
        self.due = now + self._gap


# Between the processes of one authority, which write and read these bytes alone.


def pack_batch(tasks: Sequence[Task]) -> bytes:
    """Return the bytes of a batch."""
    return cbor2.dumps([task.value() for task in tasks])


def unpack_batch(data: bytes) -> list[Task]:
    """Undo `pack_batch`."""
    return [_task(each) for each in cbor2.loads(data)]


def _task(value: Any) -> Task:
    series, statements, outputs, tokens, wants_shares = value
    return Task(
        series,
        tuple(Statement(label, body, _pairs(pairs)) for label, body, pairs in statements),
        tuple(outputs),
        _pairs(tokens),
        wants_shares,
    )


def _pairs(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((first, second) for first, second in value)


def pack_outcomes(outcomes: Sequence[Outcome], seconds: float) -> bytes:
    """Return the bytes of a batch's outcomes, and of how long they took."""
    listed = [each if isinstance(each, str) else list(each) for each in outcomes]
    return cbor2.dumps([seconds, listed])


def unpack_outcomes(data: bytes) -> tuple[list[Outcome], float]:
    """Undo `pack_outcomes`; raise `ProtocolError` if a process sent something else."""
    try:
        seconds, outcomes = cbor2.loads(data)
        return [each if isinstance(each, str) else tuple(each) for each in outcomes], seconds
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise ProtocolError("it answers something else") from error
