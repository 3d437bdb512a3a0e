"""Every decoder of the project against hostile bytes: only its one error may escape (spec/00 §5).

A decoder is registered with a valid example. It is then given that example cut at every byte, with
every byte changed, with parts replaced, well-formed CBOR of the wrong shape in the place of each
field, and arbitrary bytes. Decoders of a stream are given all this in portions too, byte by byte
among them: how bytes are cut into portions must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.directory.addresses import decode_address
from fogbank.directory.consensus import open_consensus
from fogbank.directory.descriptor import DescriptorCache, open_descriptor
from fogbank.directory.exchange import (
    GetConsensus,
    GetNetwork,
    PutDescriptor,
    Reply,
    Status,
    decode_reply,
    decode_request,
    pack_links,
    unpack_links,
)
from fogbank.directory.network import dump_network, load_network
from fogbank.directory.vote import Observation, Policy, Vote, open_vote
from fogbank.relay.cells import BODY, CELL, Command, cell_content, pack_cell
from fogbank.relay.certificates import Chain, Use, open_certificate
from fogbank.relay.codec import MAX_KEY, decode, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address, Extend
from fogbank.relay.handshake import HopKeys, HopRequest, OriginHandshake, answer_handshake
from fogbank.relay.job.errors import Cause
from fogbank.relay.job.frames import Blobs, Frames, Message, frame
from fogbank.relay.job.messages import (
    Accepted,
    Cancel,
    Hello,
    Load,
    ModuleHead,
    Offer,
    Refused,
    ResultHead,
    State,
    TaskHead,
    TaskState,
    decode_from_client,
    decode_from_worker,
)
from fogbank.relay.keys import Ed25519Key, Signed, X25519Key
from fogbank.relay.layers import HopLayers, OriginLayers
from fogbank.relay.link.handshake import LinkHandshake
from fogbank.relay.messages_shell import receive_message
from fogbank.relay.node_keys import NodeKeys, decode_key, encode_key
from fogbank.relay.replay import ReplayCache
from fogbank.sandbox.limits import CEILINGS, Limits
from fogbank.sandbox.outcome import ModuleRefused, Outcome, Result
from fogbank.sandbox.task import SEED_SIZE
from fogbank.sandbox.wire import (
    Control,
    Packet,
    WireError,
    decode_packet,
    decode_refusal,
    decode_result,
    encode_packet,
    encode_refusal,
    encode_result,
)
from tests.directory.factory import START, make_consensus, make_entry, make_network, relay


@dataclass(frozen=True)
class Decoder:
    """What takes hostile bytes apart; `valid` is what it accepts, `error` all that it may raise.

    With `exact` nothing shorter or longer than `valid` is accepted if it begins with it.
    """

    name: str
    decode: Callable[[bytes], object]
    valid: bytes
    error: type[Exception] = ProtocolError
    exact: bool = True


@dataclass(frozen=True)
class StreamDecoder:
    """What takes a hostile stream apart; `decode` gets it in portions and yields what it finds."""

    name: str
    decode: Callable[[Iterable[bytes]], Iterator[object]]
    valid: bytes


# The relay room.

NOW = float(START)
IDENTITY = Ed25519Key(b"i" * 32)
KEYS = NodeKeys.first(IDENTITY, NOW, lambda length: b"r" * length)
ONION = X25519Key(b"b" * 32)
NET = b"n" * 32
BINDING = b"binding of this link"
ORIGIN = OriginHandshake(IDENTITY.public, ONION.public, NET, HopRequest(1, 3), b"x" * 32, b"k" * 64)


def answer(message: bytes) -> bytes:
    replay = ReplayCache()
    return answer_handshake(message, IDENTITY.public, [ONION], NET, replay, b"y" * 32)[0]


def link(
    command: Command, *before: tuple[int, bytes], dialer: bool = False
) -> Callable[[bytes], object]:
    """Return a decoder of one cell of the link handshake, after others went before it."""

    def receive(content: bytes) -> object:
        side = LinkHandshake.responder(BINDING, KEYS.credentials(), "127.1.0.1")
        if dialer:
            side = LinkHandshake.dialer(BINDING, IDENTITY.public, None, "127.1.0.1")
        for cell in before:
            side.receive(*cell, NOW)
        return side.receive(command, content, NOW)

    return receive


VERSIONS = encode({1: [1]})
CERTS = KEYS.chain().encode()
RESPONDER = LinkHandshake.responder(BINDING, KEYS.credentials(), "127.1.0.1")
RESPONDER.receive(Command.VERSIONS, VERSIONS, NOW)
(_, AUTH), (_, NETINFO) = RESPONDER.receive(Command.NETINFO, encode({1: 0, 2: ""}), NOW)
AFTER_VERSIONS = (Command.VERSIONS, VERSIONS)
AFTER_CERTS = (AFTER_VERSIONS, (Command.CERTS, CERTS))


def sealed(forward: bool) -> bytes:
    """A cell's body that opens at the first hop, or at the origin."""
    cell = memoryview(bytearray(CELL))
    if forward:
        origin = OriginLayers()
        origin.add(HOP_KEYS)
        origin.seal(cell, 0)
    else:
        HopLayers(HOP_KEYS, 1).seal_own(cell, 0)
    return bytes(cell[CELL - BODY :])


