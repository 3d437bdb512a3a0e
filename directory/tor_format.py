"""A consensus as Tor's documents, for tools that read those (spec/10 §5). Needs stem.

What comes out is a picture of a consensus, made anew by one authority and signed with keys that
everybody has (`open_keys`). It is never a trust anchor: only `open_consensus` gives one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from stem.descriptor.networkstatus import (
    DirectoryAuthority,
    KeyCertificate,
    NetworkStatusDocumentV3,
)
from stem.descriptor.router_status_entry import RouterStatusEntryV3
from stem.descriptor.server_descriptor import RelayDescriptor

from fogbank.directory.consensus import Consensus, Entry, Flag
from fogbank.directory.network import NetworkDocument
from fogbank.directory.open_keys import OpenKey, open_key
from fogbank.relay.extend import Address

NOTICE = (
    "A picture of a Fogbank consensus, signed with keys that everybody has. It proves nothing: "
    "ask Fogbank itself whom to trust."
)
_METHOD = "9"
"""The first of Tor's consensus methods that has this layout."""
_SHOWN = (Flag.AUTHORITY, Flag.FAST, Flag.GUARD, Flag.RUNNING, Flag.STABLE, Flag.VALID)
_NO_DIGEST = "0" * 40


@dataclass(frozen=True, slots=True)
class TorDocuments:
    """One consensus in Tor's formats, each document as the bytes of an HTTP body."""

    consensus: bytes
    descriptors: bytes
    certificates: bytes


def tor_documents(consensus: Consensus, network: NetworkDocument) -> TorDocuments:
    """Return Tor's documents for a consensus. Nodes without an IPv4 address are left out."""
    nodes = _nodes(consensus)
    descriptors = [_descriptor(node, consensus) for node in nodes]
    entries = [
        _status_entry(node, descriptor, consensus)
        for node, descriptor in zip(nodes, descriptors, strict=True)
    ]
    keys = [open_key(voter) for voter in consensus.voters]
    sources = [_source(node) for node in nodes if node.entry.identity in consensus.voters]
    status = _status(consensus, network, sources, entries)
    return TorDocuments(
        _with_signatures(status, keys),
        b"".join(descriptors),
        b"".join(_certificate(key, consensus) for key in keys),
    )


@dataclass(frozen=True, slots=True)
class _Node:
    entry: Entry
    key: OpenKey
    first: Address
    others: tuple[Address, ...]


def _nodes(consensus: Consensus) -> list[_Node]:
    """Return what Tor's formats can hold, in their order: by fingerprint."""
    nodes = []
    for entry in consensus.entries:
        first = next((a for a in entry.addresses if ip_address(a.host).version == 4), None)
        if first is not None:
            others = tuple(a for a in entry.addresses if ip_address(a.host).version == 6)
            nodes.append(_Node(entry, open_key(entry.identity), first, others))
    return sorted(nodes, key=lambda node: node.key.fingerprint)


def _descriptor(node: _Node, consensus: Consensus) -> bytes:
    entry, public = node.entry, _block("RSA PUBLIC KEY", node.key.public)
    fields: dict[str, Any] = {
        "router": f"{entry.nickname} {node.first.host} {node.first.port} 0 0",
        "published": _time(consensus.valid_after),
        "bandwidth": " ".join([str(entry.bandwidth)] * 3),
        "onion-key": public,
        "signing-key": public,
        "platform": "Fogbank",
        "fingerprint": _grouped(node.key),
        "master-key-ed25519": _base64(entry.identity),
        "ntor-onion-key": _base64(entry.onion_key),
        "or-address": [str(address) for address in node.others],
        "proto": _protocols(entry),
    }
    content: bytes = RelayDescriptor.content(fields, exclude=("router-signature",))
    return _signed(content + b"\nrouter-signature\n", node.key)


