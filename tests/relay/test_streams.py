"""Streams between two muxes that a wire joins, which the test delivers as it likes (spec/04)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from fogbank.relay.streams.messages import RelayCommand, ResetReason, write_message
from fogbank.relay.streams.mux import SEND_BUFFER, StreamMux, StreamState

CAPACITY = 32
FILL = b"x" * CAPACITY


def message(command: int, stream: int, data: bytes = b"", capacity: int = CAPACITY) -> bytes:
    view = memoryview(bytearray(MESSAGE_HEADER + capacity))
    write_message(view, 0, capacity, command, stream, data)
    return bytes(view)


class Wire:
    """One direction of a circuit: what a mux sent and the other one has not received."""

    def __init__(self, name: bytes) -> None:
        self.capacity = CAPACITY
        self.cells: deque[tuple[bytes, bytes]] = deque()
        self.log: list[tuple[int, int, bytes]] = []
        self.room = True
        self.held = 0
        self.late: list[float] = []
        self._waiters: list[Callable[[], None]] = []
        self._name = name

    def send(
        self, command: int, stream: int, data: bytes | memoryview, *, late: float = 0.0
    ) -> bytes:
        self.late.append(late)
        tag = (self._name + b"%d" % len(self.log)).ljust(16, b".")
        self.cells.append((message(command, stream, bytes(data)), tag))
        self.log.append((command, stream, bytes(data)))
        return tag

    def hurry(self) -> None:
        pass

    def has_room(self) -> bool:
        return self.room

    def when_room(self, callback: Callable[[], None]) -> None:
        self._waiters.append(callback)

    def hold(self, cells: int) -> None:
        self.held += cells
        assert self.held >= 0

    def drain(self) -> None:
        self.room = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def sent(self, command: int, stream: int) -> list[bytes]:
        return [data for kind, name, data in self.log if (kind, name) == (command, stream)]


class Pair:
    """An origin's mux and a last hop's, joined."""

    def __init__(self, refuse: dict[str, ResetReason] | None = None) -> None:
        self.up, self.down = Wire(b"up"), Wire(b"down")
        self.refuse = refuse or {}
        self.served: list[StreamState] = []
        self.origin = StreamMux(self.up)
        self.hop = StreamMux(self.down, self._accept)

    def _accept(self, stream: StreamState, service: str) -> ResetReason | None:
        reason = self.refuse.get(service)
        if reason is None:
            self.served.append(stream)
        return reason

    def carry(self, up: int = 1 << 30, down: int = 1 << 30) -> int:
        """Deliver at most so many cells each way, oldest first; return how many."""
        moved = 0
        for wire, mux, count in ((self.up, self.hop, up), (self.down, self.origin, down)):
            for _ in range(min(count, len(wire.cells))):
                deliver(mux, *wire.cells.popleft())
                moved += 1
        return moved

    def settle(self) -> None:
        while self.carry():
            pass

    def begin(self, service: str = "echo") -> tuple[StreamState, StreamState]:
        stream = self.origin.begin(service)
        self.settle()
        return stream, self.served[-1]


def deliver(mux: StreamMux, cell: bytes, tag: bytes = b"t" * 16) -> None:
    mux.receive(memoryview(bytearray(cell)), 0, lambda: tag)


def write(mux: StreamMux, stream: StreamState, data: bytes) -> None:
    mux.write(stream, data)
    mux.pump()


def test_bytes_cross_whole_and_in_order_both_ways() -> None:
    pair = Pair()
    near, far = pair.begin()
    assert near.connected
    write(pair.origin, near, b"question " * 100)
    write(pair.hop, far, b"answer " * 300)
    pair.settle()
    assert pair.hop.take(far, 1 << 20) == b"question " * 100
    assert pair.origin.take(near, 1 << 20) == b"answer " * 300


def test_data_may_follow_begin_without_waiting() -> None:
    pair = Pair()
    near = pair.origin.begin("echo")
    write(pair.origin, near, b"early")
    pair.origin.finish(near)
    pair.settle()
    assert pair.hop.take(pair.served[0], 100) == b"early"
    assert pair.served[0].peer_eof


def test_small_writes_share_cells() -> None:
    pair = Pair()
    near, far = pair.begin()
    pair.up.room = False
    for number in range(100):
        write(pair.origin, near, b"%02d" % number)
    pair.up.drain()
    pair.settle()
    assert len(pair.up.sent(RelayCommand.DATA, 1)) == -(-200 // CAPACITY)
    assert pair.hop.take(far, 1000) == b"".join(b"%02d" % number for number in range(100))


def test_a_stream_stops_at_its_window_until_its_reader_reads() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, FILL * (STREAM_WINDOW + 100))
    pair.settle()
    assert len(far.inbox) == STREAM_WINDOW * CAPACITY
    assert pair.down.sent(RelayCommand.SENDME, 1) == []
    pair.hop.take(far, STREAM_INCREMENT * CAPACITY - 1)
    pair.settle()
    assert len(pair.down.sent(RelayCommand.SENDME, 1)) == 0
    pair.hop.take(far, 1)
    pair.settle()
    assert len(pair.up.sent(RelayCommand.DATA, 1)) == STREAM_WINDOW + STREAM_INCREMENT


def test_sendmes_carry_the_tags_of_the_cells_that_completed_the_counts() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, FILL * 256)
    tags = [tag for _, tag in pair.up.cells]
    pair.settle()
    pair.hop.take(far, 1 << 20)
    assert pair.down.sent(RelayCommand.SENDME, 0) == [tags[127], tags[255]]
    assert pair.down.sent(RelayCommand.SENDME, 1) == [tags[index] for index in (63, 127, 191, 255)]


def test_unread_streams_bound_what_a_circuit_holds() -> None:
    # A sender that reads nothing and whose peer's services read nothing: the Sniper attack.
    pair = Pair()
    streams = [pair.begin() for _ in range(MAX_STREAMS)]
    for near, _ in streams:
        write(pair.origin, near, FILL * STREAM_WINDOW)
    pair.settle()
    held = sum(len(far.inbox) for _, far in streams) // CAPACITY
    assert CIRCUIT_WINDOW < held <= 2 * CIRCUIT_WINDOW + CIRCUIT_INCREMENT + 64 * MAX_STREAMS
    assert held - 64 * MAX_STREAMS <= pair.down.held <= held
    # Whoever reads at last gets everything.
    total = 0
    while any(far.inbox for _, far in streams):
        total += sum(len(pair.hop.take(far, 1 << 20)) for _, far in streams)
        pair.settle()
    assert total == MAX_STREAMS * STREAM_WINDOW * CAPACITY
    assert pair.down.held == 0


def test_a_writer_is_told_to_stop_before_much_waits() -> None:
    pair = Pair()
    pair.up.room = False
    near, _ = pair.begin()
    woken: list[bool] = []
    near.wake = lambda: woken.append(near.has_room)
    write(pair.origin, near, bytes(SEND_BUFFER))
    assert not near.has_room
    pair.up.drain()
    pair.settle()
    assert True in woken


def test_streams_of_a_circuit_take_turns() -> None:
    pair = Pair()
    first, _ = pair.begin()
    second, _ = pair.begin()
    pair.up.room = False
    pair.origin.write(first, FILL * 200)
    pair.origin.write(second, FILL * 200)
    pair.origin.pump()
    pair.up.drain()
    names = [stream for command, stream, _ in pair.up.log if command == RelayCommand.DATA]
    assert names[:64].count(1) == names[:64].count(2) == 32


def test_each_side_closes_its_own_direction() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, b"all")
    pair.origin.finish(near)
    pair.settle()
    assert far.peer_eof
    write(pair.hop, far, b"reply")
    pair.hop.finish(far)
    pair.settle()
    assert pair.origin.take(near, 10) == b"reply"
    assert (len(pair.origin), len(pair.hop)) == (0, 0)
    assert near.error is None
    assert far.error is None


def test_eof_waits_for_data_that_waits_for_the_window() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, FILL * (STREAM_WINDOW + 5))
    pair.origin.finish(near)
    pair.settle()
    ends = [far.peer_eof]
    pair.hop.take(far, 1 << 20)
    pair.settle()
    assert [*ends, far.peer_eof] == [False, True]
    assert pair.hop.take(far, 1 << 20) == FILL * 5


def test_only_what_nobody_waits_for_may_wait() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, b"a question")
    write(pair.hop, far, b"an answer")
    pair.origin.finish(near)
    pair.settle()
    # The origin has ended its side, and may read until the other one ends.
    pair.hop.finish(far)
    assert pair.up.late == [LATE_SECONDS, 0.0, 0.0]
    assert pair.down.late == [LATE_SECONDS, 0.0, SOON_SECONDS]
    pair.origin.finish(pair.begin()[0], late=True)
    assert pair.up.late[-1] == LATE_SECONDS


def test_nothing_is_written_after_the_end() -> None:
    pair = Pair()
    near, _ = pair.begin()
    pair.origin.finish(near)
    with pytest.raises(StreamReset):
        pair.origin.write(near, b"more")


def test_reset_ends_both_directions_and_keeps_what_had_come() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, b"before")
    pair.origin.reset(near, ResetReason.CANCELLED)
    pair.settle()
    assert pair.hop.take(far, 100) == b"before"
    assert isinstance(far.error, StreamReset)
    with pytest.raises(StreamReset):
        pair.hop.write(far, b"late")
    assert (len(pair.origin), len(pair.hop)) == (0, 0)
    # A second reset says nothing more.
    pair.origin.reset(near, ResetReason.FAILED)
    assert not pair.up.cells


def test_what_is_under_way_to_a_reset_stream_is_ignored_but_counted() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.hop, far, FILL * 300)
    pair.hop.finish(far)
    pair.origin.reset(near, ResetReason.CANCELLED)
    pair.carry(up=0)
    assert len(pair.up.sent(RelayCommand.SENDME, 0)) == 2
    assert pair.origin.take(near, 1 << 20) == b""
    pair.settle()
    assert isinstance(far.error, StreamReset)


def test_a_waiting_writer_of_a_reset_stream_leaves_the_turn() -> None:
    pair = Pair()
    near, far = pair.begin()
    other, _ = pair.begin()
    write(pair.origin, near, FILL * (STREAM_WINDOW + 50))
    pair.origin.finish(near)
    pair.hop.reset(far, ResetReason.FAILED)
    write(pair.origin, other, b"goes on")
    pair.settle()
    assert pair.hop.take(pair.served[1], 100) == b"goes on"
    assert pair.up.sent(RelayCommand.EOF, 1) == []


def test_a_refused_service_resets_the_stream() -> None:
    pair = Pair(refuse={"mint": ResetReason.NO_SERVICE})
    near = pair.origin.begin("mint")
    pair.settle()
    assert "does not offer" in str(near.error)
    assert len(pair.hop) == 0


def test_no_more_than_32_streams_at_once() -> None:
    pair = Pair()
    streams = [pair.begin() for _ in range(MAX_STREAMS)]
    with pytest.raises(StreamReset, match="close one first"):
        pair.origin.begin("echo")
    # An origin that begins another one all the same is told so.
    deliver(pair.hop, message(RelayCommand.BEGIN, MAX_STREAMS + 1, b"echo"))
    reason = bytes((ResetReason.RESOURCES,))
    assert pair.down.sent(RelayCommand.RESET, MAX_STREAMS + 1) == [reason]
    pair.down.cells.clear()
    near, far = streams[0]
    pair.origin.reset(near, ResetReason.CANCELLED)
    pair.settle()
    assert isinstance(far.error, StreamReset)


def test_the_circuits_end_ends_every_stream_with_its_reason() -> None:
    pair = Pair()
    whole, far = pair.begin()
    cut, cut_far = pair.begin()
    write(pair.hop, far, b"all of it")
    pair.hop.finish(far)
    write(pair.hop, cut_far, b"a part")
    pair.settle()
    pair.origin.close("the link ended")
    assert pair.origin.take(whole, 100) == b"all of it"
    assert whole.peer_eof
    for stream in (whole, cut):
        assert isinstance(stream.error, CircuitDestroyed)
        assert "the link ended" in str(stream.error)
        with pytest.raises(CircuitDestroyed):
            pair.origin.write(stream, b"more")
    before = len(pair.up.log)
    pair.origin.finish(cut)
    pair.origin.reset(cut, ResetReason.CANCELLED)
    pair.origin.pump()
    assert len(pair.up.log) == before


def closed(pair: Pair, near: StreamState, far: StreamState) -> None:
    pair.origin.finish(near)
    pair.hop.finish(far)
    pair.settle()


BAD_FOR_BOTH = {
    "unknown command": message(10, 0),
    "padding with a stream": message(RelayCommand.DROP, 1),
    "a length over the cell": message(RelayCommand.DATA, 1, bytes(CAPACITY + 1), CAPACITY + 1),
    "empty data": message(RelayCommand.DATA, 1),
    "data on no stream": message(RelayCommand.DATA, 0, b"x"),
    "data on a stream that never was": message(RelayCommand.DATA, 2, b"x"),
    "EOF with data": message(RelayCommand.EOF, 1, b"x"),
    "EOF on a stream that never was": message(RelayCommand.EOF, 2),
    "RESET without a reason": message(RelayCommand.RESET, 1),
    "RESET with two reasons": message(RelayCommand.RESET, 1, b"12"),
    "RESET of the circuit": message(RelayCommand.RESET, 0, b"1"),
    "an acknowledgement of nothing": message(RelayCommand.SENDME, 1, b"t" * 16),
    "a circuit's acknowledgement of nothing": message(RelayCommand.SENDME, 0, b"t" * 16),
    "an empty acknowledgement": message(RelayCommand.SENDME, 0),
    "EXTEND": message(RelayCommand.EXTEND, 0, b"x"),
    "EXTENDED": message(RelayCommand.EXTENDED, 0, b"x"),
    "REFUSED": message(RelayCommand.REFUSED, 0, b"x"),
}
BAD_FOR_HOP = BAD_FOR_BOTH | {
    "CONNECTED": message(RelayCommand.CONNECTED, 1),
    "BEGIN again": message(RelayCommand.BEGIN, 1, b"echo"),
    "BEGIN that skips an id": message(RelayCommand.BEGIN, 3, b"echo"),
    "BEGIN on no stream": message(RelayCommand.BEGIN, 0, b"echo"),
    "BEGIN without a name": message(RelayCommand.BEGIN, 2),
    "BEGIN with a long name": message(RelayCommand.BEGIN, 2, b"a" * 17),
    "BEGIN with another alphabet": message(RelayCommand.BEGIN, 2, "äö".encode()),
    "BEGIN with digits": message(RelayCommand.BEGIN, 2, b"dir2"),
}
BAD_FOR_ORIGIN = BAD_FOR_BOTH | {
    "BEGIN": message(RelayCommand.BEGIN, 2, b"echo"),
    "CONNECTED twice": message(RelayCommand.CONNECTED, 1),
    "CONNECTED with data": message(RelayCommand.CONNECTED, 1, b"x"),
}


@pytest.mark.parametrize("name", BAD_FOR_HOP)
def test_a_hop_refuses(name: str) -> None:
    pair = Pair()
    pair.begin()
    with pytest.raises(ProtocolError):
        deliver(pair.hop, BAD_FOR_HOP[name])


@pytest.mark.parametrize("name", BAD_FOR_ORIGIN)
def test_an_origin_refuses(name: str) -> None:
    pair = Pair()
    pair.begin()
    with pytest.raises(ProtocolError):
        deliver(pair.origin, BAD_FOR_ORIGIN[name])


@pytest.mark.parametrize("command", [RelayCommand.DATA, RelayCommand.EOF, RelayCommand.SENDME])
def test_nothing_comes_before_connected(command: RelayCommand) -> None:
    pair = Pair()
    pair.origin.begin("echo")
    data = {RelayCommand.EOF: b"", RelayCommand.SENDME: b"t" * 16}.get(command, b"x")
    with pytest.raises(ProtocolError):
        deliver(pair.origin, message(command, 1, data))


@pytest.mark.parametrize("command", [RelayCommand.DATA, RelayCommand.EOF])
def test_nothing_comes_after_eof(command: RelayCommand) -> None:
    pair = Pair()
    pair.begin()
    deliver(pair.hop, message(RelayCommand.EOF, 1))
    with pytest.raises(ProtocolError):
        deliver(pair.hop, message(command, 1, b"x" if command == RelayCommand.DATA else b""))


@pytest.mark.parametrize(
    "late",
    [
        message(RelayCommand.DATA, 1, b"x"),
        message(RelayCommand.EOF, 1),
        message(RelayCommand.RESET, 1, b"1"),
        message(RelayCommand.CONNECTED, 1),
        message(RelayCommand.SENDME, 1, b"?" * 16),
    ],
)
def test_what_comes_late_for_a_stream_that_ended_is_ignored(late: bytes) -> None:
    for end in (True, False):
        pair = Pair()
        near, far = pair.begin()
        if end:
            closed(pair, near, far)
        else:
            pair.origin.reset(near, ResetReason.CANCELLED)
            pair.settle()
        for mux in (pair.origin, pair.hop):
            deliver(mux, late)
        assert not pair.up.cells
        assert not pair.down.cells


def test_padding_is_ignored() -> None:
    pair = Pair()
    for mux in (pair.origin, pair.hop):
        deliver(mux, message(RelayCommand.DROP, 0, b"whatever"))
    assert not pair.up.cells
    assert not pair.down.cells


def test_data_beyond_the_streams_window_is_refused() -> None:
    pair = Pair()
    _, far = pair.begin()
    for _ in range(STREAM_WINDOW):
        deliver(pair.hop, message(RelayCommand.DATA, 1, b"x"))
    with pytest.raises(ProtocolError, match="window"):
        deliver(pair.hop, message(RelayCommand.DATA, 1, b"x"))
    assert len(far.inbox) == STREAM_WINDOW


def test_data_beyond_the_circuits_window_is_refused() -> None:
    pair = Pair()
    for _ in range(5):
        pair.begin()
    taken = 0

    def flood() -> None:
        nonlocal taken
        for number in range(5 * STREAM_WINDOW):
            deliver(pair.hop, message(RelayCommand.DATA, 1 + number % 5, b"x"))
            taken += 1

    with pytest.raises(ProtocolError, match="window"):
        flood()
    grants = len(pair.down.sent(RelayCommand.SENDME, 0))
    assert taken == CIRCUIT_WINDOW + grants * CIRCUIT_INCREMENT
    assert taken < 2 * CIRCUIT_WINDOW + 5 * STREAM_INCREMENT + CIRCUIT_INCREMENT


@pytest.mark.parametrize("stream", [0, 1])
@pytest.mark.parametrize("fault", ["wrong", "short", "twice", "skipped"])
def test_false_acknowledgements_are_refused(stream: int, fault: str) -> None:
    pair = Pair()
    near, _ = pair.begin()
    write(pair.origin, near, FILL * 256)
    step = STREAM_INCREMENT if stream else CIRCUIT_INCREMENT
    tags = [tag for _, tag in pair.up.cells][step - 1 :: step]
    said = {
        "wrong": [b"?" * 16],
        "short": [tags[0][:15]],
        "twice": [tags[0], tags[0]],
        "skipped": [tags[1]],
    }[fault]
    for tag in said[:-1]:
        deliver(pair.origin, message(RelayCommand.SENDME, stream, tag))
    with pytest.raises(ProtocolError, match="acknowledgement"):
        deliver(pair.origin, message(RelayCommand.SENDME, stream, said[-1]))


def test_one_acknowledgement_too_many_is_refused() -> None:
    pair = Pair()
    near, far = pair.begin()
    write(pair.origin, near, FILL * 128)
    pair.settle()
    pair.hop.take(far, 1 << 20)
    pair.settle()
    for stream in (0, 1):
        with pytest.raises(ProtocolError, match="acknowledgement"):
            deliver(pair.origin, message(RelayCommand.SENDME, stream, b"t" * 16))


def test_a_circuit_has_65535_streams_and_then_no_more() -> None:
    mux = StreamMux(Wire(b"up"))
    for _ in range(0xFFFF):
        stream = mux.begin("dir")
        mux.reset(stream, ResetReason.CANCELLED)
    with pytest.raises(StreamReset, match="another"):
        mux.begin("dir")


@dataclass
class Flow:
    """One direction of a stream, and what should come of it."""

    source: StreamMux
    sender: StreamState
    sink: StreamMux
    receiver: StreamState
    wanted: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)

    def write(self, size: int) -> None:
        if self.sender.has_room:
            chunk = (bytes(range(256)) * 60)[:size]
            self.wanted += chunk
            write(self.source, self.sender, chunk)

    def take(self, maximum: int) -> int:
        data = self.sink.take(self.receiver, maximum)
        self.got += data
        return len(data)


def act(pair: Pair, flows: list[Flow], draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Do one thing of those that can happen at any time."""
    match draw(st.sampled_from(("write", "carry", "take", "block", "drain"))):
        case "write":
            draw(st.sampled_from(flows)).write(draw(st.integers(1, 256 * 60)))
        case "carry":
            pair.carry(draw(st.integers(0, 400)), draw(st.integers(0, 400)))
        case "take":
            draw(st.sampled_from(flows)).take(draw(st.integers(1, 1 << 15)))
        case "block":
            draw(st.sampled_from((pair.up, pair.down))).room = False
        case _:
            draw(st.sampled_from((pair.up, pair.down))).drain()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_schedule_delivers_everything_in_order(data: st.DataObject) -> None:
    pair = Pair()
    pairs = [pair.begin() for _ in range(data.draw(st.integers(1, 3), label="streams"))]
    flows = []
    for near, far in pairs:
        flows += [Flow(pair.origin, near, pair.hop, far), Flow(pair.hop, far, pair.origin, near)]
    for _ in range(data.draw(st.integers(5, 40), label="steps")):
        act(pair, flows, data.draw)
    for flow in flows:
        flow.source.finish(flow.sender)
    moved = 1
    while moved:
        pair.up.drain()
        pair.down.drain()
        moved = pair.carry() + sum(flow.take(1 << 20) for flow in flows)
    for flow in flows:
        assert flow.got == flow.wanted
        assert flow.receiver.peer_eof
    assert (len(pair.origin), len(pair.hop), pair.up.held, pair.down.held) == (0, 0, 0, 0)


