"""Streams at either end of a circuit: every message in every state (spec/04).

A peer says what it likes to one mux, and the local side does what it likes too. Only the protocol
error may come of a message; then the circuit is closed, as a hop and an origin do it, and from
there on the mux says nothing more, whatever the local side still does.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fogbank.relay.errors import ProtocolError, StreamReset
from fogbank.relay.limits import (
    CIRCUIT_INCREMENT,
    CIRCUIT_WINDOW,
    MAX_STREAMS,
    STREAM_INCREMENT,
    STREAM_WINDOW,
)
from fogbank.relay.streams.messages import RelayCommand, ResetReason
from fogbank.relay.streams.mux import StreamMux, StreamState
from tests.relay.test_streams import CAPACITY, Wire, deliver, message

R = RelayCommand
OFTEN = {
    R.DROP: st.just(b""),
    R.EXTEND: st.just(b"extend"),
    R.EXTENDED: st.just(b"extended"),
    R.REFUSED: st.just(b"\1"),
    R.BEGIN: st.sampled_from([b"echo", b"other"]),
    R.CONNECTED: st.just(b""),
    R.DATA: st.just(b"x" * CAPACITY),
    R.EOF: st.just(b""),
    R.RESET: st.sampled_from([bytes([reason]) for reason in (*ResetReason, 0, 255)]),
    R.SENDME: st.just(b"t" * 16),
}
"""The data that each message mostly has; one of a new command is missing, and missed."""
IDS = st.integers(0, 4)


class AnythingAtAMux(RuleBasedStateMachine):
    """One mux, a peer that breaks rules, and a local side that keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire(b"own")
        self.streams: list[StreamState] = []
        self.over = False
        self.at_the_end = 0
        self.mux: StreamMux
        self.came = 0
        self.acknowledged: Counter[int] = Counter()
        """SENDMEs that were taken, by stream."""

    @initialize(at_hop=st.booleans(), polite=st.booleans())
    def start(self, at_hop: bool, polite: bool) -> None:
        """A polite peer sends too much at worst, and so lives long enough for that."""
        self.at_hop, self.polite = at_hop, polite
        self.mux = StreamMux(self.wire, self._accept if at_hop else None)

    def _accept(self, stream: StreamState, service: str) -> ResetReason | None:
        if service != "echo":
            return ResetReason.NO_SERVICE
        self.streams.append(stream)
        return None

    # The peer.

    def hear(self, command: int, stream: int, data: bytes) -> None:
        if self.over:
            return
        self.came += command == R.DATA
        before = len(self.wire.log)
        try:
            deliver(self.mux, message(command, stream, data))
        except ProtocolError:
            assert len(self.wire.log) == before, "it answers what it refuses"
            self.mux.close("the circuit was destroyed")
            self.over, self.at_the_end = True, len(self.wire.log)
        else:
            self.acknowledged[stream] += command == R.SENDME

    @precondition(lambda self: not self.polite)
    @rule(command=st.sampled_from(RelayCommand), stream=IDS, data=st.data())
    def a_message(self, command: RelayCommand, stream: int, data: st.DataObject) -> None:
        self.hear(command, stream, data.draw(OFTEN[command]))

    @precondition(lambda self: not self.polite)
    @rule(command=st.integers(0, 11) | st.just(255), stream=IDS | st.just(0xFFFF),
          data=st.binary(max_size=CAPACITY))  # fmt: skip
    def any_message(self, command: int, stream: int, data: bytes) -> None:
        self.hear(command, stream, data)

    @precondition(lambda self: self.at_hop)
    @rule(
        service=st.sampled_from([b"echo", b"echo", b"other"]), times=st.sampled_from([1, 1, 1, 40])
    )
    def the_next_begin(self, service: bytes, times: int) -> None:
        for _ in range(times):
            self.hear(R.BEGIN, self.mux._last_id + 1, service)

    @precondition(lambda self: not self.at_hop)
    @rule(at=st.integers(0, 40))
    def a_right_answer(self, at: int) -> None:
        waiting = [stream for stream in self.streams if not stream.connected and not stream.error]
        if waiting:
            self.hear(R.CONNECTED, waiting[at % len(waiting)].id, b"")

    @rule(at=st.integers(0, 40), times=st.sampled_from([1, 70, 200, 1025]))
    def much_data(self, at: int, times: int) -> None:
        live = [stream for stream in self.streams if stream.connected and not stream.peer_eof]
        if live:
            for _ in range(times):
                self.hear(R.DATA, live[at % len(live)].id, b"x" * CAPACITY)

    @rule(of_circuit=st.booleans(), at=st.integers(0, 40))
    def a_right_acknowledgement(self, of_circuit: bool, at: int) -> None:
        source = self.streams[at % len(self.streams)] if self.streams else None
        noted = self.mux._sent_tags if of_circuit or source is None else source.sent_tags
        if noted:
            self.hear(R.SENDME, 0 if of_circuit or source is None else source.id, noted[0])

    @precondition(lambda self: not self.polite)
    @rule(stream=IDS)
    def a_false_acknowledgement(self, stream: int) -> None:
        self.hear(R.SENDME, stream, b"t" * 16)

    # The local side: all of it goes on after the circuit's end.

    @precondition(lambda self: not self.at_hop)
    @rule()
    def begin(self) -> None:
        if not self.over and len(self.mux) < MAX_STREAMS:
            self.streams.append(self.mux.begin("echo"))

    @rule(at=st.integers(0, 40), cells=st.sampled_from([1, 3, 150, 1100]))
    def write(self, at: int, cells: int) -> None:
        if self.streams:
            stream = self.streams[at % len(self.streams)]
            try:
                self.mux.write(stream, b"y" * CAPACITY * cells)
            except type(stream.error or StreamReset("")):
                assert stream.error is not None or stream.eof_wanted
            self.mux.pump()

    @rule(at=st.integers(0, 40), size=st.sampled_from([1, 1000, 1 << 20]))
    def take(self, at: int, size: int) -> None:
        if self.streams:
            self.mux.take(self.streams[at % len(self.streams)], size)

    @rule(at=st.integers(0, 40), reason=st.sampled_from(ResetReason))
    def reset(self, at: int, reason: ResetReason) -> None:
        if self.streams:
            self.mux.reset(self.streams[at % len(self.streams)], reason)

    @rule(at=st.integers(0, 40))
    def finish(self, at: int) -> None:
        if self.streams:
            self.mux.finish(self.streams[at % len(self.streams)])

    @rule(room=st.booleans())
    def the_link_drains_or_not(self, room: bool) -> None:
        if room:
            self.wire.drain()
        self.wire.room = room

    # What must hold.

    @invariant()
    def nothing_is_said_after_the_end(self) -> None:
        if self.over:
            assert len(self.wire.log) == self.at_the_end
            assert len(self.mux) == 0
            assert all(s.error is not None or (s.peer_eof and s.eof_sent) for s in self.streams)

    @invariant()
    def no_stream_ends_twice(self) -> None:
        ended: dict[int, int] = {}
        for command, stream, _ in self.wire.log:
            if command == R.BEGIN or (command == R.CONNECTED and self.at_hop):
                assert stream not in ended
            elif command == R.DATA:
                assert stream not in ended, "data after the end"
            elif command == R.EOF:
                assert stream not in ended, "a second end"
                ended[stream] = command
            elif command == R.RESET:
                assert ended.get(stream) != R.RESET, "a second end"
                ended[stream] = command

    @invariant()
    def windows_hold(self) -> None:
        sent = Counter(stream for command, stream, _ in self.wire.log if command == R.DATA)
        acknowledged = CIRCUIT_INCREMENT * self.acknowledged[0]
        assert acknowledged <= sent.total() <= CIRCUIT_WINDOW + acknowledged
        for stream, count in sent.items():
            assert count <= STREAM_WINDOW + STREAM_INCREMENT * self.acknowledged[stream]
        grants = Counter(stream for command, stream, _ in self.wire.log if command == R.SENDME)
        assert grants[0] <= self.came // CIRCUIT_INCREMENT
        if not self.over:
            assert self.came <= CIRCUIT_WINDOW + CIRCUIT_INCREMENT * grants[0]
        for each in self.streams:
            if not self.over:
                assert each.received_cells <= STREAM_WINDOW + STREAM_INCREMENT * grants[each.id]
            assert grants[each.id] <= each.received_cells // STREAM_INCREMENT
            if each.error is None:
                assert STREAM_INCREMENT * self.acknowledged[each.id] <= sent[each.id]
        assert len(self.mux) <= MAX_STREAMS
        assert sum(len(stream.inbox) for stream in self.streams) <= self.came * CAPACITY

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        if not self.over:
            assert 0 <= self.wire.held <= 2 * CIRCUIT_WINDOW


AnythingAtAMux.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, derandomize=True
)
TestAnythingAtAMux = AnythingAtAMux.TestCase


def test_nothing_is_granted_after_the_end() -> None:
    """SENDMEs that were held back for want of readers die with the circuit."""
    wire, streams = Wire(b"hop"), []

    def accept(stream: StreamState, _service: str) -> None:
        streams.append(stream)

    mux = StreamMux(wire, accept)
    for number in (1, 2, 3):
        deliver(mux, message(R.BEGIN, number, b"echo"))
        for _ in range(STREAM_WINDOW):
            deliver(mux, message(R.DATA, number, b"unread"))
    assert wire.held > CIRCUIT_WINDOW
    said = len(wire.log)
    mux.close("the circuit was destroyed")
    for stream in streams:
        mux.take(stream, 1 << 20)
    assert len(wire.log) == said


def test_every_command_has_an_example() -> None:
    assert set(OFTEN) == set(RelayCommand)
