"""A compiler for the tests that run C and Zig."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolchains import zig_cache

Compiler = Callable[..., bytes]


@pytest.fixture(scope="session")
def compile_with_zig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Compiler:
    """Compiles `source` by the given words of zig's command line.

    The first build of C makes the C library, in half a minute; pytest's cache keeps it.
    """
    cache = str(zig_cache(request))
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    folder = tmp_path_factory.mktemp("zig")

    def compile_source(source: Path, *words: str) -> bytes:
        target = folder / f"{source.stem}.wasm"
        output = f"-femit-bin={target}" if "build-exe" in words else f"-o{target}"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "ziglang",
                *words,
                "-target",
                "wasm32-wasi",
                output,
                source.name,
            ],
            cwd=source.parent,
            env=environment,
            check=True,
            capture_output=True,
            timeout=300,
        )
        return target.read_bytes()

    return compile_source
