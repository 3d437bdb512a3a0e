"""Obtains runtimes: modules that release after release must be the same to the byte (spec/07 §1.1).

Python comes ready from a public package; JavaScript is built from one. Either happens once on a
machine: the module stays in the user's cache folder.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from fogbank.runtimes import cpython, quickjs
from fogbank.runtimes.packages import RuntimeUnobtainable
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeSpec, by_name
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused, RuntimeStore

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RuntimeUnobtainable", "cache_folder", "cached", "obtain"]


def cache_folder() -> Path:
    """Return the folder for what can be had again: FOGBANK_CACHE, else the platform's."""
    chosen = os.environ.get("FOGBANK_CACHE")
    return Path(chosen) if chosen else user_cache_path("fogbank")


def cached(spec: RuntimeSpec, folder: Path) -> bytes | None:
    """Return the runtime's module if it is in the cache `folder`, whole and exact; else None."""
    with suppress(RuntimeRefused, OSError):
        return RuntimeStore(folder / "runtimes").read(spec.digest)
    return None


def obtain(name: str, folder: Path) -> bytes:
    """Return a runtime's module, from the cache `folder` or by a package client, and cache it.

    Raises `RuntimeUnobtainable` with a sentence that says what to install or to do.
    """
    spec = by_name(name)
    if spec is None:
        known = ", ".join(item.name for item in CATALOGUE)
        raise RuntimeUnobtainable(f"there is no runtime {name}: this release knows {known}")
    data = cached(spec, folder)
    if data is not None:
        return data
    data = _maker(spec)(folder)
    try:
        made = RuntimeStore(folder / "runtimes").add(data)
    except RuntimeRefused as refusal:
        raise RuntimeUnobtainable(
            f"the runtime {name} was not made as it must be: {refusal}"
        ) from None
    except OSError as error:
        reason = f"the runtime cannot be kept in {folder}: {error.strerror}; set FOGBANK_CACHE"
        raise RuntimeUnobtainable(reason) from None
    if made != spec:
        raise RuntimeUnobtainable(f"the package of {name} holds the runtime {made.name} instead")
    return data


def _maker(spec: RuntimeSpec) -> Callable[[Path], bytes]:
    return {"python": cpython.fetch, "javascript": quickjs.build}[spec.name]
