"""Streams of one circuit, at either end: windows, acknowledgements, order (spec/04).

Pure: it is told what came in and writes what goes out through a `CircuitEnd`; whoever waits for a
stream sets its `wake`. Any breach of the protocol is a `ProtocolError`, for which the caller must
destroy the circuit.

Memory is bounded at both ends: a receiver grants at most `STREAM_WINDOW` cells for each stream and
grants more only when its reader has taken what came; nor does it grant more for the circuit while
more than `CIRCUIT_WINDOW` cells wait for readers. A writer hands over data only while
`StreamState.has_room`.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fogbank.relay.cells import MESSAGE_HEADER
from fogbank.relay.errors import CircuitDestroyed, ProtocolError, RelayError, StreamReset
from fogbank.relay.limits import (
    CIRCUIT_INCREMENT,
    CIRCUIT_WINDOW,
    LATE_SECONDS,
    MAX_STREAMS,
    SOON_SECONDS,
    STREAM_INCREMENT,
    STREAM_WINDOW,
)
from fogbank.relay.streams.messages import RelayCommand, ResetReason, unpack_message_header

SEND_BUFFER: Final = 256 * 1024
"""Bytes of a stream that may wait to be packed into cells."""
_TURN: Final = 16
"""Cells that one stream sends before the next one's turn."""
_SERVICE_NAME: Final = 16
_LAST_STREAM: Final = 0xFFFF
_DATA: Final = int(RelayCommand.DATA)


class CircuitEnd(Protocol):
    """How a mux reaches its circuit; implemented by the origin's end and by the last hop's."""

    capacity: int
    """Bytes of data in one message."""

    def send(
        self, command: int, stream: int, data: bytes | memoryview, *, late: float = 0.0
    ) -> bytes:
        """Seal one message and queue it; return its tag.

        `late`: for so many seconds it may wait for others that go the same way (spec/04 §3).
        """

    def hurry(self) -> None:
        """Have what was sent `late` wait no longer."""

    def has_room(self) -> bool:
        """Tell whether the link takes more DATA now."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the link takes DATA again."""

    def hold(self, cells: int) -> None:
        """Count `cells` more that wait here for readers, or fewer if negative."""


def _no_wake() -> None:
    """Nobody waits yet."""


@dataclass(slots=True, eq=False)
class StreamState:
    """One stream's state at this end. `wake` is called whenever something changed."""

    id: int
    wake: Callable[[], None] = _no_wake
    inbox: bytearray = field(default_factory=bytearray)
    error: RelayError | None = None
    connected: bool = False
    peer_eof: bool = False
    eof_wanted: bool = False
    eof_sent: bool = False
    eof_late: float = 0.0
    scheduled: bool = False
    out: deque[memoryview] = field(default_factory=deque)
    out_bytes: int = 0
    send_window: int = STREAM_WINDOW
    sent_cells: int = 0
    sent_tags: deque[bytes] = field(default_factory=deque)
    receive_window: int = STREAM_WINDOW
    received_cells: int = 0
    received_bytes: int = 0
    consumed_bytes: int = 0
    marks: deque[tuple[int, bytes]] = field(default_factory=deque)

    @property
    def has_room(self) -> bool:
        """Whether the writer should hand over more."""
        return self.out_bytes < SEND_BUFFER


