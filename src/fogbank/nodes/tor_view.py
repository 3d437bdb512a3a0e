"""An authority's view for tools written with stem, if its operator wants one (spec/10 §5)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from fogbank.directory.consensus import Consensus
from fogbank.directory.network import NetworkDocument
from fogbank.nodes.home import HomeError

log = logging.getLogger(__name__)


class Serve(Protocol):
    """What a nursery starts, and learns the port from."""

    def __call__(self, *, task_status: trio.TaskStatus[int]) -> Awaitable[None]:
        """Serve until cancelled."""


def serve_tor_formats(
    network: NetworkDocument, port: int, current: Callable[[], Consensus | None]
) -> Serve:
    """Return what serves the consensus that `current` gives, at a port of this machine alone.

    Raises `HomeError` if what that needs is not installed, and when run, if the port is taken.
    """
    try:
        # Few want it, and it is optional: an authority without it never loads stem.
        from fogbank.directory.tor_http_shell import TorHttpServer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise HomeError(
            "tor_port in node.toml needs the extra \"tor\": run `pip install 'fogbank[tor]'`, or "
            "remove the line"
        ) from error
    server = TorHttpServer(network, current)

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                real = await nursery.start(server.run, port)
                log.info("Tor's formats are served on this machine at port %d", real)
                task_status.started(real)
        except* OSError as errors:
            raise HomeError(
                f"port {port} cannot be had for Tor's formats: set another tor_port in node.toml"
            ) from errors

    return serve
