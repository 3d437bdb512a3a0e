"""The link handshake: which version, and who is there (spec/02 §3, §4, §5).

Sans IO, over cells' contents. Each side sends what `start` returns, then hands every cell that
arrives to `receive` and sends what that returns, until `open`:

    dialer                                    responder
    start: VERSIONS        ────────►◄────────  start: VERSIONS
                           ◄────────  on VERSIONS: CERTS
    on CERTS: [CERTS, AUTH,] NETINFO  ────────►
                           ◄────────  on NETINFO: AUTH, NETINFO

What comes in another order ends the link. The signature in AUTH covers the pipe's binding, so that
it proves a key on this very pipe; nothing that the peer claims is shown before its proof verifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from fogbank.relay.cells import Command
from fogbank.relay.certificates import CLOCK_SKEW, Chain, ChainKeys
from fogbank.relay.codec import decode_record, encode, uint_item
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, SIGNATURE_LENGTH, Ed25519Key, NodeId, show_id, verify

LINK_LABEL = "fogbank-link-v1"
LINK_VERSIONS = (1,)
"""The link versions that this code speaks."""
BINDING_LENGTHS = range(16, 65)

_ANONYMOUS = bytes(KEY_LENGTH)
_VERSIONS_MAX = 16
_VERSION_MAX = 0xFFFF
_CONTENT_LIMIT = 512
_ADDRESS_LIMIT = 255

Cells: TypeAlias = "list[tuple[int, bytes]]"
"""Cells to send, in order: commands and contents."""


@dataclass(frozen=True, slots=True)
class LinkCredentials:
    """What a node proves itself with: its identity, its chain, and the link key that it names."""

    identity: NodeId
    chain: Chain
    link_key: Ed25519Key


class _Role(IntEnum):
    DIALER = 1
    RESPONDER = 2


class LinkHandshake:
    """One side of a link's handshake; made by `dialer` or `responder`.

    `binding` is the pipe's (spec/02 §1), of equal value on both sides. `peer_address` is the host
    under which this side sees its peer: a node tells its peer, an anonymous dialer never does.
    """

    def __init__(
        self,
        role: _Role,
        binding: bytes,
        own: LinkCredentials | None,
        expected: NodeId | None,
        peer_address: str,
    ) -> None:
        if len(binding) not in BINDING_LENGTHS:
            raise ValueError("a link's binding has 16 to 64 bytes")
        self._role = role
        self._binding = binding
        self._own = own
        self._expected = expected
        self._peer_address = peer_address
        self._claimed: ChainKeys | None = None
        self._awaited: frozenset[int] = frozenset({Command.VERSIONS})
        self.open = False
        """Whether the handshake is over and the link may carry circuits."""
        self.version = 0
        """The link version that rules; 0 until it is known."""
        self.peer: ChainKeys | None = None
        """Who the peer proved to be; None if it stays anonymous, or did not prove it yet."""
        self.peer_clock_offset: float | None = None
        """Seconds by which the peer's clock is ahead; None if it does not say."""
        self.observed_address = ""
        """The host under which the peer says that it sees this side: a claim, maybe empty."""

    @classmethod
    def dialer(
        cls,
        binding: bytes,
        expected: NodeId | None,
        own: LinkCredentials | None,
        peer_address: str,
    ) -> LinkHandshake:
        """Return the dialing side; with `own` None it stays anonymous.

        With `expected` the handshake fails if the responder proves to be another.
        """
        return cls(_Role.DIALER, binding, own, expected, peer_address)

    @classmethod
    def responder(cls, binding: bytes, own: LinkCredentials, peer_address: str) -> LinkHandshake:
        """Return the side that was dialed, which always proves itself."""
        return cls(_Role.RESPONDER, binding, own, None, peer_address)

    def start(self) -> Cells:
        """Return the cells to send first."""
        return [(Command.VERSIONS, encode({1: list(LINK_VERSIONS)}))]

    def receive(self, command: int, content: bytes, now: float) -> Cells:
        """Take a cell's content and return the cells to answer with.

        Raises `ProtocolError` if the link must be closed.
        """
        if command == Command.PADDING:
            return []
        awaited = self._awaited
        # What fails leaves nothing to wait for: the handshake cannot go on after an error.
        self._await()
        if command not in awaited:
            raise ProtocolError(f"a link's peer sent command {command} out of order")
        match command:
            case Command.VERSIONS:
                return self._on_versions(content)
            case Command.CERTS:
                return self._on_certs(content, now)
            case Command.AUTH:
                return self._on_auth(content)
            case _:
                return self._on_netinfo(content, now)

    def clock_warning(self) -> str | None:
        """Return what to tell the user if this clock and the peer's differ too much, else None."""
        offset = self.peer_clock_offset
        if offset is None or self.peer is None or abs(offset) <= CLOCK_SKEW:
            return None
        direction = "behind" if offset > 0 else "ahead of"
        return (
            f"This machine's clock is {abs(offset) / 60:.0f} minutes {direction} that of "
            f"{show_id(self.peer.identity)}. If others say so too, set it, by NTP for example: "
            f"more than {CLOCK_SKEW // 60} minutes off, the network cannot be used."
        )

    def _on_versions(self, content: bytes) -> Cells:
        record = decode_record(content, _CONTENT_LIMIT, "VERSIONS")
        versions = record.array(1, _VERSIONS_MAX, uint_item(_VERSION_MAX))
        record.done()
        common = set(versions) & set(LINK_VERSIONS)
        if not common:
            raise ProtocolError(
                "a link's peer speaks no link version that is known here: one side needs an update"
            )
        self.version = max(common)
        if self._role is _Role.DIALER:
            self._await(Command.CERTS)
            return []
        # A node shows its certificates; an anonymous dialer goes on to NETINFO.
        self._await(Command.CERTS, Command.NETINFO)
        return self._own_certs()

    def _on_certs(self, content: bytes, now: float) -> Cells:
        claimed = Chain.decode(content).verify(now)
        if self._expected is not None and claimed.identity != self._expected:
            raise ProtocolError(
                f"{show_id(claimed.identity)} answered where {show_id(self._expected)} was expected"
            )
        self._claimed = claimed
        self._await(Command.AUTH)
        if self._role is _Role.RESPONDER:
            return []
        proof = [*self._own_certs(), *self._own_auth()] if self._own else []
        return [*proof, self._netinfo(now)]

    def _on_auth(self, content: bytes) -> Cells:
        if self._claimed is None or len(content) != SIGNATURE_LENGTH:
            raise ProtocolError("a link's proof is not a signature")
        peer_role = _Role.RESPONDER if self._role is _Role.DIALER else _Role.DIALER
        verify(self._claimed.link, LINK_LABEL, self._proof(peer_role), content)
        self.peer = self._claimed
        self._await(Command.NETINFO)
        return []

    def _on_netinfo(self, content: bytes, now: float) -> Cells:
        record = decode_record(content, _CONTENT_LIMIT, "NETINFO")
        clock = record.uint(1)
        self.observed_address = record.text(2, _ADDRESS_LIMIT)
        record.done()
        self.peer_clock_offset = clock - now if clock else None
        self.open = True
        return [] if self._role is _Role.DIALER else [*self._own_auth(), self._netinfo(now)]

    def _await(self, *commands: Command) -> None:
        self._awaited = frozenset(commands)

    def _own_certs(self) -> Cells:
        return [(Command.CERTS, self._own.chain.encode())] if self._own else []

    def _own_auth(self) -> Cells:
        if self._own is None:
            return []
        return [(Command.AUTH, self._own.link_key.sign(LINK_LABEL, self._proof(self._role)))]

    def _netinfo(self, now: float) -> tuple[int, bytes]:
        if self._own is None:
            return Command.NETINFO, encode({1: 0, 2: ""})
        return Command.NETINFO, encode({1: int(now), 2: self._peer_address})

    def _proof(self, role: _Role) -> bytes:
        """Return the bytes that the side of `role` signs (spec/02 §4)."""
        own = self._own.identity if self._own else _ANONYMOUS
        peer = self._claimed.identity if self._claimed else _ANONYMOUS
        responder, dialer = (peer, own) if self._role is _Role.DIALER else (own, peer)
        length = len(self._binding).to_bytes(1, "big")
        return role.to_bytes(1, "big") + responder + dialer + length + self._binding
