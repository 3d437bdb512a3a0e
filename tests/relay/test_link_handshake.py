"""The link handshake (spec/02 §3 to §5): who gets in, and all that does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from fogbank.relay.cells import Command
from fogbank.relay.certificates import LINK_LIFETIME, Chain, Use, issue
from fogbank.relay.codec import encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key, X25519Key
from fogbank.relay.link.handshake import LINK_LABEL, Cells, LinkCredentials, LinkHandshake

NOW = 1_800_000_000.5
BINDING = b"tls-unique of this channel"
OTHER_CHANNEL = b"tls-unique of evil's channel"[: len(BINDING)]
"""As long as the first, so that only its bytes tell them apart."""


@dataclass(frozen=True)
class Node:
    identity: Ed25519Key
    signing: Ed25519Key
    link: Ed25519Key
    onion: X25519Key
    credentials: LinkCredentials


def make_node(seed: int) -> Node:
    identity, signing, link = (Ed25519Key(bytes([seed, n]) * 16) for n in range(3))
    onion = X25519Key(bytes([seed, 3]) * 16)
    chain = Chain(
        issue(identity, Use.SIGNING, signing.public, NOW, 30 * 86_400),
        issue(signing, Use.LINK, link.public, NOW, LINK_LIFETIME),
        issue(signing, Use.ONION, onion.public, NOW, 8 * 86_400),
    )
    credentials = LinkCredentials(identity.public, chain, link)
    return Node(identity, signing, link, onion, credentials)


RELAY = make_node(1)
OTHER = make_node(2)
EVIL = make_node(3)


def dialer(**changes: Any) -> LinkHandshake:
    arguments = {
        "binding": BINDING,
        "expected": RELAY.identity.public,
        "own": None,
        "peer_address": "127.1.0.1",
    }
    return LinkHandshake.dialer(**{**arguments, **changes})


def responder(**changes: Any) -> LinkHandshake:
    arguments = {"binding": BINDING, "own": RELAY.credentials, "peer_address": "127.9.0.1"}
    return LinkHandshake.responder(**{**arguments, **changes})


def feed(side: LinkHandshake, cells: Sequence[tuple[int, bytes]], now: float = NOW) -> Cells:
    answers: Cells = []
    for command, content in cells:
        answers += side.receive(command, content, now)
    return answers


def converse(
    left: LinkHandshake, right: LinkHandshake, left_now: float = NOW, right_now: float = NOW
) -> list[Command]:
    """Let two sides speak until both are silent; return the commands in their order."""
    to_right, to_left = left.start(), right.start()
    spoken: Cells = []
    while to_right or to_left:
        spoken += to_right + to_left
        from_right = feed(right, to_right, right_now)
        from_left = feed(left, to_left, left_now)
        to_right, to_left = from_left, from_right
    return [Command(command) for command, _ in spoken]


def test_a_client_stays_anonymous_and_knows_the_relay() -> None:
    client, relay = dialer(), responder()
    spoken = converse(client, relay)
    assert client.open
    assert relay.open
    assert client.version == relay.version == 1
    assert relay.peer is None
    assert relay.peer_clock_offset is None
    assert relay.observed_address == ""
    assert client.peer is not None
    assert client.peer.identity == RELAY.identity.public
    assert client.peer.onion == RELAY.onion.public
    assert client.observed_address == "127.9.0.1"
    assert client.peer_clock_offset == -0.5
    assert spoken == [
        Command.VERSIONS,
        Command.VERSIONS,
        Command.CERTS,
        Command.NETINFO,
        Command.AUTH,
        Command.NETINFO,
    ]


def test_two_nodes_know_each_other() -> None:
    node, relay = dialer(own=OTHER.credentials), responder()
    converse(node, relay)
    assert node.open
    assert relay.open
    assert node.peer is not None
    assert relay.peer is not None
    assert node.peer.identity == RELAY.identity.public
    assert relay.peer.identity == OTHER.identity.public
    assert relay.observed_address == "127.1.0.1"


def test_a_dialer_may_expect_nobody_in_particular() -> None:
    client, relay = dialer(expected=None), responder()
    converse(client, relay)
    assert client.peer is not None
    assert client.peer.identity == RELAY.identity.public


def test_another_identity_than_expected_ends_the_link() -> None:
    with pytest.raises(ProtocolError, match="was expected"):
        converse(dialer(expected=OTHER.identity.public), responder())


@pytest.mark.parametrize("own", [None, OTHER.credentials])
def test_a_proof_of_another_channel_is_refused(own: LinkCredentials | None) -> None:
    with pytest.raises(ProtocolError, match="does not verify"):
        converse(dialer(own=own, binding=OTHER_CHANNEL), responder())


def test_one_in_the_middle_cannot_pass_a_proof_on() -> None:
    """EVIL answers with RELAY's certificates and gets RELAY to prove itself on another channel."""
    client = dialer()
    behind = dialer(binding=OTHER_CHANNEL)
    relay = responder(binding=OTHER_CHANNEL)
    stolen = relay.start() + feed(relay, behind.start())
    proof = feed(relay, [(Command.NETINFO, encode({1: 0, 2: ""}))])
    feed(client, stolen)
    with pytest.raises(ProtocolError, match="does not verify"):
        feed(client, proof)
    assert client.peer is None
    assert not client.open


