"""The network document: text and back, its rules, and its chain of versions (spec/05 §1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogbank.directory.addresses import decode_address, encode_address, parse_address
from fogbank.directory.descriptor import Role
from fogbank.directory.network import (
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
    load_network,
    open_network,
    verify_successor,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address
from tests.directory.factory import START, Node, SyntheticNetwork, make_network

NETWORK = make_network(4)


def sign_all(document: NetworkDocument, *networks: SyntheticNetwork) -> SignedNetwork:
    signed = SignedNetwork(document)
    for network in networks:
        for authority in network.authorities:
            signed = signed.sign(authority.identity_key)
    return signed


def test_text_and_back() -> None:
    text = dump_network(NETWORK.signed())
    assert open_network(text) == NETWORK.document
    assert load_network(text) == NETWORK.signed()
    assert "127.1.0.1:9000" in text


def test_signing_twice_keeps_one_signature() -> None:
    signed = NETWORK.signed().sign(NETWORK.authorities[0].identity_key)
    assert len(signed.signatures) == 4


def test_q_of_its_own_authorities_must_have_signed() -> None:
    signed = SignedNetwork(NETWORK.document)
    for count, authority in enumerate(NETWORK.authorities):
        if count < 3:
            with pytest.raises(ProtocolError, match=f"has {count} signatures.*3 are needed"):
                open_network(dump_network(signed))
        signed = signed.sign(authority.identity_key)
    assert open_network(dump_network(signed)) == NETWORK.document
    strangers = sign_all(NETWORK.document, SyntheticNetwork(NETWORK.document, (Node(
        "stranger", Role.AUTHORITY),)))  # fmt: skip
    with pytest.raises(ProtocolError, match="has 0 signatures"):
        open_network(dump_network(strangers))


@pytest.mark.parametrize(
    ("old", "new"),
    [("127.1.0.1:9000", "127.1.0.1:9001"), ("interval = 30", "interval = 31"),
     ('name = "synthetic"', 'name = "other"'), ("test = true", "test = false"),
     ("version = 1", "version = 2\nfrom = 5"), ("auth0", "authX")],
)  # fmt: skip
def test_a_changed_field_breaks_the_signatures(old: str, new: str) -> None:
    text = dump_network(NETWORK.signed())
    assert old in text
    with pytest.raises(ProtocolError, match=r"verify|public address"):
        open_network(text.replace(old, new, 1))


def test_unknown_and_missing_fields_are_named() -> None:
    text = dump_network(NETWORK.signed())
    with pytest.raises(ProtocolError, match="unknown field 'extra'"):
        load_network("extra = 1\n" + text)
    with pytest.raises(ProtocolError, match="lacks the field 'interval'"):
        load_network(text.replace("interval = 30\n", "", 1))


def changed(**fields: object) -> NetworkDocument:
    return replace(NETWORK.document, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (changed(authorities=()), "1 to 32 authorities"),
        (changed(authorities=NETWORK.document.authorities[:1] * 2), "twice"),
        (changed(test=False), "not a public address"),
        (changed(timing=Timing(START, 8000, 30)), "make the phase shorter"),
        (changed(timing=Timing(START, 1000, 30, 1, 3)), "4000 ms"),
        (changed(timing=Timing(START, 0, 30)), "empty phase"),
        (
            changed(authorities=(replace(NETWORK.document.authorities[0], addresses=()),)),
            "needs 1 to 4 addresses",
        ),
    ],
)
def test_rules(document: NetworkDocument, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        document.check()


def test_the_chain_of_versions() -> None:
    """One of four authorities is replaced: q of the old and q of the new sign."""
    old = NETWORK.document
    newcomer = Node("auth9", Role.AUTHORITY, 9)
    pin = replace(old.authorities[3], identity=newcomer.identity, nickname="auth9")
    document = replace(
        old, version=2, authorities=(*old.authorities[:3], pin), in_force=START + 300
    )
    new = sign_all(document, NETWORK, SyntheticNetwork(document, (newcomer,)))
    assert verify_successor(old, new) == document
    assert verify_successor(old, load_network(dump_network(new))) == document
    with pytest.raises(ProtocolError, match="version 3; version 2 comes next"):
        verify_successor(old, sign_all(replace(document, version=3), NETWORK))
    for wrong, why in (
        (replace(document, timing=replace(old.timing, phase_ms=400)), "another schedule"),
        (replace(document, in_force=0), "before the last one"),
    ):
        with pytest.raises(ProtocolError, match=why):
            verify_successor(old, sign_all(wrong, NETWORK))
    with pytest.raises(ProtocolError, match="another network"):
        verify_successor(old, sign_all(replace(document, network_id=bytes(32)), NETWORK))
    few = SignedNetwork(document)
    for authority in (*NETWORK.authorities[:2], newcomer):
        few = few.sign(authority.identity_key)
    with pytest.raises(ProtocolError, match=r"2 signatures.*3 are needed"):
        verify_successor(old, few)


def test_a_successor_needs_its_own_authorities_too() -> None:
    strangers = make_network(4, name="others")
    renamed = tuple(Node(f"new{i}", Role.AUTHORITY, i) for i in range(4))
    pins = tuple(
        replace(pin, identity=node.identity)
        for pin, node in zip(strangers.document.authorities, renamed, strict=True)
    )
    document = replace(NETWORK.document, version=2, authorities=pins, in_force=START + 300)
    with pytest.raises(ProtocolError, match="0 signatures"):
        verify_successor(NETWORK.document, sign_all(document, NETWORK))


@pytest.mark.parametrize("text", ["192.0.2.1:9001", "[2001:db8::1]:65535", "127.3.0.1:1"])
def test_addresses_in_text_and_on_the_wire(text: str) -> None:
    address = parse_address(text)
    assert str(address) == text
    assert decode_address(encode_address(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "[192.0.2.1]:80", "2001:db8::1:80",
     "host.example:80", "[::ffff:1.2.3.4]:80", "1.2.3.4:-1", "[fe80::1%eth0]:x"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address: write"):
        parse_address(text)


def test_only_a_test_network_has_private_addresses() -> None:
    public = replace(NETWORK.document, test=False)
    public.check_address(Address("9.9.9.9", 9001))
    public.check_address(Address("2620:fe::fe", 9001))
    for host in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1", "224.0.0.1", "0.0.0.0"):
        with pytest.raises(ProtocolError, match="not a public address"):
            public.check_address(Address(host, 9001))
        NETWORK.document.check_address(Address(host, 9001))
