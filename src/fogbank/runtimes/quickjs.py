"""The JavaScript runtime: the engine QuickJS from a source package, with the host beside this file.

One compiler of one version, flags that are all named, and file names without folders: whoever
builds it gets the same bytes, which the catalogue knows by their hash.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from pathlib import Path

from fogbank.runtimes.packages import RuntimeUnobtainable, members, pypi_source, run

COMPILER = "0.17.1"
_VERSION = "1.19.4"
_DIGEST = "1205953abc24ff757f4a795304d5d61e4bf1e555c9ef6ec96a132d4b95535484"
_ENGINE = (
    "cutils.c",
    "cutils.h",
    "libbf.c",
    "libbf.h",
    "libregexp-opcode.h",
    "libregexp.c",
    "libregexp.h",
    "libunicode-table.h",
    "libunicode.c",
    "libunicode.h",
    "list.h",
    "quickjs-atom.h",
    "quickjs-opcode.h",
    "quickjs.c",
    "quickjs.h",
)
_HOST = ("files.c", "host.h", "main.c", "rounding.h", "timers.c")
_SOURCES = tuple(sorted(name for name in (*_ENGINE, *_HOST) if name.endswith(".c")))
_SOURCE_SIZE = 4 << 20
_FLAGS = (
    "-target",
    "wasm32-wasi",
    "-std=gnu11",
    "-O2",
    "-s",
    "-w",
    "-DNDEBUG",
    # Leaves out threads, and what else the platform lacks; the check of the stack is wanted.
    "-DEMSCRIPTEN",
    "-DCONFIG_STACK_CHECK",
    "-DCONFIG_BIGNUM",
    '-DCONFIG_VERSION="2021-03-27"',
    "-include",
    "rounding.h",
    "-z",
    "stack-size=1048576",
)


def build(cache: Path) -> bytes:
    """Return the module, built anew. `cache` keeps the compiler's C library.

    Raises `RuntimeUnobtainable`.
    """
    _require_compiler()
    root = f"quickjs-{_VERSION}/upstream-quickjs/"
    sizes = {root + name: _SOURCE_SIZE for name in _ENGINE}
    sources = members(pypi_source("quickjs", _VERSION, _DIGEST), sizes)
    with tempfile.TemporaryDirectory(prefix="fogbank-") as place:
        folder = Path(place)
        for name, data in sources.items():
            (folder / name.removeprefix(root)).write_bytes(data)
        for name in _HOST:
            (folder / name).write_bytes((Path(__file__).parent / "javascript" / name).read_bytes())
        return compile_in(folder, cache / "zig")


def compile_in(folder: Path, cache: Path, sources: tuple[str, ...] = _SOURCES) -> bytes:
    """Compile the sources in `folder`. Raises `RuntimeUnobtainable`."""
    cache.mkdir(parents=True, exist_ok=True)
    run(
        "the JavaScript runtime could not be built",
        folder,
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *_FLAGS,
        "-o",
        "javascript.wasm",
        *sources,
        ZIG_GLOBAL_CACHE_DIR=str(cache),
        ZIG_LOCAL_CACHE_DIR=str(folder / "build"),
    )
    return (folder / "javascript.wasm").read_bytes()


def _require_compiler() -> None:
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version != COMPILER:
        raise RuntimeUnobtainable(
            f"the JavaScript runtime is built with ziglang {COMPILER}, and here is {version}: pip"
            f" install ziglang=={COMPILER}, or get the runtime from another worker"
        )
