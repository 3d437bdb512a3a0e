"""The decoders of the relay room: documents, certificates, handshakes, cells, key files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fogbank.relay import handshake
from fogbank.relay.cells import BODY, CELL, Command, cell_content, pack_cell
from fogbank.relay.certificates import Chain, Use, open_certificate
from fogbank.relay.codec import decode, encode
from fogbank.relay.extend import Address, Extend
from fogbank.relay.handshake import HopKeys, HopRequest, OriginHandshake, answer_handshake
from fogbank.relay.keys import Ed25519Key, NodeId, Signed, X25519Key, parse_id, show_id
from fogbank.relay.layers import HopLayers, OriginLayers
from fogbank.relay.link.handshake import LinkHandshake
from fogbank.relay.node_keys import (
    NodeKeys,
    answer_request,
    decode_key,
    encode_key,
    encode_request,
)
from fogbank.relay.replay import ReplayCache
from fogbank.relay.work import Demand, pack_work, unpack_work
from tests.directory.factory import START
from tests.fuzz.kinds import Decoder, Form
from tests.fuzz.signing import Ring

NOW = float(START)
IDENTITY = Ed25519Key(b"i" * 32)
KEYS = NodeKeys.first(IDENTITY, NOW, lambda length: b"r" * length)
SIGNING = Ed25519Key(KEYS.signing.seed)
ONION = X25519Key(b"b" * 32)
NET = b"n" * 32
BINDING = b"binding of this link"
ORIGIN = OriginHandshake(IDENTITY.public, ONION.public, NET, HopRequest(1, 3), b"x" * 32, b"k" * 64)
RING = Ring([IDENTITY, SIGNING])


def answer(message: bytes) -> bytes:
    """Return a hop's answer."""
    replay = ReplayCache()
    return answer_handshake(message, IDENTITY.public, [ONION], NET, replay, b"y" * 32)[0]


@dataclass(frozen=True, slots=True)
class Plain(HopRequest):
    """A request of any bytes."""

    data: bytes = b""

    def encode(self) -> bytes:
        return self.data


def sealed_create(request: bytes) -> bytes:
    """Answer a CREATE that opens, whatever its origin asks for in it."""
    plain = Plain(1, 3, data=request)
    origin = OriginHandshake(IDENTITY.public, ONION.public, NET, plain, b"x" * 32, b"k" * 64)
    return answer(origin.message)


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
        return side.receive(command, content, NOW), side.clock_warning()

    return receive


VERSIONS = encode({1: [1]})
CERTS = KEYS.chain().encode()
RESPONDER = LinkHandshake.responder(BINDING, KEYS.credentials(), "127.1.0.1")
RESPONDER.receive(Command.VERSIONS, VERSIONS, NOW)
(_, AUTH), (_, NETINFO) = RESPONDER.receive(Command.NETINFO, encode({1: 0, 2: ""}), NOW)
AFTER_VERSIONS = (Command.VERSIONS, VERSIONS)
AFTER_CERTS = (AFTER_VERSIONS, (Command.CERTS, CERTS))
AFTER_AUTH = (*AFTER_CERTS, (Command.AUTH, AUTH))


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
    """Open a layer at a hop."""
    target = memoryview(bytearray(CELL))
    return HopLayers(HOP_KEYS, 1).open_forward(as_cell(body), 0, target, 0)


def open_backward(body: bytes) -> int:
    """Open a layer at the origin."""
    origin = OriginLayers()
    origin.add(HOP_KEYS)
    return origin.open(as_cell(body), 0)


EXTEND = Extend(IDENTITY.public, (Address("192.0.2.1", 9001),), ORIGIN.message)
LINK_CERTIFICATE = KEYS.chain().link
NEXT = Ed25519Key(b"s" * 32)


def certificate_of(use: Use) -> Callable[[bytes], Signed]:
    """Return a decoder of one certificate."""

    def opened(data: bytes) -> Signed:
        signed = Signed.decode(data, 512)
        certificate = open_certificate(signed, use, NOW)
        assert certificate.encode_body() == signed.body
        return signed

    return opened


def chain(data: bytes) -> Chain:
    """Decode and verify what a node shows on a link."""
    shown = Chain.decode(data)
    shown.verify(NOW)
    return shown


def renewed(data: bytes) -> NodeKeys:
    """Take up a signing key's certificate that was made elsewhere."""
    return KEYS.with_certificate(NEXT.seed(), Signed.decode(data, 512), NOW)


def identity(data: bytes) -> NodeId:
    """Read an identity as users write it."""
    return parse_id(data.decode("utf-8", "replace"))


