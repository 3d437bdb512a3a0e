"""What a job is, as its journal keeps it: enough to go on with it anywhere (spec/13 §1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fogbank.client.journal.errors import JournalError
from fogbank.client.patterns import Pattern, command_of
from fogbank.sandbox.data import Data, whole
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec, by_name

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and what all tasks of it have in common.

    `sent`: a module, or the runtime of a script, which is among the files then.
    """

    sent: bytes | RuntimeSpec
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program as the journal keeps it: `module` and `files` name files in the job's folder."""

    name: str
    module: str | None
    runtime: str | None
    arguments: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    limits: dict[str, Any]
    single: bool

    def load(self, read: Callable[[str], Data]) -> Program:
        """Return the program; `read` gives a file of the job's, or raises `OSError`."""
        runtime = by_name(self.runtime) if self.runtime is not None else None
        sent: bytes | RuntimeSpec
        if runtime is not None:
            sent, digest = runtime, runtime.digest
        elif self.module is not None:
            sent = whole(read(self.module))
            digest = hashlib.sha256(sent).digest()
        else:
            raise JournalError(
                f"this release does not know the runtime {self.runtime}, which the job needs: "
                "upgrade fogbank"
            )
        files = tuple((name, read(place)) for name, place in self.files)
        limits = Limits(**self.limits)
        return Program(sent, Pattern(self.name, digest, self.arguments, files, limits, self.single))


@dataclass(frozen=True, slots=True)
class Results:
    """Where results go. `folder`, `log`: absolute paths; `as_json`: lines on standard output."""

    folder: str | None = None
    log: str | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants of verification (spec/12). `attestations`: the folder that keeps them."""

    replicas: int = 1
    quorum: int = 1
    judge: Program | None = None
    attestations: str | None = None

    def keep(self, files: dict[str, Data]) -> Verified:
        """Return how the journal keeps it, and add its files."""
        judge = None if self.judge is None else keep(self.judge, "judge", files)
        return Verified(self.replicas, self.quorum, judge, self.attestations)


@dataclass(frozen=True, slots=True)
class Verified:
    """What is wanted of verification, as the journal keeps it. `attestations`: an absolute path."""

    replicas: int
    quorum: int
    judge: ProgramSpec | None
    attestations: str | None

    def load(self, read: Callable[[str], Data]) -> Wanted:
        """Return what is wanted; `read` gives a file of the job's, or raises `OSError`."""
        judge = None if self.judge is None else self.judge.load(read)
        return Wanted(self.replicas, self.quorum, judge, self.attestations)

    def of_folds(self) -> Wanted | None:
        """Return what is wanted where outputs are folded: answers are compared there too."""
        return Wanted(self.replicas, self.quorum) if self.replicas > 1 else None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job. `at_once`, `retries`: as in `ArrayLimits`. `expires`: seconds since 1970, if ever.

    `kind`: `run` or `map`. `inputs`: where its tasks come from, if that can be read again from the
    words: ["array", "0-99"], ["lines", "input", "/a/file", its size and time].
    """

    kind: str
    program: ProgramSpec
    at_once: int
    retries: int
    expires: float | None = None
    results: Results = field(default=Results())
    fold: ProgramSpec | None = None
    inputs: tuple[str, ...] | None = None
    verified: Verified | None = None

    @property
    def title(self) -> str:
        """Its command, for people."""
        return command_of(self.program.name, self.program.arguments)

    def dump(self) -> str:
        """Return it as text."""
        return json.dumps({"version": _VERSION, **asdict(self)})

    @classmethod
    def load(cls, text: str) -> JobSpec:
        """Read it; raise `JournalError` if it was written by another release, or is damaged."""
        try:
            fields = json.loads(text)
            if fields.pop("version") != _VERSION:
                raise JournalError(
                    "this job was made by another release of fogbank: go on with it there"
                )
            fold, inputs = fields.pop("fold"), fields.pop("inputs")
            verified = fields.pop("verified")
            return cls(
                program=_program(fields.pop("program")),
                results=Results(**fields.pop("results")),
                fold=None if fold is None else _program(fold),
                inputs=None if inputs is None else tuple(inputs),
                verified=None if verified is None else _verified(verified),
                **fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"what the journal says of this job cannot be read ({error}): `fog rm` forgets it"
            ) from error


def _program(fields: dict[str, Any]) -> ProgramSpec:
    fields["arguments"] = tuple(fields["arguments"])
    fields["files"] = tuple((name, place) for name, place in fields["files"])
    return ProgramSpec(**fields)


def _verified(fields: dict[str, Any]) -> Verified:
    judge = fields.pop("judge")
    return Verified(judge=None if judge is None else _program(judge), **fields)


def keep(program: Program, prefix: str, files: dict[str, Data]) -> ProgramSpec:
    """Return how the journal keeps a program, and add its files, named after `prefix`."""
    sent, pattern = program.sent, program.pattern
    module = runtime = None
    if isinstance(sent, RuntimeSpec):
        runtime = sent.name
    else:
        module = prefix
        files[prefix] = sent
    places: list[tuple[str, str]] = []
    for number, (name, data) in enumerate(pattern.files):
        place = f"{prefix}.{number}"
        files[place] = data
        places.append((name, place))
    return ProgramSpec(
        pattern.name,
        module,
        runtime,
        pattern.arguments,
        tuple(places),
        asdict(pattern.limits),
        pattern.single,
    )
