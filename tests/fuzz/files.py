"""The decoders of files in a user's or node's folder, beside those that the rooms have."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fogbank.client.guards import Guard, GuardState, LayerTwo
from fogbank.client.guards_codec import decode_guards, encode_guards
from fogbank.directory.descriptor import Role
from fogbank.nodes.home import HomeError, Settings
from fogbank.nodes.network_file import read_card
from fogbank.nodes.status import (
    AuthorityReport,
    Contact,
    Publication,
    Reply,
    SeriesReport,
    Status,
)
from fogbank.relay.extend import Address
from fogbank.relay.keys import show_id
from tests.fuzz.kinds import Decoder, Form

NET = b"n" * 32
GUARDS = GuardState(
    (Guard(b"g" * 32, 1, 2, 3, 0, 0, 0, 0, 5, 1), Guard(b"h" * 32, 1, 2, 0, 0, 0, 0, 0, 0, 0)),
    (LayerTwo(b"l" * 32, 7),),
    9,
)
STATUS = Status(
    role="authority",
    nickname="auth0",
    identity=show_id(b"i" * 32),
    version="0.1",
    started=1,
    written=2,
    period=30.0,
    ended=False,
    links=8,
    valid_after=3,
    fresh_until=4,
    valid_until=5,
    flags=("Running",),
    published=(Publication("auth1", Reply.REFUSED, 6, "why"),),
    contacts=(Contact("relay1", linked=True),),
    authority=AuthorityReport(
        "the round", 3, 2, {"auth2": "why"}, 9052, (SeriesReport(0, 3, 2, True),), 10, "words"
    ),
)
SETTINGS = Settings(Role.WORKER, "worker1", cores=2, source="127.0.0.1")
AUTHORITY = Settings(Role.AUTHORITY, "auth1", (Address("192.0.2.1", 9001),), tor_port=9052)
CARD = b"""identity = "%s"
nickname = "auth1"
addresses = ["192.0.2.1:9001"]
""" % show_id(b"i" * 32).encode()


def settings(data: bytes) -> Settings:
    """Read a node's settings."""
    return Settings.load(data.decode())


def card(data: bytes) -> object:
    """Read an authority's card from a file."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        return read_card(Path(file.name))


FILES = [
    Decoder(
        "guards",
        lambda b: decode_guards(b, NET),
        encode_guards(GUARDS, NET),
        again=lambda state: encode_guards(state, NET),
    ),
    Decoder(
        "status",
        Status.decode,
        STATUS.encode(),
        ValueError,
        again=lambda status: status.encode(),
        canonical=False,
        form=Form.JSON,
    ),
    Decoder(
        "node.toml",
        settings,
        SETTINGS.dump().encode(),
        ValueError,
        exact=False,
        more=(AUTHORITY.dump().encode(),),
        again=lambda found: found.dump().encode(),
        canonical=False,
        form=Form.TOML,
    ),
    Decoder("card.toml", card, CARD, HomeError, exact=False, form=Form.TOML),
]