RELAY_ROOM = [
    Decoder(
        "document",
        lambda b: decode(b, 1000),
        encode({1: [b"x", "y", None], 2: {3: -4}}),
        again=encode,
    ),
    Decoder(
        "signed document",
        lambda b: Signed.decode(b, 512),
        LINK_CERTIFICATE.encode(),
        again=lambda signed: signed.encode(),
    ),
    Decoder(
        "certificate",
        certificate_of(Use.LINK),
        LINK_CERTIFICATE.encode(),
        again=lambda signed: signed.encode(),
        repair=RING.repair,
    ),
    Decoder("chain", chain, CERTS, again=lambda shown: shown.encode(), repair=RING.repair),
    Decoder(
        "hop request",
        HopRequest.decode,
        HopRequest(1, 3).encode(),
        # Key 4 is reserved, and passed over.
        more=(encode({1: 1, 2: 3, 3: [1], 4: b"x"}),),
        again=lambda request: request.encode(),
        canonical=False,
    ),
    Decoder("hop answer", handshake._decode_answer, encode({1: 1})),
    Decoder("CREATE", answer, ORIGIN.message, form=Form.BYTES),
    Decoder("CREATE that opens", sealed_create, HopRequest(1, 3).encode(), limit=600),
    Decoder(
        "CREATE_WORK",
        unpack_work,
        pack_work(7, b""),
        exact=False,
        again=lambda work: pack_work(*work),
        form=Form.BYTES,
    ),
    Decoder(
        "WORK_ASKED",
        Demand.decode,
        Demand(10, bytes(16)).encode(),
        again=lambda demand: demand.encode(),
        form=Form.BYTES,
    ),
    Decoder("CREATED", ORIGIN.finish, answer(ORIGIN.message), form=Form.BYTES),
    Decoder("VERSIONS", link(Command.VERSIONS), VERSIONS),
    Decoder(
        "CERTS",
        link(Command.CERTS, AFTER_VERSIONS, dialer=True),
        CERTS,
        repair=RING.repair,
    ),
    Decoder("AUTH", link(Command.AUTH, *AFTER_CERTS, dialer=True), AUTH, form=Form.BYTES),
    Decoder("NETINFO", link(Command.NETINFO, AFTER_VERSIONS), NETINFO),
    Decoder(
        "NETINFO of a node",
        link(Command.NETINFO, *AFTER_AUTH, dialer=True),
        NETINFO,
        more=(encode({1: (1 << 64) - 1, 2: "127.0.0.1"}),),
    ),
    Decoder(
        "EXTEND",
        Extend.decode,
        EXTEND.encode(),
        more=(
            replace(EXTEND, addresses=None).encode(),
            replace(EXTEND, addresses=(Address("2001:db8::1", 1),) * 8).encode(),
            replace(EXTEND, nonce=7).encode(),
        ),
        again=lambda extend: extend.encode(),
    ),
    Decoder(
        "cell content",
        lambda b: cell_content(memoryview(b.ljust(CELL, b"\0")[:CELL])),
        pack_cell(1, Command.CREATE, b"content"),
        exact=False,
        form=Form.BYTES,
        limit=CELL,
    ),
    Decoder(
        "layer forward",
        open_forward,
        sealed(forward=True),
        exact=False,
        form=Form.BYTES,
        limit=CELL,
    ),
    Decoder(
        "layer backward",
        open_backward,
        sealed(forward=False),
        exact=False,
        form=Form.BYTES,
        limit=CELL,
    ),
    Decoder(
        "key store",
        NodeKeys.decode,
        KEYS.encode(),
        again=lambda keys: keys.encode(),
        repair=RING.repair,
    ),
    Decoder(
        "key file",
        lambda b: decode_key("family", b),
        encode_key("family", IDENTITY),
        again=lambda key: encode_key("family", key),
    ),
    Decoder(
        "signing request",
        lambda b: answer_request(b, IDENTITY, NOW)[0],
        encode_request(IDENTITY.public, NEXT.public),
        again=lambda signing: encode_request(IDENTITY.public, signing),
    ),
    Decoder(
        "signing certificate",
        renewed,
        answer_request(encode_request(IDENTITY.public, NEXT.public), IDENTITY, NOW)[1].encode(),
        again=lambda keys: keys.signing.certificate.encode(),
        repair=RING.repair,
    ),
    Decoder(
        "identity",
        identity,
        show_id(IDENTITY.public).encode(),
        ValueError,
        exact=False,
        again=lambda found: show_id(found).encode(),
        canonical=False,
        form=Form.BYTES,
    ),
]