HOP_KEYS = HopKeys(b"f" * 32, b"b" * 32, 1)


def as_cell(body: bytes) -> memoryview:
    """A cell with that body: cells have one size, whatever a peer says."""
    return memoryview(bytearray((bytes(CELL - BODY) + body).ljust(CELL, b"\0")[:CELL]))


def open_forward(body: bytes) -> int:
    target = memoryview(bytearray(CELL))
    return HopLayers(HOP_KEYS, 1).open_forward(as_cell(body), 0, target, 0)


def open_backward(body: bytes) -> int:
    origin = OriginLayers()
    origin.add(HOP_KEYS)
    return origin.open(as_cell(body), 0)


EXTEND = Extend(IDENTITY.public, (Address("192.0.2.1", 9001),), ORIGIN.message)
LINK_CERTIFICATE = KEYS.chain().link

RELAY_ROOM = [
    Decoder("document", lambda b: decode(b, 1000), encode({1: [b"x", "y", None], 2: {3: -4}})),
    Decoder("signed document", lambda b: Signed.decode(b, 512), LINK_CERTIFICATE.encode()),
    Decoder(
        "certificate",
        lambda b: open_certificate(Signed.decode(b, 512), Use.LINK, NOW),
        LINK_CERTIFICATE.encode(),
    ),
    Decoder("chain", lambda b: Chain.decode(b).verify(NOW), CERTS),
    Decoder("hop request", HopRequest.decode, HopRequest(1, 3).encode()),
    Decoder("CREATE", answer, ORIGIN.message),
    Decoder("CREATED", ORIGIN.finish, answer(ORIGIN.message)),
    Decoder("VERSIONS", link(Command.VERSIONS), VERSIONS),
    Decoder("CERTS", link(Command.CERTS, AFTER_VERSIONS, dialer=True), CERTS),
    Decoder("AUTH", link(Command.AUTH, *AFTER_CERTS, dialer=True), AUTH),
    Decoder("NETINFO", link(Command.NETINFO, AFTER_VERSIONS), NETINFO),
    Decoder("EXTEND", Extend.decode, EXTEND.encode()),
    Decoder(
        "cell content",
        lambda b: cell_content(memoryview(b.ljust(CELL, b"\0")[:CELL])),
        pack_cell(1, Command.CREATE, b"content"),
        exact=False,
    ),
    Decoder("layer forward", open_forward, sealed(forward=True), exact=False),
    Decoder("layer backward", open_backward, sealed(forward=False), exact=False),
    Decoder("key store", NodeKeys.decode, KEYS.encode()),
    Decoder("key file", lambda b: decode_key("family", b), encode_key("family", IDENTITY)),
]

# Jobs.

