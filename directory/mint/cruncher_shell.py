"""A process that computes for the mint: keys and batches in, outcomes out, over its two pipes.

It is started by `crunch_shell`, which gives it the shares of keys over its standard input: they
stand neither in its arguments nor in its environment. It ends when that pipe does.
"""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

from fogbank.directory.mint.crunch import (
    MESSAGE_LIMIT,
    Cruncher,
    pack_outcomes,
    unpack_batch,
)
from fogbank.directory.mint.points import RANDOM_LENGTH, decode_scalar
from fogbank.relay.codec import decode

HELLO, LEARN, FORGET, BATCH = range(4)
"""What a message is, by its first byte."""
LENGTH = 4


def _receive(pipe: BinaryIO) -> bytes | None:
    head = pipe.read(LENGTH)
    if len(head) < LENGTH:
        return None
    data = pipe.read(int.from_bytes(head, "big"))
    return data if len(data) == int.from_bytes(head, "big") else None


def _send(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(len(data).to_bytes(LENGTH, "big") + data)
    pipe.flush()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer batches until the pipe ends."""
    cruncher = Cruncher(b"")
    while (message := _receive(source)) is not None:
        kind, content = message[0], message[1:]
        if kind == HELLO:
            cruncher = Cruncher(content)
            _send(sink, b"")
        elif kind == LEARN:
            series, key, share = decode(content, MESSAGE_LIMIT)
            cruncher.learn(series, key, decode_scalar(share))
        elif kind == FORGET:
            cruncher.forget(decode(content, MESSAGE_LIMIT))
        elif kind == BATCH:
            begun = time.perf_counter()
            outcomes = cruncher.run(unpack_batch(content), os.urandom(RANDOM_LENGTH))
            _send(sink, pack_outcomes(outcomes, time.perf_counter() - begun))


if __name__ == "__main__":
    # Its owner ends it: an interrupt at the terminal is not for it (start_new_session).
    serve(sys.stdin.buffer, sys.stdout.buffer)
