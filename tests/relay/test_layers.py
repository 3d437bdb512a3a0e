"""Layers (spec/03 §3): what is touched on the way dies at the next honest hop."""

import gc
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fogbank.relay.cells import BODY, CELL, HEADER, LAYER, Geometry
from fogbank.relay.errors import ProtocolError
from fogbank.relay.handshake import HopKeys
from fogbank.relay.layers import (
    BACKWARD,
    EPOCH,
    FORWARD,
    TO_NEXT,
    TO_YOU,
    HopLayers,
    Layer,
    OriginLayers,
)

HOPS = 6
EVERY_HOP = range(1, HOPS + 1)
VECTORS = json.loads(
    (Path(__file__).resolve().parents[2] / "spec" / "vectors" / "03-layers.json").read_text()
)
FORWARD_KEYS, BACKWARD_KEYS = (
    [bytes.fromhex(key) for key in VECTORS["chain_keys"][way]] for way in ("forward", "backward")
)


def hop_keys(index: int) -> HopKeys:
    return HopKeys(FORWARD_KEYS[index - 1], BACKWARD_KEYS[index - 1], 1)


def message(direction: int, number: int, hop: int) -> bytes:
    text = b"message %d %d" % (direction, number)
    return hashlib.shake_256(text).digest(Geometry.message(hop))


class Circuit:
    """An origin and its hops, with the bodies that travel between them; no link in between."""

    def __init__(self, hops: int = HOPS) -> None:
        self.origin = OriginLayers()
        self.hops = [HopLayers(hop_keys(index), index) for index in range(1, hops + 1)]
        for index in range(1, hops + 1):
            self.origin.add(hop_keys(index))

    def seal(self, content: bytes) -> tuple[bytes, bytes]:
        """Return the body that leaves the origin, and the innermost tag."""
        cell = bytearray(CELL)
        begin = HEADER + len(self.hops)
        cell[begin : begin + len(content)] = content
        tag = self.origin.seal(memoryview(cell), 0)
        return bytes(cell[HEADER:]), tag

    def relay(self, index: int, body: bytes) -> tuple[int, bytes]:
        """Let hop `index` open a body; return the flag and the body that it would send on."""
        source = memoryview(bytearray(HEADER) + body)
        target = bytearray(b"\xee" * CELL)
        flag = self.hops[index - 1].open_forward(source, 0, memoryview(target), 0)
        return flag, bytes(target[HEADER:])

    def carry(self, body: bytes, first: int = 1, last: int = HOPS) -> bytes:
        """Let hops `first` to `last` open a body one after the other; return what the last has."""
        for index in range(first, last + 1):
            flag, body = self.relay(index, body)
            assert flag == (TO_YOU if index == len(self.hops) else TO_NEXT)
        return body

    def speak(self, index: int, content: bytes) -> tuple[bytes, bytes]:
        """Let hop `index` seal its own message; return the body that it sends, and the tag."""
        cell = bytearray(b"\xee" * CELL)
        cell[HEADER + 1 : HEADER + 1 + len(content)] = content
        tag = self.hops[index - 1].seal_own(memoryview(cell), 0)
        return bytes(cell[HEADER:]), tag

    def add_layer(self, index: int, body: bytes) -> bytes:
        """Let hop `index` pass a body on towards the origin."""
        source = memoryview(bytearray(HEADER) + body)
        target = bytearray(b"\xee" * CELL)
        self.hops[index - 1].seal_backward(source, 0, memoryview(target), 0)
        return bytes(target[HEADER:])

    def carry_back(self, body: bytes, first: int, last: int = 1) -> bytes:
        """Let hops `first` down to `last` pass a body on."""
        for index in range(first, last - 1, -1):
            body = self.add_layer(index, body)
        return body

    def open(self, body: bytes) -> tuple[int, bytes]:
        """Let the origin open a body; return which hop speaks, and its message."""
        cell = bytearray(HEADER) + body
        index = self.origin.open(memoryview(cell), 0)
        begin = HEADER + index
        return index, bytes(cell[begin : begin + Geometry.message(index)])


def flipped(body: bytes, position: int) -> bytes:
    changed = bytearray(body)
    changed[position] ^= 0x40
    return bytes(changed)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# Vectors.


