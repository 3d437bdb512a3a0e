"""Compilers and interpreters for the tests that run real languages.

What cannot be had here skips the test that needs it, with the sentence that a user would read; in
`.ci/run`, which installs what there is, it fails.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from fogbank.runtimes import RuntimeUnobtainable, obtain
from fogbank.sandbox.runtimes.catalogue import by_name
from fogbank.sandbox.runtimes.store_shell import RuntimeStore

ROOT = Path(__file__).resolve().parents[1]


def kept_folder(request: pytest.FixtureRequest, name: str) -> Path:
    """A folder that pytest keeps from one run to the next."""
    assert request.config.cache is not None
    return Path(request.config.cache.mkdir(name))


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Have no other process of this test run fill the cache meanwhile: it would do the same."""
    with (cache / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def zig_cache(request: pytest.FixtureRequest) -> Path:
    """Where the compiler keeps its C library, which takes half a minute to make."""
    folder = kept_folder(request, "fogbank") / "zig"
    folder.mkdir(exist_ok=True)
    return folder


def absent(sentence: str) -> NoReturn:
    """Skip a test, or fail it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


def example_module(name: str, request: pytest.FixtureRequest) -> bytes:
    """An example, built as its README says."""
    cache = kept_folder(request, "fogbank")
    with alone(cache):
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / "build.py", name, "--to", cache / "built"],
            env={**os.environ, "FOGBANK_CACHE": str(cache)},
            text=True,
            capture_output=True,
            check=False,
            timeout=600,
        )
    if done.returncode != 0:
        absent(done.stderr)
    return (cache / "built" / f"{name}.wasm").read_bytes()


def runtime_module(name: str, request: pytest.FixtureRequest) -> bytes:
    """A runtime's module, obtained once."""
    cache = kept_folder(request, "fogbank")
    try:
        with alone(cache):
            return obtain(name, cache)
    except RuntimeUnobtainable as error:
        absent(str(error))


def runtime_store(request: pytest.FixtureRequest, *names: str) -> RuntimeStore:
    """A store that holds these runtimes."""
    for name in names:
        runtime_module(name, request)
        assert by_name(name) is not None
    return RuntimeStore(kept_folder(request, "fogbank") / "runtimes")
