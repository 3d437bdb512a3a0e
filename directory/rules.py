"""What an authority's operator wants: policy for all, and whom to let in (spec/05 §3.2). All pure.

The text of `policy.toml` becomes the `Policy` that votes carry, and `Rules` about nodes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias, TypeVar

from fogbank.directory.consensus import MAX_ENGINES, MAX_REVOKED, SUPPORTED_METHODS
from fogbank.directory.descriptor import Descriptor
from fogbank.directory.entries import (
    MAX_ENGINE,
    MAX_RUNTIMES,
    REQUIRED_PROTOCOLS,
    SUPPORTED_PROTOCOLS,
)
from fogbank.directory.mint.ballot import MAX_AMOUNT, MAX_GRANTS, Grants
from fogbank.directory.runtimes import KNOWN, Runtime, Runtimes, is_runtime
from fogbank.directory.vote import Policy
from fogbank.relay.keys import NodeId, parse_id

POLICY_LIMIT = 4 << 20
MAX_NETWORKS = 10_000
_SHOWN = 200

Prefix: TypeAlias = IPv4Network | IPv6Network
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Listed:
    """Nodes, by identity or by what network an address of theirs is in."""

    identities: frozenset[NodeId] = frozenset()
    networks: tuple[Prefix, ...] = ()

    def __contains__(self, descriptor: Descriptor) -> bool:
        """Tell whether a node is among them."""
        if descriptor.identity in self.identities:
            return True
        if not self.networks:
            return False
        hosts = [ip_address(address.host) for address in descriptor.description.addresses]
        return any(host in network for host in hosts for network in self.networks)


@dataclass(frozen=True, slots=True)
class Rules:
    """Whom to let in: nobody of `rejected`; if `approved` is given, nobody but those."""

    rejected: Listed = field(default_factory=Listed)
    approved: Listed | None = None

    def spares(self, descriptor: Descriptor) -> bool:
        """Tell whether this authority lists a node that needs nobody's approval."""
        return descriptor not in self.rejected

    def admits(self, descriptor: Descriptor) -> bool:
        """Tell whether this authority lists a node that it finds running."""
        return self.spares(descriptor) and (self.approved is None or descriptor in self.approved)


EVERYONE = Rules()
"""Lets everyone in."""


class PolicyError(ValueError):
    """A policy's text cannot be used; the message says what to change."""


