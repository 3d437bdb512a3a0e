"""Consensuses in Tor's formats, as stem reads and checks them (spec/10 §5)."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import h11
import pytest
import stem.descriptor
import trio
from stem.descriptor.networkstatus import NetworkStatusDocumentV3
from stem.descriptor.server_descriptor import RelayDescriptor

from fogbank.directory.consensus import Consensus
from fogbank.directory.open_keys import open_key
from fogbank.directory.tor_format import TorDocuments, tor_documents
from fogbank.directory.tor_http_shell import MAX_CONNECTIONS, MAX_HEAD, TorHttpServer
from fogbank.relay.extend import Address
from tests.directory.factory import make_synthetic

SYNTHETIC = make_synthetic(relays=3, workers=2)
CONSENSUS, NETWORK = SYNTHETIC.consensus, SYNTHETIC.network.document
STATUS_PATH = "/tor/status-vote/current/consensus"


def status_of(documents: TorDocuments) -> NetworkStatusDocumentV3:
    (status,) = stem.descriptor.parse_file(
        io.BytesIO(documents.consensus),
        "network-status-consensus-3 1.0",
        validate=True,
        document_handler=stem.descriptor.DocumentHandler.DOCUMENT,
    )
    return status


def descriptors_of(documents: TorDocuments) -> list[RelayDescriptor]:
    return list(
        stem.descriptor.parse_file(
            io.BytesIO(documents.descriptors), "server-descriptor 1.0", validate=True
        )
    )


def decoded(text: str) -> bytes:
    return base64.b64decode(text + "=")


def with_entries(consensus: Consensus, **changes: object) -> Consensus:
    """Change every relay's entry."""
    relays = {entry.identity for entry in consensus.relays()}
    entries = tuple(
        replace(entry, **changes) if entry.identity in relays else entry  # type: ignore[arg-type]
        for entry in consensus.entries
    )
    return replace(consensus, entries=entries)


def test_stem_reads_the_consensus_and_finds_all_as_it_is() -> None:
    status = status_of(tor_documents(CONSENSUS, NETWORK))
    assert status.valid_after.timestamp() - status.fresh_until.timestamp() == -30
    assert {authority.nickname for authority in status.directory_authorities} == {
        f"auth{i}" for i in range(4)
    }
    shown = {router.nickname: router for router in status.routers.values()}
    assert set(shown) == {f"auth{i}" for i in range(4)} | {f"relay{i}" for i in range(3)}
    for node in SYNTHETIC.relays:
        router = shown[node.name]
        assert (router.address, router.or_port) == (node.addresses[0].host, 9000)
        assert set(router.flags) == {"Fast", "Guard", "Running", "Stable", "Valid"}
        assert router.bandwidth == 1000
        assert router.fingerprint == open_key(node.identity).fingerprint.hex().upper()


def test_descriptors_hold_together_with_the_consensus() -> None:
    documents = tor_documents(CONSENSUS, NETWORK)
    routers = status_of(documents).routers
    descriptors = descriptors_of(documents)
    assert len(descriptors) == len(routers) == 7
    for descriptor in descriptors:
        assert descriptor.digest() == routers[descriptor.fingerprint].digest
        assert descriptor.nickname == routers[descriptor.fingerprint].nickname
        assert not descriptor.exit_policy.is_exiting_allowed()
    keys = {
        (each.nickname, decoded(each.ed25519_master_key), decoded(each.ntor_onion_key))
        for each in descriptors
    }
    assert keys >= {(n.name, n.identity, n.onion_key.public) for n in SYNTHETIC.relays}


def test_signatures_verify_and_prove_nothing() -> None:
    documents = tor_documents(CONSENSUS, NETWORK)
    certificates = list(
        stem.descriptor.parse_file(
            io.BytesIO(documents.certificates), "dir-key-certificate-3 1.0", validate=True
        )
    )
    status = status_of(documents)
    assert len(certificates) == len(status.signatures) == 4
    status.validate_signatures(certificates)
    assert any("It proves nothing" in line for line in status.get_unrecognized_lines())
    # Without any secret the same can be made of a consensus that nobody signed.
    forged = replace(CONSENSUS, valid_after=CONSENSUS.valid_after + 1)
    status_of(tor_documents(forged, NETWORK)).validate_signatures(certificates)
    changed = NetworkStatusDocumentV3(
        documents.consensus.replace(b"Bandwidth=1000", b"Bandwidth=9999"), validate=True
    )
    with pytest.raises(ValueError, match="0 valid signatures"):
        changed.validate_signatures(certificates)


