"""Where a node listens: an IP address and a port (spec/05 §1.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from fogbank.relay.errors import ProtocolError
from fogbank.relay.extend import Address, is_global

__all__ = [
    "MAX_ADDRESSES",
    "Address",
    "check_public",
    "decode_address",
    "encode_address",
    "machine_of",
    "parse_address",
]

MAX_ADDRESSES = 4
_V4, _V6, _PORT = 4, 16, 2
_ONE_MACHINE_V6 = 8


def encode_address(address: Address) -> bytes:
    """Return the wire form, `ip ‖ u16 port`: 6 bytes for IPv4, 18 for IPv6."""
    return ip_address(address.host).packed + address.port.to_bytes(_PORT, "big")


def decode_address(data: object) -> Address:
    """Read the wire form; raise `ProtocolError` for anything else."""
    if type(data) is not bytes or len(data) not in {_V4 + _PORT, _V6 + _PORT}:
        raise ProtocolError("an address is not 6 or 18 bytes")
    ip = IPv4Address(data[:_V4]) if len(data) == _V4 + _PORT else IPv6Address(data[:_V6])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise ProtocolError("an IPv4 address is written as IPv6")
    port = int.from_bytes(data[-_PORT:], "big")
    if not port:
        raise ProtocolError("an address has port 0")
    return Address(str(ip), port)


def parse_address(text: str) -> Address:
    """Read `192.0.2.1:9001` or `[2001:db8::1]:9001`; raise `ValueError` with a sentence."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    wrong = f"{text!r} is not an address: write 192.0.2.1:9001 or [2001:db8::1]:9001"
    try:
        ip = ip_address(host[1:-1] if bracketed else host)
        address = decode_address(encode_address(Address(str(ip), int(port))))
    except (ValueError, OverflowError, ProtocolError) as error:
        raise ValueError(wrong) from error
    if bracketed != (ip.version == 6):
        raise ValueError(wrong)
    return address


def machine_of(address: Address) -> bytes:
    """Return what addresses of one machine have in common: the IPv4 address, or the IPv6 /64."""
    packed = ip_address(address.host).packed
    return packed if len(packed) == _V4 else packed[:_ONE_MACHINE_V6]


def check_public(address: Address) -> None:
    """Raise `ProtocolError` unless the address is one that the whole Internet can reach."""
    if not is_global(address.host):
        raise ProtocolError(
            f"{address.host} is not a public address: only a test network allows it"
        )