def check_forward(circuit: Circuit, number: int, expected: Any) -> None:
    last = len(circuit.hops)
    body, tag = circuit.seal(message(FORWARD, number, last))
    bodies = []
    for index in range(1, last + 1):
        bodies.append(digest(body))
        _, body = circuit.relay(index, body)
    assert body[: Geometry.message(last)] == message(FORWARD, number, last)
    if expected:
        assert bodies == expected["bodies"]
        assert tag.hex() == expected["tag"]


def check_backward(
    circuit: Circuit, hop: int, number: int, expected: dict[str, Any] | None
) -> None:
    body, tag = circuit.speak(hop, message(BACKWARD, number, hop))
    bodies = [digest(body)]
    for index in range(hop - 1, 0, -1):
        body = circuit.add_layer(index, body)
        bodies.insert(0, digest(body))
    assert circuit.open(body) == (hop, message(BACKWARD, number, hop))
    if expected:
        assert bodies == expected["bodies"]
        assert tag.hex() == expected["tag"]


def test_vectors_across_a_change_of_keys() -> None:
    circuit = Circuit()
    there = {vector["t"]: vector for vector in VECTORS["forward"]}
    back = {vector["t"]: vector for vector in VECTORS["backward"]}
    assert {0, 255, 256, 257} < set(there)
    assert set(there) == set(back)
    for number in range(VECTORS["cells"]):
        check_forward(circuit, number, there.get(number))
        check_backward(circuit, HOPS, number, back.get(number))


@pytest.mark.parametrize("hop", range(1, HOPS))
def test_vectors_of_shorter_circuits(hop: int) -> None:
    check_forward(Circuit(hop), 0, VECTORS["shorter"]["forward"][hop - 1])
    check_backward(Circuit(), hop, 0, VECTORS["shorter"]["backward"][hop - 1])


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_received_tags_are_the_sealers(hop: int) -> None:
    circuit = Circuit(hop)
    body, tag = circuit.seal(message(FORWARD, 0, hop))
    body = circuit.carry(body, last=hop - 1)
    assert circuit.hops[-1].received_tag(memoryview(bytes(HEADER) + body), 0) == tag
    body, tag = circuit.speak(hop, message(BACKWARD, 0, hop))
    cell = bytearray(HEADER) + circuit.carry_back(body, hop - 1)
    assert circuit.origin.open(memoryview(cell), 0) == hop
    assert circuit.origin.received_tag(memoryview(cell), 0, hop) == tag


# Forward: a cell is touched on the link into a hop.


def some_positions(hop: int) -> list[int]:
    """Both ends of a hop's layer, both ends of its tag, and some places between."""
    length = Geometry.body(hop)
    drawn = random.Random(hop).sample(range(length), 12)
    return [0, 1, length - 17, length - 16, length - 1, *drawn]


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_an_altered_cell_dies_at_the_next_hop(hop: int) -> None:
    for position in some_positions(hop):
        circuit = Circuit()
        body = circuit.carry(circuit.seal(b"data")[0], last=hop - 1)
        with pytest.raises(ProtocolError, match="does not open"):
            circuit.relay(hop, flipped(body, position))


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_after_a_dropped_cell_the_next_one_dies(hop: int) -> None:
    circuit = Circuit()
    circuit.carry(circuit.seal(b"dropped")[0], last=hop - 1)
    body = circuit.carry(circuit.seal(b"next")[0], last=hop - 1)
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.relay(hop, body)


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_a_replayed_cell_dies(hop: int) -> None:
    circuit = Circuit()
    body = circuit.carry(circuit.seal(b"data")[0], last=hop - 1)
    circuit.relay(hop, body)
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.relay(hop, body)


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_the_first_of_two_reordered_cells_dies(hop: int) -> None:
    circuit = Circuit()
    bodies = [circuit.carry(circuit.seal(text)[0], last=hop - 1) for text in (b"first", b"second")]
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.relay(hop, bodies[1])


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_a_cell_of_another_circuit_dies(hop: int) -> None:
    circuit = Circuit()
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.relay(hop, random.Random(hop).randbytes(BODY))


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_a_failed_cell_is_never_made_up_for(hop: int) -> None:
    """Nothing is resynchronised: after a fault the right cells do not open either."""
    circuit = Circuit()
    body = circuit.carry(circuit.seal(b"data")[0], last=hop - 1)
    for attempt in (flipped(body, 100), body):
        with pytest.raises(ProtocolError):
            circuit.relay(hop, attempt)


