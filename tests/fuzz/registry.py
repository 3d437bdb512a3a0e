"""All decoders of bytes from peers, child processes and files, those that strangers reach first."""

from __future__ import annotations

from tests.fuzz.directory_room import DIRECTORY
from tests.fuzz.files import FILES
from tests.fuzz.guests import GUESTS
from tests.fuzz.jobs import JOB_STREAMS, JOBS, SESSIONS
from tests.fuzz.kinds import AnyDecoder
from tests.fuzz.mint import MINT
from tests.fuzz.network_files import NETWORK_FILES
from tests.fuzz.relay_room import RELAY_ROOM
from tests.fuzz.sandbox_room import SANDBOX
from tests.fuzz.streams import RELAY_MESSAGES, SERVICE_STREAMS

DECODERS = [
    *RELAY_ROOM,
    *RELAY_MESSAGES,
    *JOBS,
    *SESSIONS,
    *DIRECTORY,
    *MINT,
    *NETWORK_FILES,
    *SANDBOX,
    *GUESTS,
    *FILES,
]
STREAMS = [*SERVICE_STREAMS, *JOB_STREAMS]
ALL: list[AnyDecoder] = [*DECODERS, *STREAMS]


def slug(name: str) -> str:
    """Return a decoder's name as a file's."""
    kept = (letter if letter.isalnum() or letter == "." else "-" for letter in name.lower())
    return "".join(kept).replace("--", "-").strip("-")


def find(name: str) -> AnyDecoder:
    """Return the decoder of that name or slug; raise `KeyError` that names those there are."""
    for decoder in ALL:
        if name in {decoder.name, slug(decoder.name)}:
            return decoder
    known = ", ".join(slug(decoder.name) for decoder in ALL)
    raise KeyError(f"{name!r} is no decoder: take one of {known}")
