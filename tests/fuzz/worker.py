"""One fuzzing process: `python -m tests.fuzz.worker DECODER [libFuzzer's options and folders]`.

Atheris counts what the code of the rooms reaches, and libFuzzer keeps the inputs that reach
something new. Any exception but a decoder's own error ends the process and leaves the input in a
file, as do an input that takes too long and memory beyond the bound.
"""

from __future__ import annotations

import sys

import atheris

# The rooms, and what parses for them in Python.
with atheris.instrument_imports(include=["fogbank", "h11", "tomllib"]):
    from tests.fuzz.registry import find

from tests.fuzz.kinds import check
from tests.fuzz.mutation import Mutator


def main() -> None:
    """Fuzz until libFuzzer ends."""
    decoder = find(sys.argv[1])
    # Its `Mutate` is another one once `Fuzz` has begun.
    mutator = Mutator(decoder, lambda data, limit: bytes(atheris.Mutate(data, limit)))

    def target(data: bytes) -> None:
        check(decoder, data)

    # To merge corpora libFuzzer starts its own program again, through a shell.
    program = f"{sys.executable} -m tests.fuzz.worker {sys.argv[1]}"
    atheris.Setup(
        [program, *sys.argv[2:]],
        target,
        custom_mutator=mutator.mutate,
        custom_crossover=mutator.cross,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
