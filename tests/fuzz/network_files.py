"""The decoders of what operators and users hand in: network files, policies, addresses."""

from __future__ import annotations

from dataclasses import replace

from fogbank.directory.addresses import decode_address, encode_address, parse_address
from fogbank.directory.network import (
    NETWORK_LABEL,
    SignedNetwork,
    dump_network,
    load_network,
    open_network,
    verify_successor,
)
from fogbank.directory.rules import PolicyError, parse_policy
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import Ed25519Key
from tests.directory.factory import START
from tests.fuzz.directory_room import DOCUMENT, NETWORK
from tests.fuzz.kinds import Decoder, Form

TOML = dump_network(NETWORK.signed()).encode()
LATER = SignedNetwork(replace(DOCUMENT, version=2, in_force=START + 3600))
for _authority in NETWORK.authorities:
    LATER = LATER.sign(_authority.identity_key)


def decode_toml(data: bytes) -> SignedNetwork:
    """Read a network's file without asking who signed it."""
    return load_network(data.decode("utf-8", "replace"))


def opened_toml(data: bytes) -> SignedNetwork:
    """Read a network's file that its authorities signed."""
    open_network(data.decode("utf-8", "replace"))
    return decode_toml(data)


def successor(data: bytes) -> SignedNetwork:
    """Read the next version of a network's file."""
    verify_successor(DOCUMENT, decode_toml(data))
    return decode_toml(data)


def sign_toml(data: bytes) -> bytes:
    """Let all authorities sign what the file says now."""
    try:
        signed = decode_toml(data)
    except ProtocolError:
        return data
    body = signed.document.encode_body()
    keys = {node.identity: Ed25519Key(node.identity_key.seed()) for node in NETWORK.authorities}
    signatures = tuple(
        (identity, keys[identity].sign(NETWORK_LABEL, body) if identity in keys else signature)
        for identity, signature in signed.signatures
    )
    return dump_network(SignedNetwork(signed.document, signatures)).encode()


def toml_again(signed: SignedNetwork) -> bytes:
    """Write a network's file."""
    return dump_network(signed).encode()


POLICY = b"""
methods = [1]
required_protocols = [1]
engines = ["class"]
revoked = []
runtimes = ["python", { name = "lua", digest = "%s", size = 7 }]
[reject]
networks = ["203.0.113.0/24", "2001:db8::/32"]
[approve]
identities = ["%s"]
""" % (b"ab" * 32, b"a" * 52)


def policy(data: bytes) -> object:
    """Read an operator's policy."""
    return parse_policy(data.decode("utf-8", "replace"))


def address_text(data: bytes) -> bytes:
    """Read an address as users write it, and return it as it travels."""
    return encode_address(parse_address(data.decode("utf-8", "replace")))


def address_again(data: bytes) -> bytes:
    """Write an address as users do."""
    return str(decode_address(data)).encode()


NETWORK_FILES = [
    Decoder(
        "address", decode_address, b"\x7f\0\0\1\x23\x28", again=encode_address, form=Form.BYTES
    ),
    Decoder(
        "address of a user",
        address_text,
        b"192.0.2.1:9001",
        ValueError,
        exact=False,
        more=(b"[2001:db8::1]:9001",),
        again=address_again,
        canonical=False,
        form=Form.BYTES,
        limit=64,
    ),
    Decoder(
        "network.toml",
        decode_toml,
        TOML,
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        limit=4096,
    ),
    Decoder(
        "signed network.toml",
        opened_toml,
        TOML,
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        repair=sign_toml,
        limit=4096,
    ),
    Decoder(
        "next network.toml",
        successor,
        toml_again(LATER),
        exact=False,
        again=toml_again,
        canonical=False,
        form=Form.TOML,
        repair=sign_toml,
        limit=4096,
    ),
    Decoder("policy.toml", policy, POLICY, PolicyError, exact=False, form=Form.TOML),
]
