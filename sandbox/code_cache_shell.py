"""Compiled code of public runtimes, kept on disk (spec/07 §8).

An engine runs compiled code as it is given, so what is kept is believed only with a MAC by a key
that this cache alone has. An entry is bound to the module's hash, to the engine class, which names
wasmtime's version, the architecture and every setting, and to what the processor can do. A job's
own module is never kept: that a worker has it ready would tell others that somebody ran it.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from fogbank.sandbox.engine import engine_class
from fogbank.sandbox.files_shell import write_atomic

KEY_SIZE = 32
MAC_SIZE = 32
_KEY = "key"
_SUFFIX = ".code"
_LABEL = b"fogbank compiled code\0"


class CodeCache:
    """A folder of compiled code: at most `entries` files of `largest` bytes each.

    Nothing here raises for what the folder holds, or for a disk that fails: then there is no entry.
    """

    def __init__(self, folder: Path, entries: int, largest: int) -> None:
        self._folder = folder
        self._entries = entries
        self._largest = largest

    def load(self, digest: bytes) -> bytes | None:
        """Return the code compiled from the module with this SHA-256, or None."""
        try:
            key, data = self._key(), self._read(digest)
        except OSError:
            return None
        code = data[MAC_SIZE:]
        if not hmac.compare_digest(data[:MAC_SIZE], _mac(key, digest, code)):
            self.drop(digest)
            return None
        return code

    def keep(self, digest: bytes, code: bytes) -> None:
        """Keep what a compiler of this sandbox made of the module with this SHA-256."""
        if len(code) > self._largest:
            return
        with suppress(OSError):
            self._make_room(digest)
            write_atomic(self._path(digest), _mac(self._key(), digest, code) + code)

    def drop(self, digest: bytes) -> None:
        """Forget an entry."""
        with suppress(OSError):
            self._path(digest).unlink()

    def _read(self, digest: bytes) -> bytes:
        path = self._path(digest)
        if not MAC_SIZE < path.stat().st_size <= MAC_SIZE + self._largest:
            self.drop(digest)
        return path.read_bytes()

    def _key(self) -> bytes:
        """Return the key; a new one, which no entry fits, where there is none that is secret."""
        path = self._folder / _KEY
        with suppress(FileNotFoundError):
            about = path.stat(follow_symlinks=False)
            if about.st_mode & 0o177 == 0 and about.st_uid == os.geteuid():
                key = path.read_bytes()
                if len(key) == KEY_SIZE:
                    return key
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = secrets.token_bytes(KEY_SIZE)
        write_atomic(path, key)
        return key

    def _make_room(self, digest: bytes) -> None:
        """Delete what was kept longest ago, until there is room for one entry more."""
        kept = [path for path in self._folder.glob(f"*{_SUFFIX}") if path != self._path(digest)]
        kept.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: max(len(kept) - self._entries + 1, 0)]:
            path.unlink()

    def _path(self, digest: bytes) -> Path:
        name = hashlib.sha256(_binding(digest)).hexdigest()
        return self._folder / f"{name}{_SUFFIX}"


def _mac(key: bytes, digest: bytes, code: bytes) -> bytes:
    made = hmac.new(key, _binding(digest), "sha256")
    made.update(code)
    return made.digest()


def _binding(digest: bytes) -> bytes:
    """What an entry is for: all that its code depends on."""
    features = hashlib.sha256(_features()).digest()
    return _LABEL + engine_class().encode() + b"\0" + features + digest


def _features() -> bytes:
    """Return what the processor says that it can do: a home may move to another machine."""
    lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"flags", b"Features"))}))