def parse_policy(
    text: str,
    methods: Sequence[int] = SUPPORTED_METHODS,
    protocols: Sequence[int] = SUPPORTED_PROTOCOLS,
) -> tuple[Policy, Rules]:
    """Read `policy.toml`, for a program that knows those methods and protocol versions.

    What is not named has its default: everything this program knows, only the protocol versions
    required that a program requires by itself, and everyone let in.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"this is not TOML: {error}") from error
    named = "required_protocols" in table
    required = _numbers(table, "required_protocols", protocols) if named else REQUIRED_PROTOCOLS
    policy = Policy(
        methods=_numbers(table, "methods", methods),
        required_protocols=required,
        recommended_protocols=_numbers(table, "recommended_protocols", protocols, strict=False),
        engines=tuple(sorted(_take(table, "engines", MAX_ENGINES, _engine))),
        revoked=tuple(sorted(set(_take(table, "revoked", MAX_REVOKED, _identity)))),
        runtimes=_runtimes(table) if "runtimes" in table else KNOWN,
        grants=_grants(table.pop("grant", {})),
    )
    if not policy.methods:
        raise PolicyError("methods is empty: name at least one that this program knows")
    rejected = _listed(table, "reject") or Listed()
    approved = _listed(table, "approve")
    if approved == Listed():
        raise PolicyError("[approve] names nobody: leave it out to let everyone in")
    if table:
        raise PolicyError(f"{min(table)!r} is not a part of a policy")
    return policy, Rules(rejected, approved)


def _take(table: dict[str, Any], name: str, limit: int, item: Callable[[Any, str], _T]) -> list[_T]:
    items = table.pop(name, [])
    if not isinstance(items, list) or len(items) > limit:
        raise PolicyError(f"{name} is not a list of at most {limit}")
    return [item(each, name) for each in items]


def _numbers(
    table: dict[str, Any], name: str, known: Sequence[int], *, strict: bool = True
) -> tuple[int, ...]:
    if name not in table:
        return tuple(known)
    numbers = sorted(set(_take(table, name, 16, _number)))
    strange = [number for number in numbers if number not in known]
    if strict and strange:
        raise PolicyError(
            f"{name} names {strange[0]}, which this program does not know: update it first"
        )
    return tuple(numbers)


def _shown(value: Any) -> str:
    """Return a value as an error shows it; Python refuses to write numbers of many digits."""
    try:
        return repr(value)[:_SHOWN]
    except ValueError:
        return "a number of thousands of digits"


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= 1 << 16:
        raise PolicyError(f"{name} holds {_shown(value)}, which is no version number")
    return value


def _engine(value: Any, name: str) -> str:
    if not (type(value) is str and value.isprintable() and 0 < len(value.encode()) <= MAX_ENGINE):
        raise PolicyError(f"{name} holds {_shown(value)}, which is no engine class")
    return value


def _runtimes(table: dict[str, Any]) -> Runtimes:
    named = _take(table, "runtimes", MAX_RUNTIMES, _runtime)
    runtimes = tuple(sorted({runtime for each in named for runtime in each}))
    digests = {runtime.digest for runtime in runtimes}
    if len(digests) < len(runtimes):
        raise PolicyError("runtimes names one module twice, with other names or sizes")
    if len(runtimes) > MAX_RUNTIMES:
        raise PolicyError(f"runtimes names more than {MAX_RUNTIMES}")
    return runtimes


def _runtime(value: Any, name: str) -> Runtimes:
    """Return what one item stands for: a name for all that this program knows by it."""
    if type(value) is str:
        known = tuple(runtime for runtime in KNOWN if runtime.name == value)
        if not known:
            names = ", ".join(sorted({runtime.name for runtime in KNOWN}))
            raise PolicyError(
                f"{name} holds {_shown(value)}, and this program knows {names}: update it first, "
                "or write a table of name, digest and size"
            )
        return known
    match value:
        case {"name": str(named), "digest": str(digits), "size": int(size)} if len(value) == 3:
            with suppress(ValueError):
                digest = bytes.fromhex(digits)
                if is_runtime(named, digest, size):
                    return (Runtime(named, digest, size),)
    raise PolicyError(
        f"{name} holds {_shown(value)}, which is no runtime: write a name, or a table of name, "
        "digest (64 hexadecimal digits) and size"
    )


def _grants(table: Any) -> Grants:
    """Return who may withdraw how many tokens of each series in a test network."""
    if not isinstance(table, dict) or len(table) > MAX_GRANTS:
        raise PolicyError(f"write [grant] as a table of at most {MAX_GRANTS} nodes")
    for name, amount in table.items():
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            raise PolicyError(
                f"[grant] gives {name} {_shown(amount)}: write 0 to {MAX_AMOUNT} tokens"
            )
    return tuple(sorted((_identity(name, "[grant]"), amount) for name, amount in table.items()))


def _identity(value: Any, name: str) -> NodeId:
    try:
        return parse_id(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise PolicyError(f"{name} holds {_shown(value)}, which is no node's identity") from error


def _prefix(value: Any, name: str) -> Prefix:
    try:
        return ip_network(value if type(value) is str else "")
    except ValueError as error:
        raise PolicyError(
            f"{name} holds {_shown(value)}, which is no network such as 203.0.113.0/24: {error}"
        ) from error


def _listed(table: dict[str, Any], name: str) -> Listed | None:
    part = table.pop(name, None)
    if part is None:
        return None
    if not isinstance(part, dict):
        raise PolicyError(f"write [{name}] as a table with identities and networks")
    listed = Listed(
        frozenset(_take(part, "identities", MAX_REVOKED, _identity)),
        tuple(_take(part, "networks", MAX_NETWORKS, _prefix)),
    )
    if part:
        raise PolicyError(f"{min(part)!r} is not a part of [{name}]")
    return listed
