"""The status file: written while a node runs, read by its operator's commands (spec/10 §1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import trio

import fogbank
from fogbank.client.circuits_shell import directly
from fogbank.client.directory_cache_shell import DirectoryCache
from fogbank.client.errors import DirectoryUnavailable
from fogbank.directory.schedule import interval_at
from fogbank.nodes.environment import Environment
from fogbank.nodes.home import Home, HomeError
from fogbank.nodes.status import STATUS_LIMIT, Observed, Status, make_status
from fogbank.nodes.why import Case
from fogbank.relay.keystore_shell import KeyStore
from fogbank.relay.node_shell import NodeConfig
from fogbank.sandbox.files_shell import write_atomic

log = logging.getLogger(__name__)

_PERIOD_BOUNDS = (1.0, 30.0)
_FETCH_SECONDS = 20.0
_PERIOD_SHARE = 10
"""A status is written ten times an interval, within bounds."""


async def run_with_status(
    home: Home,
    run: Callable[[], Awaitable[None]],
    observe: Callable[[], Observed],
    news: trio.Event | None = None,
) -> None:
    """Run a node, and keep its status file as long; the last words are that it has ended.

    With `news` it is written anew at once, not in its time only.
    """
    writer = _Writer(home, observe)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.keep, trio.Event() if news is None else news)
            await run()
            nursery.cancel_scope.cancel()
    finally:
        writer.write(ended=True)


class _Writer:
    def __init__(self, home: Home, observe: Callable[[], Observed]) -> None:
        self._path = home.status_file
        self._settings = home.settings()
        self._observe = observe
        self._started = time.time()
        self._network = home.network()
        self._failing = False

    async def keep(self, news: trio.Event) -> None:
        while True:
            known = news.is_set()
            data = self._status(ended=False)
            # A disk can take its time; circuits cannot.
            await trio.to_thread.run_sync(self._put, data)
            if known:
                await trio.sleep(self._period())
            else:
                with trio.move_on_after(self._period()):
                    await news.wait()

    def write(self, *, ended: bool) -> None:
        self._put(self._status(ended=ended))

    def _status(self, *, ended: bool) -> bytes:
        settings = self._settings
        times = self._started, time.time(), self._period()
        role, version = settings.role.name.lower(), fogbank.__version__
        status = make_status(self._observe(), role, settings.nickname, version, times, ended=ended)
        return status.encode()

    def _period(self) -> float:
        least, most = _PERIOD_BOUNDS
        interval = interval_at(self._network, time.time())
        return min(max(interval / _PERIOD_SHARE, least), most)

    def _put(self, data: bytes) -> None:
        try:
            write_atomic(self._path, data)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("the status cannot be written to %s: %s", self._path, error.strerror)
            self._failing = True


def read_status(home: Home) -> Status | None:
    """Return what the node in `home` last told, or None if it never ran.

    Raises `HomeError` if the file cannot be used.
    """
    path = home.status_file
    try:
        with path.open("rb") as file:
            return Status.decode(file.read(STATUS_LIMIT + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise HomeError(
            f"{path} is damaged: a running node writes it anew; wait, or start the node"
        ) from error


async def gather(home: Home) -> Case:
    """Return what is known of the relay in `home`; nothing in its folder is changed.

    The consensus is the relay's own, or if that is old, one fetched now.
    """
    network, machine = home.network(), Environment()
    trouble: list[str] = []
    cache = DirectoryCache(
        home.folder, network, machine.chooser, trouble.append, write=lambda *_: None
    )
    cache.load()
    if not cache.is_fresh:
        node = machine.node(NodeConfig(network.network_id, machine.transport(None)))
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                with trio.move_on_after(_FETCH_SECONDS):
                    await cache.refresh(directly(node))
            except DirectoryUnavailable as error:
                trouble.append(str(error))
            nursery.cancel_scope.cancel()
    return Case(
        str(home.folder),
        home.settings(),
        KeyStore.open(home.folder / "keys").identity,
        network,
        time.time(),
        read_status(home),
        cache.consensus,
        " ".join(trouble),
    )