OFFER = Offer("class", CEILINGS, 1000, 1000, 4, Load(1, 0, 0))
TASK = TaskHead(1, ("a",), (("N", "v"),), (("f", 3),), 5, Limits(), bytes(SEED_SIZE))
RESULT = ResultHead(1, Outcome.COMPLETED, 0, 5, 3, 4, 2, "")
FROM_CLIENT: list[Message] = [Hello(), ModuleHead(bytes(32), 4), TASK, Cancel(1)]
FROM_WORKER: list[Message] = [
    OFFER,
    Accepted(),
    Refused(Cause.MODULE, "why", None, Outcome.INVALID_MODULE),
    TaskState(1, State.RUNNING, "why"),
    RESULT,
]
JOBS = [
    *(Decoder(f"job: {type(m).__name__}", decode_from_client, m.encode()) for m in FROM_CLIENT),
    *(Decoder(f"job: {type(m).__name__}", decode_from_worker, m.encode()) for m in FROM_WORKER),
]

# The directory.

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
AUTHORITY = NETWORK.authorities[0]
ROUND = START + 3
DESCRIPTOR = relay(0, family="f").descriptor(START)
VOTE = Vote(
    ROUND, Policy(), bytes(32), AUTHORITY.descriptor(START), ((DESCRIPTOR, Observation()),)
).sign(DOCUMENT.network_id, AUTHORITY.credentials)
CONSENSUS = NETWORK.sign(make_consensus(NETWORK, [make_entry(relay(0))]).encode_body())


def decode_vote(data: bytes) -> object:
    return open_vote(data, AUTHORITY.identity, DOCUMENT, ROUND, DescriptorCache(DOCUMENT))


def decode_toml(data: bytes) -> object:
    return load_network(data.decode("utf-8", "replace"))


DIRECTORY = [
    Decoder("address", decode_address, b"\x7f\0\0\1\x23\x28"),
    Decoder("descriptor", lambda b: open_descriptor(b, DOCUMENT, START), DESCRIPTOR),
    Decoder("vote", decode_vote, VOTE),
    Decoder("consensus", lambda b: open_consensus(b, DOCUMENT, ROUND), CONSENSUS),
    Decoder("request", lambda b: decode_request(b, 1 << 20), GetConsensus(bytes(32)).encode()),
    Decoder("publish", lambda b: decode_request(b, 1 << 20), PutDescriptor(DESCRIPTOR).encode()),
    Decoder("links asked", lambda b: decode_request(b, 1 << 20), GetNetwork(1, bytes(32)).encode()),
    Decoder("links", unpack_links, pack_links(["a = 1", "b = 2"])),
    Decoder("reply", decode_reply, Reply(Status.DONE, START, b"body", "why").encode()),
    Decoder("network.toml", decode_toml, dump_network(NETWORK.signed()).encode(), exact=False),
]

# The sandbox: its processes are hostile too, and it has an error of its own.

SANDBOX = [
    Decoder("packet", decode_packet, encode_packet(Packet(Control.EXITED, 7, -9)), WireError),
    Decoder(
        "result",
        lambda b: decode_result(b, Limits()),
        encode_result(Result(Outcome.COMPLETED, 0, 5, b"out", b"err", "")),
        WireError,
    ),
    Decoder(
        "refusal",
        decode_refusal,
        encode_refusal(ModuleRefused(Outcome.INVALID_MODULE, "why")),
        WireError,
        exact=False,
    ),
]

DECODERS = [*RELAY_ROOM, *JOBS, *DIRECTORY, *SANDBOX]


# Streams.


class Portions:
    """A stream that brings given portions; nothing on it ever waits."""

    def __init__(self, portions: Iterable[bytes]) -> None:
        self._portions = [bytes(portion) for portion in portions if portion]

    async def send_all(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int) -> bytes:
        if not self._portions:
            return b""
        head = self._portions[0][:max_bytes]
        self._portions[0] = self._portions[0][max_bytes:]
        if not self._portions[0]:
            self._portions.pop(0)
        return head

    async def aclose(self) -> None:
        raise NotImplementedError


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def messages(portions: Iterable[bytes]) -> Iterator[object]:
    stream = Portions(portions)
    while (message := finished(receive_message(stream, 200))) is not None:
        yield message


def frames(decode_message: Callable[[bytes], Any], portions: Iterable[bytes]) -> Iterator[object]:
    reader: Frames[Any] = Frames(decode_message, lambda m: Blobs(m.attachments, hashed=True))
    for portion in portions:
        for message, blobs in reader.feed(portion):
            yield message, blobs and (blobs.take(), blobs.sha256)