@pytest.mark.parametrize("hop", range(2, HOPS + 1))
def test_forward_filler_is_ignored_and_sent_on_as_zeros(hop: int) -> None:
    circuit = Circuit()
    body = circuit.carry(circuit.seal(message(FORWARD, 0, HOPS))[0], last=hop - 1)
    used = Geometry.body(hop)
    assert body[used:] == bytes(LAYER * (hop - 1))
    covert = body[:used] + b"\xaa" * (BODY - used)
    _, sent = circuit.relay(hop, covert)
    assert sent[Geometry.message(hop) :] == bytes(LAYER * hop)
    received = circuit.carry(sent, first=hop + 1)
    assert received[: Geometry.message(HOPS)] == message(FORWARD, 0, HOPS)


# Backward: a cell is touched on the link from a hop, and the origin is the next that opens.


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_an_altered_answer_dies_at_the_origin(hop: int) -> None:
    for position in some_positions(hop):
        circuit = Circuit()
        body = circuit.carry_back(circuit.speak(HOPS, b"data")[0], HOPS - 1, hop)
        body = circuit.carry_back(flipped(body, position), hop - 1)
        with pytest.raises(ProtocolError, match="does not open"):
            circuit.open(body)


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_after_a_dropped_answer_the_next_one_dies(hop: int) -> None:
    circuit = Circuit()
    circuit.carry_back(circuit.speak(HOPS, b"dropped")[0], HOPS - 1, hop)
    body = circuit.carry_back(circuit.speak(HOPS, b"next")[0], HOPS - 1)
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.open(body)


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_a_replayed_answer_dies(hop: int) -> None:
    circuit = Circuit()
    body = circuit.carry_back(circuit.speak(HOPS, b"data")[0], HOPS - 1, hop)
    assert circuit.open(circuit.carry_back(body, hop - 1))[0] == HOPS
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.open(circuit.carry_back(body, hop - 1))


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_the_first_of_two_reordered_answers_dies(hop: int) -> None:
    circuit = Circuit()
    bodies = [
        circuit.carry_back(circuit.speak(HOPS, text)[0], HOPS - 1, hop)
        for text in (b"first", b"second")
    ]
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.open(circuit.carry_back(bodies[1], hop - 1))


@pytest.mark.parametrize("hop", range(1, HOPS))
def test_backward_filler_is_ignored_and_sent_on_as_zeros(hop: int) -> None:
    """What hop + 1 hides behind its layer, hop `hop` does not pass on."""
    circuit = Circuit()
    content = message(BACKWARD, 0, HOPS)
    body = circuit.carry_back(circuit.speak(HOPS, content)[0], HOPS - 1, hop + 1)
    used = Geometry.body(hop + 1)
    assert body[used:] == bytes(LAYER * hop)
    covert = body[:used] + b"\xaa" * (BODY - used)
    sent = circuit.add_layer(hop, covert)
    assert sent[Geometry.body(hop) :] == bytes(LAYER * (hop - 1))
    assert sent == Circuit().add_layer(hop, body)
    assert circuit.open(circuit.carry_back(sent, hop - 1)) == (HOPS, content)


@pytest.mark.parametrize("hop", EVERY_HOP)
def test_the_origin_knows_which_hop_speaks(hop: int) -> None:
    circuit = Circuit()
    content = message(BACKWARD, 0, hop)
    body = circuit.carry_back(circuit.speak(hop, content)[0], hop - 1)
    assert circuit.open(body) == (hop, content)


@pytest.mark.parametrize("hop", range(1, HOPS))
def test_a_hop_cannot_speak_for_one_behind_it(hop: int) -> None:
    """It passes on, with flag 0, a body that it made up itself."""
    circuit = Circuit()
    body = circuit.carry_back(random.Random(hop).randbytes(BODY), hop)
    with pytest.raises(ProtocolError, match="does not open"):
        circuit.open(body)


# Flags.