def test_a_proof_cannot_be_reflected() -> None:
    """A responder that sends a node's own certificates and proof back is not that node."""
    node = dialer(own=RELAY.credentials)
    replies = feed(node, [(Command.VERSIONS, encode({1: [1]}))])
    assert replies == []
    certs, auth, _ = feed(node, [(Command.CERTS, RELAY.credentials.chain.encode())])
    assert certs[1] == RELAY.credentials.chain.encode()
    with pytest.raises(ProtocolError, match="does not verify"):
        feed(node, [auth])


def test_a_proof_covers_both_identities() -> None:
    """RELAY proves itself to an anonymous dialer; the same proof says nothing to OTHER."""
    relay = responder()
    cells = relay.start() + feed(relay, dialer().start())
    proof = feed(relay, [(Command.NETINFO, encode({1: 0, 2: ""}))])
    node = dialer(own=OTHER.credentials)
    feed(node, cells)
    with pytest.raises(ProtocolError, match="does not verify"):
        feed(node, proof)


def test_a_stolen_chain_proves_nothing_without_its_link_key() -> None:
    thief = LinkCredentials(OTHER.identity.public, OTHER.credentials.chain, EVIL.link)
    with pytest.raises(ProtocolError, match="does not verify"):
        converse(dialer(own=thief), responder())


def test_a_chain_whose_link_key_another_certified_is_refused() -> None:
    chain = Chain(
        RELAY.credentials.chain.signing, EVIL.credentials.chain.link, RELAY.credentials.chain.onion
    )
    forged = LinkCredentials(RELAY.identity.public, chain, EVIL.link)
    with pytest.raises(ProtocolError, match="issuer"):
        converse(dialer(), responder(own=forged))


@pytest.mark.parametrize(("late", "says"), [(-4000, "not in force"), (3 * 86_400, "expired")])
def test_certificates_out_of_their_time_are_refused(late: float, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        converse(dialer(), responder(), left_now=NOW + late)


@pytest.mark.parametrize("content", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65])
def test_a_proof_that_is_none_is_refused(content: bytes) -> None:
    client = dialer()
    feed(client, [(Command.VERSIONS, encode({1: [1]}))])
    feed(client, [(Command.CERTS, RELAY.credentials.chain.encode())])
    with pytest.raises(ProtocolError):
        feed(client, [(Command.AUTH, content)])


@pytest.mark.parametrize("versions", [[], [2], [0], [7, 9]])
def test_no_common_version_ends_the_link(versions: list[int]) -> None:
    for side in (dialer(), responder()):
        with pytest.raises(ProtocolError, match="version"):
            feed(side, [(Command.VERSIONS, encode({1: versions}))])


def test_the_common_version_is_found_among_others() -> None:
    side = dialer()
    feed(side, [(Command.VERSIONS, encode({1: [9, 1, 4]}))])
    assert side.version == 1


def test_too_many_versions_are_refused() -> None:
    with pytest.raises(ProtocolError):
        feed(dialer(), [(Command.VERSIONS, encode({1: [1] * 17}))])


