"""Pipes over TLS 1.3: non-blocking sockets, with trio for readiness only (spec/02 §1).

`trio.SSLStream` costs four to nine times the CPU for the same bytes; here a turn moves all that the
socket has, without a task switch. TLS works in memory: all records of a turn are one system call
each way, which takes a quarter less than one for each record, and wakes the peer once.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from fogbank.relay.cells import CELL
from fogbank.relay.errors import LinkFailed
from fogbank.relay.link.pipe import Accept, Pipe, PipeBroken

_BACKLOG = 256
_PORTION = 24 * CELL
"""The most bytes that are sealed before they are sent: a row and what goes with it (spec/08 §1.1).

So much, and no more, a pipe whose peer does not read holds beside what its link counts.
"""
_SCRATCH = 1 << 18
_RECEIVE = 1 << 14
_NOTHING = memoryview(b"")
_ACCEPT_PAUSE = 0.1
_UNANSWERED_MS = 60_000
_KEEPALIVE_SECONDS = 30
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class TlsPipe:
    """A connected socket and the TLS over it, after its handshake.

    `tls` reads `incoming` and writes `outgoing`; `scratch` is free between any two calls.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        scratch: memoryview,
        peer_host: str,
    ) -> None:
        self._sock = sock
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._scratch = scratch
        self._is_dry = False
        self._took_all = False
        self._is_drained = False
        self._sealed = 0
        self._left = _NOTHING
        self.peer_host = peer_host
        binding = tls.get_channel_binding("tls-unique")
        if not binding:
            raise PipeBroken("TLS gave no channel binding")
        self.binding: bytes = binding

    def try_receive(self, into: memoryview) -> int | None:
        """Read all that is there, record by record."""
        if self._is_drained:
            # The last call left nothing behind: to look again at once costs more than to be woken
            # for the little that came since.
            self._is_drained = False
            return None
        total = 0
        try:
            while total < len(into):
                if self._is_dry and ((total and self._took_all) or not self._fill()):
                    break
                try:
                    while total < len(into):
                        count: int = self._tls.read(  # type: ignore[assignment]
                            len(into) - total, into[total:]
                        )
                        if not count:
                            return total
                        total += count
                except ssl.SSLWantReadError:
                    self._is_dry = True
                except ssl.SSLEOFError:
                    return total
        except OSError as error:
            if total:
                return total
            raise PipeBroken("the connection broke") from error
        self._is_drained = total > 0 and self._is_dry and self._took_all
        return total or None

    def _fill(self) -> bool:
        """Take what the socket has; tell whether there was anything, an end among it."""
        try:
            count = self._sock.recv_into(self._scratch)
        except BlockingIOError:
            return False
        self._took_all = 0 < count < len(self._scratch)
        self._is_dry = False
        if count:
            self._incoming.write(self._scratch[:count])
        else:
            self._incoming.write_eof()
        return True

    def try_send(self, data: memoryview) -> int | None:
        """Send several records at once; after None the same bytes must come again."""
        try:
            if not self._left:
                self._sealed = self._tls.write(data[:_PORTION])
                self._left = memoryview(self._outgoing.read())
            while self._left:
                self._left = self._left[self._sock.send(self._left) :]
        except BlockingIOError:
            return None
        except OSError as error:
            raise PipeBroken("the connection broke") from error
        return self._sealed

    async def wait_readable(self) -> None:
        """Wait for the socket."""
        self._is_drained = False
        await _wait(trio.lowlevel.wait_readable, self._sock)

    async def wait_writable(self) -> None:
        """Wait for the socket."""
        await _wait(trio.lowlevel.wait_writable, self._sock)

    def close(self) -> None:
        """Close the socket; whoever waits for it hears of it."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


async def _wait(ready: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
    try:
        await ready(sock)
    except (trio.ClosedResourceError, OSError) as error:
        raise PipeBroken("the connection was closed") from error


class TlsTransport:
    """TLS over TCP. `source` is the local address to dial from, or None for the system's choice."""

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = False
        self._client.verify_mode = ssl.CERT_NONE
        self._client.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server: ssl.SSLContext | None = None

    async def dial(self, host: str, port: int) -> Pipe:
        """Connect by TCP and TLS; `host` is an address, not a name."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise LinkFailed(f"no socket can be had: {error.strerror}") from error
        try:
            sock.setblocking(False)
            if self._source is not None and ":" not in host:
                sock.bind((self._source, 0))
            await _connect(sock, (host, port))
            return await _shake(sock, self._client, self._scratch, host, server_side=False)
        except OSError as error:
            sock.close()
            raise LinkFailed(f"cannot connect to {host} port {port}: {error}") from error
        except BaseException:
            sock.close()
            raise

    async def listen(
        self,
        host: str,
        port: int,
        accept: Accept,
        started: Callable[[int], None],
    ) -> None:
        """Accept connections until cancelled."""
        if self._server is None:
            self._server = _server_context()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                raise LinkFailed(
                    f"cannot listen at {host} port {port}: {error.strerror}; is the address this "
                    "machine's, and the port free?"
                ) from error
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            started(listener.getsockname()[1])
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    sock, address = listener.accept()
                except OSError as error:
                    # A peer that left, or no descriptor free: neither may end the listener.
                    if error.errno in _OUT_OF_FILES:
                        await trio.sleep(_ACCEPT_PAUSE)
                    continue
                sock.setblocking(False)
                peer = str(address[0])
                finish = partial(_shake, sock, self._server, self._scratch, peer, server_side=True)
                if not accept(finish, peer):
                    sock.close()


async def _connect(sock: socket.socket, address: tuple[str, int]) -> None:
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    else:
        await trio.lowlevel.checkpoint()
    if code:
        raise OSError(code, os.strerror(code))


async def _shake(
    sock: socket.socket,
    context: ssl.SSLContext,
    scratch: memoryview,
    peer: str,
    *,
    server_side: bool,
) -> Pipe:
    """Do the TLS handshake; `sock` is closed if it fails."""
    try:
        _set_options(sock)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=server_side)
        while not _is_shaken(tls, sock, outgoing):
            await _send_all(sock, outgoing.read())
            await trio.lowlevel.wait_readable(sock)
            with suppress(BlockingIOError):
                incoming.write(sock.recv(_RECEIVE) or _broken())
        await _send_all(sock, outgoing.read())
        return TlsPipe(sock, tls, incoming, outgoing, scratch, peer)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise PipeBroken("the TLS handshake failed") from error
        raise


def _is_shaken(tls: ssl.SSLObject, sock: socket.socket, outgoing: ssl.MemoryBIO) -> bool:
    """Go on with a handshake as far as possible; tell whether it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        # The alert tells the peer why, if it goes out at once.
        with suppress(OSError):
            sock.send(outgoing.read())
        raise
    return True


def _broken() -> bytes:
    raise ConnectionResetError("the connection ended in its handshake")


async def _send_all(sock: socket.socket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[sock.send(left) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished without a word, with circuits open that nobody uses, would be kept
    # for ever: TCP has to ask now and then.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A peer that is gone, or takes nothing, is found out by what it leaves unanswered.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    end = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, None)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    # The ssl module loads keys from files only; this one is gone before anybody connects.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "link.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context