def framed(said: list[Message]) -> bytes:
    return b"".join(frame(m) + b"a" * sum(m.attachments) for m in said)


STREAMS = [
    StreamDecoder("messages", messages, b"\0\0\0\3abc\0\0\0\0\0\0\0\xc8" + b"x" * 200),
    StreamDecoder("client's frames", lambda p: frames(decode_from_client, p), framed(FROM_CLIENT)),
    StreamDecoder("worker's frames", lambda p: frames(decode_from_worker, p), framed(FROM_WORKER)),
]


# What is done to each decoder.

each = pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.name)
each_stream = pytest.mark.parametrize("stream", STREAMS, ids=lambda d: d.name)
fuzzed = settings(max_examples=25, deadline=None, derandomize=True)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 20) | st.just(MAX_KEY), inner, max_size=4)
    ),
    max_leaves=10,
)


def attempt(decoder: Decoder, data: bytes) -> bool:
    """Decode; tell whether it was accepted. Anything but the decoder's one error fails the test."""
    try:
        decoder.decode(data)
    except decoder.error:
        return False
    return True


def mangled(data: st.DataObject, valid: bytes) -> bytes:
    """Replace some bytes of `valid` by others, fewer or more."""
    at = data.draw(st.integers(0, len(valid)))
    until = data.draw(st.integers(at, min(len(valid), at + 40)))
    return valid[:at] + data.draw(st.binary(max_size=40)) + valid[until:]


@each
def test_a_valid_example_is_accepted(decoder: Decoder) -> None:
    decoder.decode(decoder.valid)


@each
def test_cut_at_every_byte(decoder: Decoder) -> None:
    step = max(1, len(decoder.valid) // 500)
    for end in range(0, len(decoder.valid), step):
        accepted = attempt(decoder, decoder.valid[:end])
        assert not (accepted and decoder.exact), end
    assert not (attempt(decoder, decoder.valid + b"\0") and decoder.exact)


@each
def test_every_byte_changed(decoder: Decoder) -> None:
    for place in range(0, len(decoder.valid), max(1, len(decoder.valid) // 500)):
        data = bytearray(decoder.valid)
        data[place] ^= 1 << place % 8
        attempt(decoder, bytes(data))


@each
@fuzzed
@given(data=st.data())
def test_arbitrary_and_mangled_bytes(decoder: Decoder, data: st.DataObject) -> None:
    attempt(decoder, data.draw(st.binary(max_size=300)))
    attempt(decoder, mangled(data, decoder.valid))


@each
@fuzzed
@given(data=st.data())
def test_well_formed_cbor_of_the_wrong_shape(decoder: Decoder, data: st.DataObject) -> None:
    """Any value in the place of one field, however deep, or of everything."""
    try:
        whole = [decode(decoder.valid, 1 << 20)]
    except ProtocolError:
        whole = [None]
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(VALUES)
    attempt(decoder, encode(whole[0]))


def outcome(stream: StreamDecoder, portions: Iterable[bytes]) -> tuple[list[object], str]:
    """Return what was found, and the error that ended it or nothing."""
    found: list[object] = []
    try:
        for item in stream.decode(portions):
            found.append(item)  # noqa: PERF402  what came before an error is kept too
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@each_stream
def test_a_valid_stream_is_the_same_in_any_portions(stream: StreamDecoder) -> None:
    found, error = outcome(stream, [stream.valid])
    assert found
    assert not error
    assert outcome(stream, byte_by_byte(stream.valid)) == (found, "")


@each_stream
@fuzzed
@given(data=st.data())
def test_a_hostile_stream_is_the_same_in_any_portions(
    stream: StreamDecoder, data: st.DataObject
) -> None:
    hostile = data.draw(st.binary(max_size=100))
    if data.draw(st.booleans()):
        hostile = mangled(data, stream.valid)
    whole = outcome(stream, [hostile])
    assert outcome(stream, byte_by_byte(hostile)) == whole
    cut = data.draw(st.integers(0, len(hostile)))
    assert outcome(stream, [hostile[:cut], hostile[cut:]]) == whole


def test_names_are_unique() -> None:
    names = [decoder.name for decoder in DECODERS] + [stream.name for stream in STREAMS]
    assert len(set(names)) == len(names)