def script(own: LinkCredentials | None) -> dict[str, Cells]:
    """What each side says in a good handshake."""
    client, relay = dialer(own=own), responder()
    first = relay.start() + feed(relay, client.start())
    from_client = client.start() + feed(client, first)
    return {"dialer": from_client, "responder": first + feed(relay, from_client[1:])}


ORDERS = [
    (role, own, done, command)
    for role, own in product(("dialer", "responder"), (None, OTHER.credentials))
    for done in range(len(script(own)["responder" if role == "dialer" else "dialer"]) + 1)
    for command in range(1, 9)
]


@pytest.mark.parametrize(("role", "own", "done", "command"), ORDERS)
def test_every_command_in_every_state(
    role: str, own: LinkCredentials | None, done: int, command: int
) -> None:
    """After `done` good cells, any command but those that may follow ends the link."""
    heard = script(own)["responder" if role == "dialer" else "dialer"]
    side = dialer(own=own) if role == "dialer" else responder()
    feed(side, heard[:done])
    assert side.open == (done == len(heard))
    allowed = {heard[done][0]} if done < len(heard) else set()
    if role == "responder" and done == 1:
        allowed = {Command.CERTS, Command.NETINFO}
    contents = dict(script(OTHER.credentials)["responder" if role == "dialer" else "dialer"])
    content = contents.get(command, b"")
    if command in allowed:
        feed(side, [(command, content if own or command != Command.AUTH else heard[done][1])])
    else:
        with pytest.raises(ProtocolError, match="out of order"):
            feed(side, [(command, content)])


def test_padding_is_ignored_in_every_state() -> None:
    heard = script(OTHER.credentials)["dialer"]
    side = responder()
    padding = [(Command.PADDING, b"\xff" * 100)]
    assert feed(side, padding) == []
    for cell in heard:
        feed(side, [cell])
        assert feed(side, padding) == []
    assert side.open


@pytest.mark.parametrize("command", [Command.VERSIONS, Command.CERTS, Command.NETINFO])
@pytest.mark.parametrize("content", [b"", b"\xa0", b"\xff" * 4000, encode({1: 1, 2: "", 3: 0})])
def test_garbage_ends_the_link(command: Command, content: bytes) -> None:
    side = responder()
    if command != Command.VERSIONS:
        feed(side, dialer().start())
    with pytest.raises(ProtocolError):
        feed(side, [(command, content)])


@pytest.mark.parametrize("address", ["x" * 256, "a\nb", "\x1b[2J"])
def test_an_observed_address_is_bounded_and_printable(address: str) -> None:
    side = responder()
    feed(side, dialer().start())
    with pytest.raises(ProtocolError):
        feed(side, [(Command.NETINFO, encode({1: 0, 2: address}))])


@pytest.mark.parametrize(
    ("offset", "says"), [(-1200, "20 minutes ahead of"), (1200, "20 minutes behind"), (500, None)]
)
def test_a_clock_that_is_off_is_reported_in_words(offset: float, says: str | None) -> None:
    client, relay = dialer(), responder()
    # The relay's certificates hold at both times: only NETINFO can tell.
    early = make_node(1)
    chain = Chain(
        issue(early.identity, Use.SIGNING, early.signing.public, NOW - 7200, 30 * 86_400),
        issue(early.signing, Use.LINK, early.link.public, NOW - 7200, LINK_LIFETIME),
        issue(early.signing, Use.ONION, early.onion.public, NOW - 7200, 8 * 86_400),
    )
    relay = responder(own=LinkCredentials(early.identity.public, chain, early.link))
    converse(client, relay, left_now=NOW, right_now=NOW + offset)
    warning = client.clock_warning()
    if says is None:
        assert warning is None
    else:
        assert warning is not None
        assert says in warning
    assert relay.clock_warning() is None


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_binding_of_another_length_is_no_binding(length: int) -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        dialer(binding=b"b" * length)


def test_the_proof_is_what_the_spec_says() -> None:
    relay = responder()
    feed(relay, dialer().start())
    (_, signature), _ = feed(relay, [(Command.NETINFO, encode({1: 0, 2: ""}))])
    body = b"\x02" + RELAY.identity.public + bytes(32) + bytes([len(BINDING)]) + BINDING
    assert signature == RELAY.link.sign(LINK_LABEL, body)
