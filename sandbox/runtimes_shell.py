"""The runtimes of one sandbox: compiled once, kept, and started by fork where that is faster."""

from collections.abc import Awaitable, Callable

import trio

from fogbank.sandbox.code_cache_shell import CodeCache
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import ModuleRefused, Outcome
from fogbank.sandbox.process_shell import Starter
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeId, RuntimeSpec, by_digest
from fogbank.sandbox.runtimes.starting import starts_by_fork
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused, RuntimeStore
from fogbank.sandbox.stock_shell import Stock
from fogbank.sandbox.wire import Control
from fogbank.sandbox.zygotes_shell import Zygote

_CLASSES = 2
"""The engine classes whose code is kept: this release's, and that of the one before."""

Compile = Callable[[bytes], Awaitable[bytes]]


class Runtime:
    """One runtime that is ready: its compiled code, and processes forked from it if it forks."""

    def __init__(
        self, spec: RuntimeSpec, code: bytes, zygote: Zygote | None = None, spares: int = 0
    ) -> None:
        self.spec = spec
        self.code = code
        self.forked = None if zygote is None else Stock(zygote, Control.TASK, spares)
        self._zygote = zygote

    def close(self) -> None:
        """End the zygote, and every process that waits for a task."""
        if self.forked is not None and self._zygote is not None:
            self.forked.drop()
            self._zygote.close()


class Runtimes:
    """Has a runtime ready for whoever names it."""

    def __init__(self, store: RuntimeStore, config: SandboxConfig, starter: Starter) -> None:
        self._store = store
        self._config = config
        self._starter = starter
        largest = config.compiling.artifact
        self._cache = CodeCache(store.folder / "compiled", _CLASSES * len(CATALOGUE), largest)
        self._ready: dict[bytes, Runtime] = {}
        self._locks = {spec.digest: trio.Lock() for spec in CATALOGUE}

    def held(self) -> tuple[RuntimeSpec, ...]:
        """Return the runtimes that are there to be named."""
        return self._store.held()

    async def get(self, wanted: RuntimeId, compiled: Compile) -> Runtime:
        """Return a runtime that is held. The first time takes long, if it must be compiled.

        Raises `ModuleRefused`: UNKNOWN_RUNTIME if it is not held, or what `compiled` raises.
        """
        spec = by_digest(wanted.digest)
        if spec is None or spec not in self.held():
            gone = self._ready.pop(wanted.digest, None)
            if gone is not None:
                gone.close()
            name = wanted.digest.hex() if spec is None else spec.name
            reason = f"this worker does not hold the runtime {name}"
            raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, reason)
        async with self._locks[spec.digest]:
            if spec.digest not in self._ready:
                self._ready[spec.digest] = await self._prepare(spec, compiled)
            return self._ready[spec.digest]

    async def _prepare(self, spec: RuntimeSpec, compiled: Compile) -> Runtime:
        code = await trio.to_thread.run_sync(self._cache.load, spec.digest)
        if code is None:
            try:
                module = await trio.to_thread.run_sync(self._store.read, spec.digest)
            except (RuntimeRefused, OSError) as error:
                raise ModuleRefused(Outcome.UNKNOWN_RUNTIME, str(error)) from None
            code = await compiled(module)
            await trio.to_thread.run_sync(self._cache.keep, spec.digest, code)
        if not starts_by_fork(spec):
            return Runtime(spec, code)
        return Runtime(spec, code, Zygote(spec, code, self._starter), self._config.spares)

    def close(self) -> None:
        """End what is ready."""
        for runtime in self._ready.values():
            runtime.close()