def test_the_same_consensus_gives_the_same_bytes_everywhere() -> None:
    assert tor_documents(CONSENSUS, NETWORK) == tor_documents(CONSENSUS, NETWORK)


def test_more_addresses_are_shown_and_ipv6_alone_is_left_out() -> None:
    both = (Address("2001:db8::1", 9001), Address("192.0.2.1", 9002))
    documents = tor_documents(with_entries(CONSENSUS, addresses=both), NETWORK)
    for router in status_of(documents).routers.values():
        if router.nickname.startswith("relay"):
            assert (router.address, router.or_port) == ("192.0.2.1", 9002)
            assert router.or_addresses == [("2001:db8::1", 9001, True)]
    assert [("2001:db8::1", 9001, True)] in [d.or_addresses for d in descriptors_of(documents)]
    alone = tor_documents(with_entries(CONSENSUS, addresses=both[:1]), NETWORK)
    assert {each.nickname for each in descriptors_of(alone)} == {f"auth{i}" for i in range(4)}


def test_an_open_key_follows_from_the_identity_alone() -> None:
    one, other = open_key(bytes(32)), open_key(b"\1" * 32)
    assert one == open_key(bytes(32))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint.hex() == "4a06bc29036aae2fdda838e24d6d0477624ae3bd"


# Over HTTP.


async def ask(server: TorHttpServer, *requests: bytes) -> list[h11.Event]:
    """Send bytes piece by piece; return what comes back as far as HTTP goes."""
    mine, theirs = trio.testing.memory_stream_pair()
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    events: list[h11.Event] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, theirs)
        for piece in requests:
            await mine.send_all(piece)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await mine.receive_some()))
                continue
            if not isinstance(event, h11.Response | h11.Data):
                return events
            events.append(event)


def server(consensus: Consensus | None = CONSENSUS) -> TorHttpServer:
    return TorHttpServer(NETWORK, lambda: consensus)


def parts(events: list[h11.Event]) -> tuple[int, dict[bytes, bytes], bytes]:
    response = events[0]
    assert isinstance(response, h11.Response)
    body = b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
    return response.status_code, dict(response.headers), body


@pytest.mark.parametrize("path", [STATUS_PATH, f"{STATUS_PATH}.z", "/tor/server/all"])
async def test_documents_are_served_as_they_are(path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    documents = tor_documents(CONSENSUS, NETWORK)
    expected = documents.descriptors if "server" in path else documents.consensus
    for pieces in ([head], [head[at : at + 1] for at in range(len(head))]):
        status, headers, body = parts(await ask(server(), *pieces))
        assert (status, body) == (200, expected)
        assert headers[b"content-encoding"] == b"identity"
        assert headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /tor/status-vote/current HTTP/1.1", 404),
        (b"GET / HTTP/1.1", 404),
        (b"POST /tor/server/all HTTP/1.1", 405),
        (b"GET \xff HTTP/1.1", 400),
        (b"SSH-2.0-x", 400),
        (b"GET /" + b"a" * 2 * MAX_HEAD + b" HTTP/1.1", 400),
    ],
)
async def test_everything_else_is_refused_in_words(request_line: bytes, status: int) -> None:
    events = await ask(server(), request_line + b"\r\nHost: x\r\n\r\n")
    answered, _, body = parts(events)
    assert answered == status
    assert body


async def test_before_the_first_consensus_it_says_so() -> None:
    head = f"GET {STATUS_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    status, _, body = parts(await ask(server(None), head))
    assert status == 503
    assert b"no consensus yet" in body


async def test_head_has_no_body() -> None:
    """A client that asked GET would wait for it; the length is told all the same."""
    mine, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server().serve, theirs)
        await mine.send_all(b"HEAD /tor/server/all HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while piece := await mine.receive_some():
            data += piece
    assert data.startswith(b"HTTP/1.1 200")
    assert data.endswith(b"\r\n\r\n")


async def test_who_sends_nothing_is_left_and_crowds_are_turned_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made = server()
    async with trio.open_nursery() as nursery:
        idle = []
        for _ in range(MAX_CONNECTIONS):
            mine, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(made.serve, theirs)
            idle.append(mine)
        await trio.testing.wait_all_tasks_blocked()
        extra, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(made.serve, theirs)
        assert await extra.receive_some() == b""
        for mine in idle:
            assert await mine.receive_some() == b""
    head = f"GET {STATUS_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert parts(await ask(made, head))[0] == 200
