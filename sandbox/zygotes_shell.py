"""Zygotes as seen from the sandbox: started when they are wanted, replaced where they ended."""

import os
import socket

import trio

from fogbank.sandbox import wire
from fogbank.sandbox.forks_shell import Forks, Process
from fogbank.sandbox.outcome import clean
from fogbank.sandbox.process_shell import Starter
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec
from fogbank.sandbox.wire import Control

_START_SECONDS = 60.0
"""How long a runtime may take to start; one second is much."""


class ZygoteFailed(Exception):
    """The runtime did not start; the sentence says how it ended."""


class Zygote:
    """Starts processes of one runtime, with that runtime already running in them."""

    def __init__(self, spec: RuntimeSpec, code: bytes, starter: Starter) -> None:
        self._spec = spec
        self._code = code
        self._starter = starter
        self._forks: Forks | None = None
        self._lock = trio.Lock()

    async def start(self, kind: Control) -> Process:
        """Start a process for one task.

        Raises `SandboxUnavailable` without a launcher, and `ZygoteFailed`.
        """
        async with self._lock:
            if self._forks is None or self._forks.has_ended:
                self._forks = await self._begin()
                self._starter.listen(self._forks)
            return self._forks.start(kind)

    def close(self) -> None:
        """End the zygote and all that it forked."""
        if self._forks is not None:
            self._forks.lose()

    async def _begin(self) -> Forks:
        launcher = await self._starter.launcher()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        forks = Forks(ours)
        try:
            with theirs:
                launcher.fork(Control.ZYGOTE, theirs)
            code = await trio.to_thread.run_sync(_in_memory, self._code)
            try:
                forks.tell(self._spec.digest, [code])
            finally:
                os.close(code)
            await self._await_start(forks)
        except BaseException:
            forks.lose()
            raise
        return forks

    async def _await_start(self, forks: Forks) -> None:
        said = b""
        with trio.move_on_after(_START_SECONDS):
            said = await forks.hear()
        if said.startswith(wire.REFUSAL):
            raise ZygoteFailed(clean(said[1:].decode("utf-8", "replace")))
        if said != wire.REPORT:
            raise ZygoteFailed(f"{self._spec.name} did not start on this worker")


def _in_memory(data: bytes) -> int:
    """Return a descriptor of a file that has no name and holds `data`."""
    descriptor = os.memfd_create("code", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