_MESSAGES = st.builds(
    message,
    st.integers(0, 11),
    st.sampled_from((0, 1, 1, 2, 2, 3, 0xFFFF)),
    st.one_of(st.sampled_from((b"", b"echo", b"\x06", b"t" * 16)), st.binary(max_size=CAPACITY)),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.booleans(), st.lists(_MESSAGES, max_size=40), st.booleans())
def test_any_messages_are_taken_or_refused(
    at_hop: bool, cells: list[bytes], write_first: bool
) -> None:
    pair = Pair()
    near, far = pair.begin()
    pair.begin()
    mux, stream = (pair.hop, far) if at_hop else (pair.origin, near)
    if write_first:
        write(mux, stream, FILL * 70)
    try:
        for cell in cells:
            deliver(mux, cell)
    except ProtocolError:
        mux.close("destroyed")
        assert len(mux) == 0
    except RelayError as error:
        pytest.fail(f"only a ProtocolError may come of a peer's message, not {error!r}")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(min_size=MESSAGE_HEADER + CAPACITY, max_size=MESSAGE_HEADER + CAPACITY))
def test_any_bytes_are_taken_or_refused(cell: bytes) -> None:
    for mux in (Pair().origin, Pair().hop):
        try:
            deliver(mux, cell)
        except ProtocolError:
            continue
        assert cell[0] in {RelayCommand.DROP, RelayCommand.BEGIN}
