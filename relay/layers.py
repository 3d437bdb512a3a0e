"""Nested AEAD layers of RELAY cells (spec/03 §3).

The rules that keep a layer sound, in one place:

* a cell is worked on where it lies: a function takes the buffer and the offset of the cell in it;
* hop i's flag lies at `offset + 4 + i` while the origin works, so that sealing outward and opening
  inward never move a byte; at a relay the command's byte makes room for it;
* every call counts one cell in its direction and cannot be undone: whoever sealed must send, in
  order, or destroy the circuit; whoever failed to open must destroy it;
* keys are forgotten every 256 cells.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fogbank.relay.cells import BODY, CELL, HEADER, LAYER, TAG, Command, Geometry
from fogbank.relay.errors import ProtocolError
from fogbank.relay.handshake import HopKeys

FORWARD: Final = 1
BACKWARD: Final = 2
TO_NEXT: Final = 0
TO_YOU: Final = 1
EPOCH: Final = 256
"""Cells under one key."""

_LABEL: Final = b"fogbank-layer-v1"
_ZEROS: Final = bytes(CELL)


def _expand(chain: bytes, label: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), 32, _LABEL + b":" + label).derive(chain)


class Layer:
    """One hop's key in one direction: seals or opens one cell a call, and ratchets."""

    __slots__ = ("_aead", "_associated", "_chain", "count")

    def __init__(self, chain: bytes, direction: int, index: int) -> None:
        self._associated = _LABEL + bytes((direction, index, Command.RELAY))
        self.count = 0
        """Cells that have crossed this layer."""
        self._set_epoch(chain)

    def _set_epoch(self, chain: bytes) -> None:
        self._aead = AESGCM(_expand(chain, b"key"))
        # Only the next epoch's chain key is kept: this epoch's cannot be had back.
        self._chain = _expand(chain, b"next")

    def seal(self, plain: memoryview, out: memoryview) -> None:
        """Encrypt `plain` into `out`, which is 16 bytes longer and may begin at the same byte."""
        count = self.count
        if count and not count % EPOCH:
            self._set_epoch(self._chain)
        self.count = count + 1
        self._aead.encrypt_into(count.to_bytes(12, "big"), plain, self._associated, out)

    def open(self, sealed: memoryview, out: memoryview) -> None:
        """Decrypt `sealed` into `out`, 16 bytes shorter; `ProtocolError` if it was altered."""
        count = self.count
        if count and not count % EPOCH:
            self._set_epoch(self._chain)
        self.count = count + 1
        try:
            self._aead.decrypt_into(count.to_bytes(12, "big"), sealed, self._associated, out)
        except InvalidTag:
            raise ProtocolError("a layer does not open") from None


class HopLayers:
    """A relay's side: opens one layer forward, adds one backward."""

    __slots__ = ("_backward", "_body", "_filler", "_forward", "_passed", "index")

    def __init__(self, keys: HopKeys, index: int) -> None:
        self.index = index
        self._forward = Layer(keys.forward, FORWARD, index)
        self._backward = Layer(keys.backward, BACKWARD, index)
        self._body = Geometry.body(index)
        self._passed = Geometry.message(index)
        self._filler = _ZEROS[: LAYER * (index - 1)]

    @property
    def count(self) -> int:
        """Cells so far in the busier direction."""
        return max(self._forward.count, self._backward.count)

    def open_forward(self, source: memoryview, at: int, target: memoryview, to: int) -> int:
        """Open the cell at `source[at]` into the cell at `target[to]`; return its flag.

        The content lies at `target[to + 5]`, followed by filler; the header is the caller's to
        write. `source` and `target` must not overlap. Raises `ProtocolError`.
        """
        body = self._body
        begin = at + HEADER
        end = to + HEADER - 1 + body - TAG
        self._forward.open(source[begin : begin + body], target[to + HEADER - 1 : end])
        target[end : to + CELL] = _ZEROS[: to + CELL - end]
        return target[to + HEADER - 1]

    def received_tag(self, source: memoryview, at: int) -> bytes:
        """Return the tag of a cell that `open_forward` opened from `source[at]`."""
        end = at + HEADER + self._body
        return bytes(source[end - TAG : end])

    def seal_backward(self, source: memoryview, at: int, target: memoryview, to: int) -> None:
        """Add this hop's layer to the body at `source[at]`, into the cell at `target[to]`.

        Overwrites the source's command byte with the flag; the header is the caller's to write.
        """
        begin = at + HEADER - 1
        source[begin] = TO_NEXT
        out = to + HEADER
        end = out + self._body
        self._backward.seal(source[begin : begin + 1 + self._passed], target[out:end])
        target[end : to + CELL] = self._filler

    def seal_own(self, target: memoryview, to: int) -> bytes:
        """Seal in place a message of this hop that lies at `to + 6`; return its tag."""
        begin = to + HEADER
        end = begin + self._body
        target[begin] = TO_YOU
        self._backward.seal(target[begin : end - TAG], target[begin:end])
        target[end : to + CELL] = self._filler
        return bytes(target[end - TAG : end])


class OriginLayers:
    """The origin's side: all hops' layers, nearest first."""

    __slots__ = ("_backward", "_forward")

    def __init__(self) -> None:
        self._forward: list[Layer] = []
        self._backward: list[Layer] = []

    def __len__(self) -> int:
        return len(self._forward)

    @property
    def count(self) -> int:
        """Cells so far in the busier direction at the first hop."""
        if not self._forward:
            return 0
        return max(self._forward[0].count, self._backward[0].count)

    def add(self, keys: HopKeys) -> None:
        """Add a hop at the far end."""
        index = len(self._forward) + 1
        self._forward.append(Layer(keys.forward, FORWARD, index))
        self._backward.append(Layer(keys.backward, BACKWARD, index))

    def seal(self, cell: memoryview, at: int) -> bytes:
        """Seal in place a message for the last hop, which lies at `at + 5 + hops`; return its tag.

        The tag is that of the innermost layer, by which the hop will acknowledge (spec/04 §4).
        """
        last = len(self._forward)
        tag = b""
        for index in range(last, 0, -1):
            begin = at + HEADER - 1 + index
            end = begin + BODY - LAYER * (index - 1)
            cell[begin] = TO_YOU if index == last else TO_NEXT
            self._forward[index - 1].seal(cell[begin : end - TAG], cell[begin:end])
            if index == last:
                tag = bytes(cell[end - TAG : end])
        return tag

    def open(self, cell: memoryview, at: int) -> int:
        """Open in place a cell from the first hop; return the index of the hop that speaks.

        The message lies at `at + 5 + index`. Raises `ProtocolError` if a layer does not open, or
        if no hop says that it speaks.
        """
        for index, layer in enumerate(self._backward, 1):
            begin = at + HEADER - 1 + index
            end = begin + BODY - LAYER * (index - 1)
            layer.open(cell[begin:end], cell[begin : end - TAG])
            flag = cell[begin]
            if flag == TO_YOU:
                return index
            if flag != TO_NEXT:
                break
        raise ProtocolError("no hop of the circuit says that a cell is its own")

    def received_tag(self, cell: memoryview, at: int, index: int) -> bytes:
        """Return the innermost tag of a message from hop `index` that `open` opened in place."""
        end = at + HEADER + BODY - LAYER * (index - 1) + index - 1
        return bytes(cell[end - TAG : end])
