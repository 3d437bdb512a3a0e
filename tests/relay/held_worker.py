"""A worker of job sessions as a process of its own, over TCP on loopback: to be killed.

    python -m tests.relay.held_worker FOLDER

It writes its port. Its runner runs nothing, but ends tasks as their arguments say.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import trio

from fogbank.relay.job.held.sessions_shell import HeldSessions
from tests.relay.job_fakes import FakeRunner, make_service, serve


async def main(folder: Path) -> None:
    """Serve until killed."""
    service = make_service(FakeRunner())
    service.hold_in(HeldSessions(folder, time.time))

    async def one(stream: trio.SocketStream) -> None:
        await serve(service, stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        (listener,) = await nursery.start(partial(trio.serve_tcp, one, 0, host="127.0.0.1"))
        sys.stdout.write(f"{listener.socket.getsockname()[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
