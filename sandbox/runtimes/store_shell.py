"""The runtimes that a worker holds: a folder of modules, each named by its hash (spec/07 §1.1)."""

import hashlib
from contextlib import suppress
from pathlib import Path

from fogbank.sandbox.files_shell import sync, write_atomic
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeSpec, by_digest, by_name


class RuntimeRefused(Exception):
    """These bytes are no runtime, or the runtime is not held; the sentence says which."""


class RuntimeStore:
    """A folder of runtimes. What is read from it is checked against the catalogue every time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, data: bytes) -> RuntimeSpec:
        """Keep a module, which must be one of the catalogue's; return which.

        Raises `RuntimeRefused` for any other, and OSError where it cannot be written.
        """
        digest = hashlib.sha256(data).digest()
        spec = by_digest(digest)
        if spec is None:
            known = ", ".join(spec.name for spec in CATALOGUE)
            raise RuntimeRefused(
                f"a module with the SHA-256 {digest.hex()} is no runtime of this release, which"
                f" knows {known}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path(spec), data, 0o644)
        return spec

    def held(self) -> tuple[RuntimeSpec, ...]:
        """Return the runtimes that are there, by size; `read` looks at their bytes."""
        return tuple(spec for spec in CATALOGUE if self._size(spec) == spec.size)

    def read(self, digest: bytes) -> bytes:
        """Return a runtime's module. Raises `RuntimeRefused` unless it is held, whole and exact."""
        spec = by_digest(digest)
        if spec is None or self._size(spec) != spec.size:
            name = digest.hex() if spec is None else spec.name
            raise RuntimeRefused(f"the runtime {name} is not held here")
        data = self._path(spec).read_bytes()
        if hashlib.sha256(data).digest() != digest:
            raise RuntimeRefused(
                f"the file {self._path(spec)} is damaged: remove the runtime {spec.name} and add it"
                " again"
            )
        return data

    def remove(self, name: str) -> None:
        """Delete a runtime. Raises `RuntimeRefused` if it is not held."""
        spec = by_name(name)
        if spec is None or self._size(spec) is None:
            raise RuntimeRefused(f"the runtime {name} is not held here")
        self._path(spec).unlink()
        sync(self.folder)

    def _path(self, spec: RuntimeSpec) -> Path:
        return self.folder / f"{spec.digest.hex()}.wasm"

    def _size(self, spec: RuntimeSpec) -> int | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._path(spec).stat().st_size
        return None
