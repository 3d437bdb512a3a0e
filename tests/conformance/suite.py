"""The public conformance programs of WASI (wasi-testsuite), read from where they lie.

A suite is a folder with a `manifest.json` that names it, programs, and beside a program a `.json`
of the same name: its arguments, environment, files, and what it must print and exit with.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.task import Task

PREVIEW_1 = "wasm32-wasip1"
LIMITS = Limits(fuel=1 << 34, memory=64 << 20, wall_seconds=60.0, output=1 << 20)
_KNOWN = {"args", "env", "root", "exit_code", "stdout", "stderr"}


@dataclass(frozen=True, slots=True)
class Program:
    """One program, what it is given, and what it must do. `unknown`: what we cannot arrange."""

    path: Path
    task: Task
    exit_code: int
    stdout: bytes | None
    stderr: bytes | None
    unknown: str

    def judge(self, first: Result, second: Result) -> str:
        """Return why two runs, in processes of their own, are no pass; an empty text if they are.

        They must agree with the manifest and, to the unit of fuel, with one another.
        """
        if self.unknown:
            return f"its manifest has {self.unknown}, which this runner does not know"
        if first.outcome is not Outcome.COMPLETED:
            return f"{first.outcome.name}: {first.reason}{_said(first)}"
        if first.exit_code != self.exit_code:
            return f"exit code {first.exit_code}, not {self.exit_code}{_said(first)}"
        found = {"stdout": first.stdout, "stderr": first.stderr, "fuel": first.fuel}
        wanted = {"stdout": self.stdout, "stderr": self.stderr, "fuel": None}
        again = {"stdout": second.stdout, "stderr": second.stderr, "fuel": second.fuel}
        for name, value in found.items():
            if wanted[name] not in {None, value}:
                return f"{name} is {value!r}, not {wanted[name]!r}"
            if again[name] != value:
                return f"{name} is {value!r}, and {again[name]!r} in a second run"
        return ""


def find_suites(top: Path) -> dict[str, list[Program]]:
    """Return the programs for preview 1 below `top`, by the names of their suites."""
    found = {}
    for manifest in sorted(top.rglob("manifest.json")):
        programs = sorted(manifest.parent.glob("*.wasm"))
        words = _load(manifest)
        if programs and words.get("version", PREVIEW_1) == PREVIEW_1:
            found[str(words["name"])] = [_program(path) for path in programs]
    return found


def _program(path: Path) -> Program:
    manifest = path.with_suffix(".json")
    words = _load(manifest) if manifest.exists() else {}
    files = _files(path.parent / words["root"]) if words.get("root") else ()
    return Program(
        path=path,
        task=Task(
            args=(path.name, *words.get("args", ())),
            env=tuple(words.get("env", {}).items()),
            files=files,
            limits=LIMITS,
        ),
        exit_code=words.get("exit_code", 0),
        stdout=_bytes(words.get("stdout")),
        stderr=_bytes(words.get("stderr")),
        unknown=", ".join(sorted(words.keys() - _KNOWN)),
    )


def _files(root: Path) -> tuple[tuple[str, bytes], ...]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return tuple((path.relative_to(root).as_posix(), path.read_bytes()) for path in paths)


def _load(path: Path) -> dict[str, Any]:
    words: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return words


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _said(result: Result) -> str:
    """Quote the last line that a program had to say."""
    lines = (
        (whole(result.stdout) + b"\n" + whole(result.stderr)).decode(errors="replace").split("\n")
    )
    said = [line.strip() for line in lines if line.strip()]
    return f" ({' / '.join(said[:3])[:400]})" if said else ""
