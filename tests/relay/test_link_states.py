"""A link's handshake: every cell in every state, and nothing after the end (spec/02 §2 to §5).

States are reached by scripts of good cells. Commands come from the codec's own list, so a new one
is tried as soon as it has a number.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fogbank.relay.cells import Command
from fogbank.relay.errors import ProtocolError
from fogbank.relay.link.handshake import Cells, LinkCredentials, LinkHandshake
from tests.relay.test_link_handshake import EVIL, NOW, OTHER, RELAY, dialer, feed, responder, script

ROLES = ("dialer", "responder")
FOR_LINKS = {
    Command.PADDING, Command.VERSIONS, Command.CERTS, Command.AUTH, Command.NETINFO,
}  # fmt: skip
"""The commands of spec/02 §2 with circuit id 0."""


def sides(role: str, own: LinkCredentials | None) -> tuple[Callable[[], LinkHandshake], Cells]:
    """Return how to make the side of `role`, and what its peer says in a good handshake."""
    if role == "dialer":
        return lambda: dialer(own=own), script(own)["responder"]
    return responder, script(own)["dialer"]


def answer(side: LinkHandshake, command: int, content: bytes) -> Cells | None:
    """Return what a side answers, None if it ends the link; no other error may come of a cell."""
    try:
        return side.receive(command, content, NOW)
    except ProtocolError:
        return None


STATES = [
    (role, own, done)
    for role, own in product(ROLES, (None, OTHER.credentials))
    for done in range(len(sides(role, own)[1]) + 1)
]


@pytest.mark.parametrize("command", list(Command), ids=lambda each: each.name)
@pytest.mark.parametrize(("role", "own", "done"), STATES)
def test_every_cell_in_every_state_is_taken_or_is_the_end(
    role: str, own: LinkCredentials | None, done: int, command: Command
) -> None:
    """What ends the link ends it for good: not even the right cell is taken afterwards."""
    make, heard = sides(role, own)
    contents = {content for kind, content in heard if kind == command}
    for content in (*sorted(contents), b"", b"\xff" * 64, bytes(4089)):
        side = make()
        feed(side, heard[:done])
        before = side.open, side.peer
        if answer(side, command, content) is not None:
            assert command in FOR_LINKS
            continue
        assert (side.open, side.peer) == before
        for later in (*heard, *heard[done:]):
            assert answer(side, *later) is None
        assert (side.open, side.peer) == before


class AnyCellsAtAll(RuleBasedStateMachine):
    """One side of a handshake, and a peer that holds its own keys and says what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.said: list[int] = []
        self.side: LinkHandshake
        self.heard: Cells

    @initialize(role=st.sampled_from(ROLES), own=st.sampled_from([None, OTHER.credentials]))
    def begin(self, role: str, own: LinkCredentials | None) -> None:
        make, self.heard = sides(role, own)
        self.role = role
        nodes = (RELAY,) if role == "dialer" else (OTHER, EVIL)
        self.may_prove = {node.identity.public for node in nodes}
        self.side = make()
        self.said = [command for command, _ in self.side.start()]

    def hear(self, command: int, content: bytes) -> None:
        answers = answer(self.side, command, content)
        assert not (self.ended and answers), "it speaks after the end"
        self.ended = self.ended or answers is None
        self.said += [kind for kind, _ in answers or []]

    @rule(at=st.integers(0, 5))
    def a_good_cell(self, at: int) -> None:
        self.hear(*self.heard[at % len(self.heard)])

    @rule(at=st.integers(0, 5))
    def a_cell_of_another_link(self, at: int) -> None:
        other = script(EVIL.credentials)["dialer"]
        self.hear(*other[at % len(other)])

    @rule(command=st.sampled_from(Command) | st.integers(0, 255), content=st.binary(max_size=70))
    def any_cell(self, command: int, content: bytes) -> None:
        self.hear(command, content)

    @rule(at=st.integers(0, 5), place=st.integers(0, 2000), bit=st.integers(0, 7))
    def a_good_cell_with_a_bit_changed(self, at: int, place: int, bit: int) -> None:
        command, content = self.heard[at % len(self.heard)]
        changed = bytearray(content)
        changed[place % len(changed)] ^= 1 << bit
        self.hear(command, bytes(changed))

    @invariant()
    def nothing_is_said_twice(self) -> None:
        assert len(set(self.said)) == len(self.said)

    @invariant()
    def only_a_proof_makes_a_peer(self) -> None:
        peer = self.side.peer
        assert peer is None or peer.identity in self.may_prove
        assert not self.side.open or peer is not None or self.role == "responder"


AnyCellsAtAll.TestCase.settings = settings(
    max_examples=100, stateful_step_count=12, deadline=None, derandomize=True
)
TestAnyCellsAtAll = AnyCellsAtAll.TestCase
