"""The consensus in Tor's formats over HTTP, on this machine only (spec/10 §5).

It answers GET and HEAD of a few fixed paths, one request a connection, and everything it tells is
public. Documents are made when somebody asks for them, once a consensus, beside the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import trio

from fogbank.directory.consensus import Consensus
from fogbank.directory.network import NetworkDocument
from fogbank.directory.tor_format import TorDocuments, tor_documents
from fogbank.relay.links_shell import contain

HOST: Final = "127.0.0.1"
"""Loopback, always: other machines are served by relays, in the network's own formats."""
MAX_CONNECTIONS = 16
MAX_HEAD = 8 << 10
"""Bytes of a request's head."""
REQUEST_SECONDS = 10.0
REPLY_SECONDS = 60.0

_PICK: Final[dict[str, Callable[[TorDocuments], bytes]]] = {
    "/tor/status-vote/current/consensus": lambda documents: documents.consensus,
    "/tor/server/all": lambda documents: documents.descriptors,
    "/tor/keys/all": lambda documents: documents.certificates,
}


class TorHttpServer:
    """Serves pictures of the consensus that `current` gives."""

    def __init__(self, network: NetworkDocument, current: Callable[[], Consensus | None]) -> None:
        self._network = network
        self._current = current
        self._open = 0
        self._making = trio.Lock()
        self._made: tuple[Consensus, TorDocuments] | None = None

    async def run(
        self, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; report the port as started. Raises `OSError` if it is taken."""
        (listener,) = await trio.open_tcp_listeners(port, host=HOST)
        task_status.started(int(listener.socket.getsockname()[1]))
        await trio.serve_listeners(self.serve, [listener])

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one request on a stream, and close it."""
        async with stream:
            if self._open >= MAX_CONNECTIONS:
                return
            self._open += 1
            try:
                await contain("the HTTP server", partial(self._exchange, stream))
            finally:
                self._open -= 1

    async def _exchange(self, stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.TooSlowError):
            await self._serve_one(stream)

    async def _serve_one(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            with trio.fail_after(REQUEST_SECONDS):
                request = await _next_request(http, stream)
        except h11.RemoteProtocolError:
            request = None
            status, body = HTTPStatus.BAD_REQUEST, b"this is no HTTP request\n"
        else:
            if request is None:
                return
            status, body = await self._answer(request)
        reply = _reply(status, body, told=request is None or request.method != b"HEAD")
        with trio.fail_after(REPLY_SECONDS):
            for event in reply:
                await stream.send_all(http.send(event) or b"")

    async def _answer(self, request: h11.Request) -> tuple[HTTPStatus, bytes]:
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, b"this server only answers GET and HEAD\n"
        pick = _PICK.get(request.target.decode("ascii", "replace").removesuffix(".z"))
        if pick is None:
            return HTTPStatus.NOT_FOUND, "".join(f"{path}\n" for path in _PICK).encode()
        documents = await self._documents()
        if documents is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, b"there is no consensus yet\n"
        return HTTPStatus.OK, pick(documents)

    async def _documents(self) -> TorDocuments | None:
        async with self._making:
            consensus = self._current()
            if consensus is None:
                return None
            if self._made is None or self._made[0] is not consensus:
                make = partial(tor_documents, consensus, self._network)
                self._made = consensus, await trio.to_thread.run_sync(make)
            return self._made[1]


async def _next_request(http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
    """Return the request, or None if the peer closes before it has sent one."""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(MAX_HEAD)))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


def _reply(status: HTTPStatus, body: bytes, *, told: bool) -> list[h11.Event]:
    """Return a reply; if the body is not `told`, only its length is."""
    headers = [
        ("Content-Type", "text/plain; charset=us-ascii"),
        ("Content-Encoding", "identity"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
    return [response, *([h11.Data(body)] if told else []), h11.EndOfMessage()]