def layer_of(direction: int, index: int, flag: int) -> bytes:
    keys = FORWARD_KEYS if direction == FORWARD else BACKWARD_KEYS
    plain = bytearray([flag]) + bytes(Geometry.message(index))
    out = bytearray(len(plain) + 16)
    Layer(keys[index - 1], direction, index).seal(memoryview(plain), memoryview(out))
    return bytes(out).ljust(BODY, b"\0")


@pytest.mark.parametrize("flag", [0, 1, 2, 255])
def test_a_hop_is_told_every_flag_as_it_is(flag: int) -> None:
    assert Circuit(1).relay(1, layer_of(FORWARD, 1, flag))[0] == flag


@pytest.mark.parametrize("flag", [2, 128, 255])
def test_the_origin_refuses_an_unknown_flag(flag: int) -> None:
    with pytest.raises(ProtocolError, match="no hop"):
        Circuit(1).open(layer_of(BACKWARD, 1, flag))


def test_the_origin_refuses_a_cell_that_no_hop_says_is_its_own() -> None:
    with pytest.raises(ProtocolError, match="no hop"):
        Circuit(1).open(layer_of(BACKWARD, 1, TO_NEXT))


def test_an_origin_without_hops_opens_nothing() -> None:
    with pytest.raises(ProtocolError, match="no hop"):
        Circuit(0).open(bytes(BODY))


# Keys.


def test_a_layer_is_bound_to_its_direction_and_hop() -> None:
    chain = FORWARD_KEYS[0]
    plain = bytearray(100)
    sealed = bytearray(116)
    Layer(chain, FORWARD, 1).seal(memoryview(plain), memoryview(sealed))
    Layer(chain, FORWARD, 1).open(memoryview(bytes(sealed)), memoryview(plain))
    for direction, index in ((BACKWARD, 1), (FORWARD, 2)):
        with pytest.raises(ProtocolError, match="does not open"):
            Layer(chain, direction, index).open(memoryview(bytes(sealed)), memoryview(plain))


def expand(chain: bytes, label: bytes) -> bytes:
    return HKDFExpand(SHA256(), 32, b"fogbank-layer-v1:" + label).derive(chain)


def test_a_seized_hop_has_no_key_of_a_past_epoch() -> None:
    chains = [FORWARD_KEYS[0]]
    for _ in range(3):
        chains.append(expand(chains[-1], b"next"))
    past = [*chains[:2], *(expand(chain, b"key") for chain in chains[:2])]
    layer = Layer(chains[0], FORWARD, 1)
    plain, recorded = memoryview(bytearray(100)), bytearray(116)
    for number in range(EPOCH + 1):
        out = recorded if number == EPOCH - 1 else bytearray(116)
        layer.seal(plain, memoryview(out))
    # What it holds: the key of this epoch, and the chain key of the next.
    held = [thing for thing in gc.get_referents(layer) if isinstance(thing, bytes)]
    assert chains[2] in held
    assert not set(held) & set(past)
    nonce = (EPOCH - 1).to_bytes(12, "big")
    AESGCM(past[2]).decrypt(nonce, bytes(recorded), b"fogbank-layer-v1\x01\x01\x07")
    with pytest.raises(InvalidTag):
        layer._aead.decrypt(nonce, bytes(recorded), b"fogbank-layer-v1\x01\x01\x07")


def test_every_epoch_has_its_own_key() -> None:
    layer = Layer(FORWARD_KEYS[0], FORWARD, 1)
    plain, out = memoryview(bytearray(32)), memoryview(bytearray(48))
    marks = []
    for number in range(3 * EPOCH):
        layer.seal(plain, out)
        if number % EPOCH in {0, EPOCH - 1}:
            # What a key makes of one nonce and text tells it from others.
            marks.append(layer._aead.encrypt(bytes(12), b"which key", b""))
    assert marks[0::2] == marks[1::2]
    assert len(set(marks)) == 3
    assert layer.count == 3 * EPOCH


def test_counts_are_of_the_busier_direction() -> None:
    circuit = Circuit()
    assert circuit.origin.count == circuit.hops[0].count == 0
    for _ in range(3):
        circuit.carry(circuit.seal(b"data")[0])
    for _ in range(5):
        circuit.open(circuit.carry_back(circuit.speak(HOPS, b"data")[0], HOPS - 1))
    assert circuit.origin.count == circuit.hops[0].count == 5
    assert OriginLayers().count == 0
