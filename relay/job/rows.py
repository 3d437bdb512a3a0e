"""What a side sends in a row, and how its length is hidden (spec/08 §1.1). Pure.

A row that brings a module, a task or a result is padded to a power of two. Small ones may wait for
each other, so that they are padded together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fogbank.relay.errors import ProtocolError
from fogbank.relay.job.frames import Message, frame
from fogbank.relay.job.messages import Pad
from fogbank.sandbox.data import Data

ROW_SIZE: Final = 64 << 10
"""The least bytes that a padded row has; one that has as many waits for nothing more."""
PADDING_MAX: Final = 1 << 29
"""The most bytes of padding between two words of one side."""
_PAD_MAX: Final = 1 << 28
_HEADS: Final = tuple(len(frame(Pad(size))) for size in (0, 24, 1 << 8, 1 << 16))
"""The bytes that a PAD has beside its attachment, by the size of that."""


class _Zeros:
    """So many bytes of 0."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> bytes:
        return bytes(min(size, self._size - start))


@lru_cache(maxsize=256)
def pads(size: int) -> tuple[Pad, ...]:
    """Return the PADs that make a row of `size` bytes as long as a power of two."""
    goal = ROW_SIZE
    while goal < size or 0 < goal - size < len(frame(Pad(0))):
        goal *= 2
    gap = goal - size
    found: list[Pad] = []
    while gap:
        # Where no single one fits, as its length takes a byte more, a short one comes before.
        pad = _pad_of(gap) or Pad(_PAD_MAX // 2 if gap > _PAD_MAX else 0)
        found.append(pad)
        gap -= _length_of(pad)
    return tuple(found)


def _pad_of(gap: int) -> Pad | None:
    """Return the PAD that has `gap` bytes in all, if there is one."""
    for head in _HEADS:
        if 0 <= gap - head <= _PAD_MAX and len(frame(Pad(gap - head))) == head:
            return Pad(gap - head)
    return None


def _length_of(pad: Pad) -> int:
    return len(frame(pad)) + pad.size


class Row:
    """Messages that wait to be sent.

    `pads_first`: padding comes before what it hides, so that whoever ends the stream at an answer
    cuts none of it off.
    """

    def __init__(self, *, pads_first: bool) -> None:
        self.within: float | None = None
        """How long what waits may wait for more, in seconds; None if nothing waits."""
        self._pads_first = pads_first
        self._done: list[Data] = []
        self._parts: list[Data] = []
        self._topics: dict[int, int] = {}
        self._size = 0
        self._is_padded = False

    def add(
        self,
        message: Message,
        *attachments: Data,
        within: float,
        padded: bool,
        topic: int | None = None,
        passes: bool = False,
    ) -> None:
        """Append a message; `padded`: its length is to be hidden.

        `topic`: what it tells of. What was said of that just before, and `passes`, need not be said
        if it still waits.
        """
        if topic is None:
            self._topics.clear()
        else:
            self._supersede(topic)
            if passes:
                self._topics[topic] = len(self._parts)
        parts = [frame(message), *(part for part in attachments if len(part))]
        self._parts += parts
        self._size += sum(len(part) for part in parts)
        self._is_padded = self._is_padded or padded
        full = self._is_padded and self._size >= ROW_SIZE
        self.within = 0.0 if full else min(within, within if self.within is None else self.within)
        if full:
            self._close()

    def _supersede(self, topic: int) -> None:
        before = self._topics.pop(topic, None)
        if before is not None:
            self._size -= len(self._parts[before])
            self._parts[before] = b""

    def hurry(self, within: float) -> None:
        """Have what waits, if anything does, wait for so many seconds at most."""
        if self.within is not None:
            self.within = min(self.within, within)

    def take(self) -> list[Data]:
        """Return all that waits, padded, and forget it."""
        self._close()
        done, self._done, self.within = self._done, [], None
        return done

    def _close(self) -> None:
        padding: list[Data] = []
        if self._is_padded:
            for pad in pads(self._size):
                padding += [
                    frame(pad),
                    bytes(pad.size) if pad.size < ROW_SIZE else _Zeros(pad.size),
                ]
        parts, self._parts = self._parts, []
        self._topics.clear()
        self._done += [*padding, *parts] if self._pads_first else [*parts, *padding]
        self._size, self._is_padded = 0, False


class Padding:
    """Counts what the other side pads with: it can make nobody wait for ever."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes since the last word."""

    def hear(self, message: object) -> None:
        """Hear of a message that begins; raise `ProtocolError` if it pads too much."""
        self.size = self.size + message.size if isinstance(message, Pad) else 0
        if self.size > PADDING_MAX:
            raise ProtocolError("in a job's session: padding without end")