def _status_entry(node: _Node, descriptor: bytes, consensus: Consensus) -> str:
    entry = node.entry
    covered = descriptor[: descriptor.rindex(b"router-signature\n") + len(b"router-signature\n")]
    digest = hashlib.sha1(covered, usedforsecurity=False).digest()
    place = f"{node.first.host} {node.first.port} 0"
    known = f"{_base64(node.key.fingerprint)} {_base64(digest)} {_time(consensus.valid_after)}"
    fields: dict[str, Any] = {
        "r": f"{entry.nickname} {known} {place}",
        "a": [str(address) for address in node.others],
        "s": " ".join(_name(flag) for flag in _SHOWN if flag in entry.flags),
        "pr": _protocols(entry),
        "w": f"Bandwidth={entry.bandwidth // 1000}",
        "p": "reject 1-65535",
    }
    content: bytes = RouterStatusEntryV3.content(fields)
    return content.decode()


def _status(
    consensus: Consensus, network: NetworkDocument, sources: list[str], entries: list[str]
) -> bytes:
    phase = network.timing.phase_ms / 1000
    fields: dict[str, Any] = {
        "consensus-method": _METHOD,
        "valid-after": _time(consensus.valid_after),
        "fresh-until": _time(consensus.fresh_until),
        "valid-until": _time(consensus.valid_until),
        "voting-delay": f"{max(1, round((network.faulty + 1) * phase))} {max(1, round(phase))}",
        "known-flags": " ".join(map(_name, _SHOWN)),
        "fogbank-notice": NOTICE,
        "fogbank-network": consensus.network_id.hex(),
        "fogbank-consensus": consensus.digest.hex(),
    }
    content: bytes = NetworkStatusDocumentV3.content(
        fields, exclude=("directory-signature",), authorities=sources, routers=entries
    )
    return content


def _with_signatures(status: bytes, keys: Sequence[OpenKey]) -> bytes:
    keyword = b"directory-signature "
    # All signatures cover the first one's keyword too.
    document = status.rstrip(b"\n") + b"\n" + keyword
    names = [key.fingerprint.hex().upper() for key in keys]
    signatures = [
        f"{name} {name}{_signature(document, key)}\n".encode()
        for name, key in zip(names, keys, strict=True)
    ]
    return document + keyword.join(signatures)


def _source(voter: _Node) -> str:
    """Return an authority's paragraph. What it voted is not in a Fogbank consensus."""
    host, name = voter.first.host, voter.entry.nickname
    identity = voter.key.fingerprint.hex().upper()
    fields = {
        "dir-source": f"{name} {identity} {host} {host} 0 {voter.first.port}",
        "contact": name,
        "vote-digest": _NO_DIGEST,
    }
    content: bytes = DirectoryAuthority.content(fields)
    return content.decode()


def _certificate(key: OpenKey, consensus: Consensus) -> bytes:
    public = _block("RSA PUBLIC KEY", key.public)
    fields = {
        "fingerprint": key.fingerprint.hex().upper(),
        "dir-key-published": _time(consensus.valid_after),
        "dir-key-expires": _time(consensus.valid_until),
        "dir-identity-key": public,
        "dir-signing-key": public,
    }
    content: bytes = KeyCertificate.content(fields, exclude=("dir-key-certification",))
    return _signed(content + b"\ndir-key-certification\n", key)


def _signed(covered: bytes, key: OpenKey) -> bytes:
    return covered + _signature(covered, key).lstrip("\n").encode() + b"\n"


def _signature(covered: bytes, key: OpenKey) -> str:
    digest = hashlib.sha1(covered, usedforsecurity=False).digest()
    return _block("SIGNATURE", key.sign(digest))


def _block(kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["", f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _grouped(key: OpenKey) -> str:
    text = key.fingerprint.hex().upper()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _protocols(entry: Entry) -> str:
    return f"Fogbank={','.join(map(str, sorted(entry.protocols)))}"


def _name(flag: Flag) -> str:
    return str(flag.name).capitalize()


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
