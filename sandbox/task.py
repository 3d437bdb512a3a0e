"""One task: what a program is given (spec/07 §2)."""

from dataclasses import dataclass, field

from fogbank.sandbox.data import Data
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.wasi.files import NAME_SIZE, NODES

SEED_SIZE = 32
STRINGS_SIZE = 1 << 20
"""The most bytes that arguments and environment may have together."""
FILES_COUNT = 1024
PATH_SIZE = 1024
INPUT_SIZE = 256 << 20
"""The most bytes that stdin and files may have together."""


class TaskError(ValueError):
    """A task that no sandbox accepts; the sentence says which part of it, and why."""


@dataclass(frozen=True, slots=True)
class Task:
    """Arguments, environment, files and input of one run, and its limits.

    `args` includes the program's name as its first item, as argv does. `files` are pairs of a
    path below the task's root, with "/" between its parts, and what is there; it and `stdin` need
    not be in memory. `seed` (32 bytes) is what the program's randomness is derived from.
    """

    args: tuple[str, ...] = ("program",)
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, Data], ...] = ()
    stdin: Data = b""
    limits: Limits = field(default=Limits())
    seed: bytes = bytes(SEED_SIZE)

    def check(self, ceilings: Limits | None = None) -> None:
        """Raise `TaskError` or `LimitError` unless the task is one that can be run."""
        self.limits.check(ceilings)
        if len(self.seed) != SEED_SIZE:
            raise TaskError(f"a seed has {SEED_SIZE} bytes, not {len(self.seed)}")
        self._check_strings()
        self._check_files()

    def _check_strings(self) -> None:
        names = [name for name, _ in self.env]
        if any(not name or "=" in name for name in names) or len(set(names)) != len(names):
            raise TaskError("the names of environment variables must be distinct, without '='")
        strings = [*self.args, *(f"{name}={value}" for name, value in self.env)]
        if any("\0" in item for item in strings):
            raise TaskError("arguments and environment cannot contain a NUL character")
        if sum(len(_encode(item)) + 1 for item in strings) > STRINGS_SIZE:
            raise TaskError(f"arguments and environment have more than {STRINGS_SIZE} bytes")

    def _check_files(self) -> None:
        if len(self.files) > FILES_COUNT:
            raise TaskError(f"a task has at most {FILES_COUNT} files, not {len(self.files)}")
        size = len(self.stdin) + sum(len(data) for _, data in self.files)
        if size > INPUT_SIZE:
            raise TaskError(f"input and files have {size} bytes: at most {INPUT_SIZE} are taken")
        if sum(len(data) for _, data in self.files) > self.limits.memory:
            raise TaskError("the files are larger than the task's memory limit: raise the limit")
        paths = {path for path, _ in self.files}
        if len(paths) != len(self.files):
            raise TaskError("two files have the same path")
        folders: set[str] = set()
        for path in paths:
            parts = _parts(path)
            folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if folders & paths:
            raise TaskError(f"{min(folders & paths)!r} is both a file and a folder")
        if len(folders) + len(paths) >= NODES:
            raise TaskError(f"the files and their folders are more than {NODES - 1}")


def _parts(path: str) -> list[str]:
    """Take a file's path apart, or raise `TaskError` if it is none."""
    parts = path.split("/")
    if len(_encode(path)) > PATH_SIZE or "\0" in path:
        raise TaskError(f"a file's path has at most {PATH_SIZE} bytes and no NUL")
    if any(part in {"", ".", ".."} for part in parts):
        raise TaskError(f"{path!r} is no path below the task's root, such as data/in.csv")
    if any(len(_encode(part)) > NAME_SIZE for part in parts):
        raise TaskError(f"each part of a file's path has at most {NAME_SIZE} bytes")
    return parts


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise TaskError("arguments, environment and paths must be Unicode text") from None