class StreamMux:
    """All streams of a circuit at one end.

    `accept` is given at a hop: it is called with each stream that the origin begins and the
    service's name, and says whether it is taken (None) or why not.
    """

    def __init__(
        self,
        end: CircuitEnd,
        accept: Callable[[StreamState, str], ResetReason | None] | None = None,
    ) -> None:
        self._end = end
        self._accept = accept
        self._streams: dict[int, StreamState] = {}
        self._last_id = 0
        self._active: deque[StreamState] = deque()
        self._send_window = CIRCUIT_WINDOW
        self._sent_cells = 0
        self._sent_tags: deque[bytes] = deque()
        self._receive_window = CIRCUIT_WINDOW
        self._received_cells = 0
        self._held = 0
        self._owed_tags: deque[bytes] = deque()
        self._waits_for_room = False
        self._closed = False

    @property
    def capacity(self) -> int:
        """The bytes of data that a cell carries."""
        return self._end.capacity

    def __len__(self) -> int:
        return len(self._streams)

    # What the local side asks for.

    def begin(self, service: str) -> StreamState:
        """Begin a stream to `service` of the last hop (origin only)."""
        if len(self._streams) >= MAX_STREAMS:
            raise StreamReset("this circuit has as many streams as it may have: close one first")
        if self._last_id == _LAST_STREAM:
            raise StreamReset("this circuit has had all its streams: build another one")
        self._last_id += 1
        # Nothing may come before CONNECTED, so the window opens with that.
        stream = StreamState(self._last_id, receive_window=0)
        self._streams[stream.id] = stream
        self._end.send(RelayCommand.BEGIN, stream.id, service.encode("ascii"), late=LATE_SECONDS)
        return stream

    def write(self, stream: StreamState, data: bytes | bytearray | memoryview) -> None:
        """Take over `data` to be sent in order; the caller must not change it afterwards."""
        if stream.error is not None:
            raise stream.error
        if stream.eof_wanted:
            raise StreamReset("the stream was closed here")
        if len(data):
            stream.out.append(memoryview(data))
            stream.out_bytes += len(data)
            self._schedule(stream)

    def finish(self, stream: StreamState, *, late: bool = False) -> None:
        """Send EOF once all that was written is out; `late`: nobody waits for it."""
        if stream.error is None and not stream.eof_wanted:
            stream.eof_wanted = True
            stream.eof_late = LATE_SECONDS if late else SOON_SECONDS if stream.peer_eof else 0.0
            self._maybe_eof(stream)

    def take(self, stream: StreamState, maximum: int) -> bytes | bytearray:
        """Return up to `maximum` bytes that arrived, and grant the peer as much again."""
        inbox = stream.inbox
        if len(inbox) <= maximum:
            data: bytes | bytearray = inbox
            stream.inbox = bytearray()
        else:
            data = bytes(inbox[:maximum])
            del inbox[:maximum]
        stream.consumed_bytes += len(data)
        while stream.marks and stream.marks[0][0] <= stream.consumed_bytes:
            _, tag = stream.marks.popleft()
            stream.receive_window += STREAM_INCREMENT
            self._end.send(RelayCommand.SENDME, stream.id, tag)
            self._hold(-STREAM_INCREMENT)
        return data

    def reset(self, stream: StreamState, reason: ResetReason) -> None:
        """End a stream at once in both directions; does nothing for one that is over."""
        if self._streams.get(stream.id) is stream:
            self._end.send(RelayCommand.RESET, stream.id, bytes((reason,)))
            self._forget(stream, StreamReset("the stream was closed here"))

    def hurry(self) -> None:
        """Have what waits for nothing but other cells sent now."""
        self._end.hurry()

    def pump(self) -> None:
        """Pack waiting data into cells as far as windows and the link allow."""
        end = self._end
        while self._active and self._send_window and not self._waits_for_room:
            if not end.has_room():
                self._waits_for_room = True
                end.when_room(self._got_room)
                return
            stream = self._active.popleft()
            stream.scheduled = False
            for _ in range(min(_TURN, self._send_window, stream.send_window)):
                if not stream.out:
                    break
                self._send_data(stream)
            self._schedule(stream)
            self._maybe_eof(stream)
            if stream.has_room:
                stream.wake()

    def close(self, reason: str) -> None:
        """Hear that the circuit is gone: every stream ends with an error that says so."""
        self._closed = True
        for stream in list(self._streams.values()):
            if not stream.peer_eof:
                # Its end is lost: no use to keep what came before, and memory may be why.
                stream.inbox.clear()
            self._forget(stream, CircuitDestroyed(reason))

    # What the peer sent.

    def receive(self, view: memoryview, at: int, tag: Callable[[], bytes]) -> None:
        """Take in the message at `view[at]`; `tag` gives its cell's tag when it is needed."""
        command, stream_id, length = unpack_message_header(view, at)
        if length > self._end.capacity:
            raise ProtocolError("a relay message is longer than its cell")
        begin = at + MESSAGE_HEADER
        data = view[begin : begin + length]
        if command == _DATA:
            self._received_data(stream_id, data, tag)
        elif command == RelayCommand.SENDME:
            self._received_sendme(stream_id, bytes(data))
        elif command == RelayCommand.DROP and not stream_id:
            return
        elif command == RelayCommand.BEGIN and self._accept is not None:
            self._received_begin(stream_id, bytes(data))
        elif command in {RelayCommand.EOF, RelayCommand.RESET, RelayCommand.CONNECTED}:
            self._received_control(command, stream_id, bytes(data))
        else:
            raise ProtocolError("a relay message stands where none of its kind may")

    def _got_room(self) -> None:
        self._waits_for_room = False
        self.pump()

    def _schedule(self, stream: StreamState) -> None:
        if stream.out and stream.send_window and not stream.scheduled:
            stream.scheduled = True
            self._active.append(stream)

    def _send_data(self, stream: StreamState) -> None:
        capacity = self._end.capacity
        chunk = stream.out[0]
        if len(chunk) > capacity:
            stream.out[0] = chunk[capacity:]
            chunk = chunk[:capacity]
        else:
            stream.out.popleft()
            if stream.out and len(chunk) < capacity:
                chunk = self._gather(stream, chunk)
        stream.out_bytes -= len(chunk)
        tag = self._end.send(_DATA, stream.id, chunk)
        self._send_window -= 1
        self._sent_cells += 1
        if not self._sent_cells % CIRCUIT_INCREMENT:
            self._sent_tags.append(tag)
        stream.send_window -= 1
        stream.sent_cells += 1
        if not stream.sent_cells % STREAM_INCREMENT:
            stream.sent_tags.append(tag)

    def _gather(self, stream: StreamState, first: memoryview) -> memoryview:
        """Fill a cell from several small writes."""
        room = self._end.capacity
        data = bytearray(first)
        while stream.out and len(data) < room:
            chunk = stream.out.popleft()
            take = room - len(data)
            data += chunk[:take]
            if len(chunk) > take:
                stream.out.appendleft(chunk[take:])
        return memoryview(data)

    def _maybe_eof(self, stream: StreamState) -> None:
        if stream.eof_wanted and not stream.out and not stream.eof_sent and not self._closed:
            stream.eof_sent = True
            self._end.send(RelayCommand.EOF, stream.id, b"", late=stream.eof_late)
            self._maybe_over(stream)

    def _maybe_over(self, stream: StreamState) -> None:
        if stream.eof_sent and stream.peer_eof:
            self._remove(stream)
            stream.wake()

    def _remove(self, stream: StreamState) -> None:
        del self._streams[stream.id]
        held = STREAM_INCREMENT * len(stream.marks)
        stream.marks.clear()
        self._hold(-held)

    def _hold(self, cells: int) -> None:
        if cells and not self._closed:
            self._held += cells
            self._end.hold(cells)
            while self._owed_tags and self._held <= CIRCUIT_WINDOW:
                self._grant(self._owed_tags.popleft())

    def _grant(self, tag: bytes) -> None:
        self._receive_window += CIRCUIT_INCREMENT
        self._end.send(RelayCommand.SENDME, 0, tag)

    def _forget(self, stream: StreamState, error: RelayError) -> None:
        self._remove(stream)
        if stream.error is None:
            stream.error = error
        stream.out.clear()
        stream.out_bytes = 0
        stream.eof_sent = True
        if stream.scheduled:
            stream.scheduled = False
            self._active.remove(stream)
        stream.wake()

    def _find(self, stream_id: int) -> StreamState | None:
        """Return a live stream, None for one that has ended; refuse one that never was."""
        stream = self._streams.get(stream_id)
        if stream is None and not 0 < stream_id <= self._last_id:
            raise ProtocolError("a relay message names a stream that never was")
        return stream

    def _received_data(self, stream_id: int, data: memoryview, tag: Callable[[], bytes]) -> None:
        self._receive_window -= 1
        if self._receive_window < 0 or not data:
            raise ProtocolError("a stream's data is empty or beyond the circuit's window")
        self._received_cells += 1
        if not self._received_cells % CIRCUIT_INCREMENT:
            if self._held <= CIRCUIT_WINDOW:
                self._grant(tag())
            else:
                self._owed_tags.append(tag())
        stream = self._find(stream_id)
        if stream is None:
            return
        stream.receive_window -= 1
        if stream.receive_window < 0 or stream.peer_eof:
            raise ProtocolError("a stream's data is beyond its window or its end")
        stream.inbox += data
        stream.received_bytes += len(data)
        stream.received_cells += 1
        if not stream.received_cells % STREAM_INCREMENT:
            stream.marks.append((stream.received_bytes, tag()))
            self._hold(STREAM_INCREMENT)
        stream.wake()

    def _received_sendme(self, stream_id: int, tag: bytes) -> None:
        if stream_id == 0:
            _match_tag(self._sent_tags, tag)
            self._send_window += CIRCUIT_INCREMENT
        else:
            stream = self._find(stream_id)
            if stream is None:
                return
            _match_tag(stream.sent_tags, tag)
            stream.send_window += STREAM_INCREMENT
            self._schedule(stream)
        self.pump()

    def _received_begin(self, stream_id: int, name: bytes) -> None:
        if stream_id != self._last_id + 1:
            raise ProtocolError("a stream's id is not the next one")
        if not 1 <= len(name) <= _SERVICE_NAME or not name.isalpha():
            raise ProtocolError("a service's name is malformed")
        self._last_id = stream_id
        stream = StreamState(stream_id, connected=True)
        refusal: ResetReason | None = ResetReason.RESOURCES
        if len(self._streams) < MAX_STREAMS and self._accept is not None:
            self._streams[stream_id] = stream
            refusal = self._accept(stream, name.decode("ascii"))
        if refusal is None:
            self._end.send(RelayCommand.CONNECTED, stream_id, b"", late=LATE_SECONDS)
        else:
            self._streams.pop(stream_id, None)
            self._end.send(RelayCommand.RESET, stream_id, bytes((refusal,)))

    def _received_control(self, command: int, stream_id: int, data: bytes) -> None:
        stream = self._find(stream_id)
        if stream is None:
            return
        if command == RelayCommand.CONNECTED:
            if self._accept is not None or stream.connected or data:
                raise ProtocolError("CONNECTED stands where it may not")
            stream.connected = True
            stream.receive_window = STREAM_WINDOW
            stream.wake()
        elif command == RelayCommand.EOF:
            if stream.peer_eof or data or not stream.connected:
                raise ProtocolError("EOF stands where it may not")
            stream.peer_eof = True
            stream.wake()
            self._maybe_over(stream)
        else:
            if len(data) != 1:
                raise ProtocolError("RESET without a reason")
            self._forget(stream, StreamReset(_reset_sentence(data[0])))


def _match_tag(noted: deque[bytes], tag: bytes) -> None:
    if not noted or not hmac.compare_digest(noted.popleft(), tag):
        raise ProtocolError("an acknowledgement carries another tag than the cell's")


_RESET_SENTENCES = {
    ResetReason.PROTOCOL: "the other end found a fault in what was sent to it",
    ResetReason.REFUSED: "the other end refused the request",
    ResetReason.NO_SERVICE: "the other end does not offer this service",
    ResetReason.RESOURCES: "the other end is out of resources: try again later",
    ResetReason.FAILED: "the service at the other end failed",
    ResetReason.CANCELLED: "the other end cancelled the stream",
}


def _reset_sentence(reason: int) -> str:
    if reason in _RESET_SENTENCES:
        return _RESET_SENTENCES[ResetReason(reason)]
    return f"the other end reset the stream (reason {reason})"
