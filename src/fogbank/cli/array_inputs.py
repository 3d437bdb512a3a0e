"""Where an array's tasks come from: values, numbers, lines, chunks, files (spec/11 §1)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from fogbank.cli.output import read_data
from fogbank.client.patterns import Item
from fogbank.nodes.intake import Inputs
from fogbank.sandbox.task import INPUT_SIZE

_INDEX_MAX = 2**53
_TASKS_MAX = 10_000_000


def of_values(values: Sequence[str]) -> Inputs:
    """One task for each value, numbered from 1."""
    items = (Item(number, value) for number, value in enumerate(values, 1))
    return Inputs(items, len(values), words=("values", *values))


def inputs_again(words: Sequence[str]) -> Inputs | None:
    """Return the inputs again that said so of themselves; None if their file is not as it was."""
    kind, *rest = words
    if kind in _OF_WORDS:
        return _OF_WORDS[kind](rest)
    how, path, *stamp = rest
    file = _as_it_was(Path(path), stamp)
    if file is None:
        return None
    if kind == "lines":
        return of_lines(file, as_argument=how == "argument")
    return of_chunks(file, int(how))


def _as_it_was(path: Path, stamp: Sequence[str]) -> BinaryIO | None:
    """Open a file, unless it is another one by now."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    if _whole_file(file)[1:] == tuple(stamp):
        return file
    file.close()
    return None


def _whole_file(file: BinaryIO) -> tuple[str, ...]:
    """Return path, size and time of a file that is at its beginning; nothing of other streams."""
    try:
        about = os.fstat(file.fileno())
        path = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        is_it = stat.S_ISREG(about.st_mode) and os.path.samestat(about, path.stat())
        if not is_it or file.tell():
            return ()
    except OSError:
        return ()
    return str(path), str(about.st_size), str(about.st_mtime_ns)


def of_array(spec: str) -> tuple[Inputs, int | None]:
    """Read `0-999%50` or `1,4,10-30:5`: a task for each number, and how many run at once.

    Raises `ValueError` with what is wrong.
    """
    numbers, percent, most = spec.partition("%")
    spans = [_span(part, spec) for part in numbers.split(",")]
    total = sum(map(len, spans))
    if total > _TASKS_MAX:
        raise ValueError(f"--array {spec} has {total} tasks: {_TASKS_MAX} is the most")
    _check_apart(spans, spec)
    items = (Item(number, str(number)) for span in spans for number in span)
    return Inputs(items, total, words=("array", spec)), (_count(most, spec) if percent else None)


def _span(text: str, spec: str) -> range:
    bounds, colon, step = text.partition(":")
    first, dash, last = bounds.partition("-")
    begin = _index(first, spec)
    end = _index(last, spec) if dash else begin
    if end < begin:
        raise ValueError(f"--array {spec}: {text} ends before it begins")
    return range(begin, end + 1, _count(step, spec) if colon else 1)


def _check_apart(spans: list[range], spec: str) -> None:
    """Raise `ValueError` if a number is there twice; spans may be long, so they are not listed."""
    for place, span in enumerate(spans):
        for other in spans[:place]:
            short, long = sorted((span, other), key=len)
            if short[0] <= long[-1] and long[0] <= short[-1]:
                twice = next((number for number in short if number in long), None)
                if twice is not None:
                    raise ValueError(f"--array {spec} has the number {twice} twice")


def _index(text: str, spec: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17 and int(text) < _INDEX_MAX):
        raise ValueError(f"--array {spec}: write it as 0-999, 0-999%50, or 1,4,10-30:5")
    return int(text)


def _count(text: str, spec: str) -> int:
    number = _index(text, spec)
    if not number:
        raise ValueError(f"--array {spec}: a step, and what follows %, is at least 1")
    return number


def of_lines(file: BinaryIO, *, as_argument: bool) -> Inputs:
    """One task for each line: in place of `{}` without its end, or as standard input with it."""

    def items() -> Iterator[Item]:
        with file:
            for number, line in enumerate(_lines(file), 1):
                if as_argument:
                    yield Item(number, _text(line.rstrip(b"\r\n"), number))
                else:
                    yield Item(number, stdin=line)

    whole = _whole_file(file)
    words = ("lines", "argument" if as_argument else "input", *whole) if whole else None
    return Inputs(items(), blocks=not file.seekable(), words=words)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(INPUT_SIZE + 1):
        if len(line) > INPUT_SIZE:
            raise ValueError(f"a line has more than {INPUT_SIZE} bytes, the most that is taken")
        yield line


def _text(line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError(
            f"line {number} is not UTF-8, and so no argument: leave {{}} out, and it is standard "
            "input"
        ) from None


def of_chunks(file: BinaryIO, size: int) -> Inputs:
    """One task for each portion of at least `size` bytes, cut at the ends of lines."""
    if size > INPUT_SIZE:
        raise ValueError(f"--chunk: a chunk has at most {INPUT_SIZE} bytes")

    def items() -> Iterator[Item]:
        with file:
            number = 0
            while chunk := file.read(size):
                rest = b"" if chunk.endswith(b"\n") else file.readline(INPUT_SIZE - size + 1)
                if len(chunk) + len(rest) > INPUT_SIZE:
                    raise ValueError(
                        f"a chunk has more than {INPUT_SIZE} bytes before its line ends"
                    )
                number += 1
                yield Item(number, stdin=chunk + rest)

    whole = _whole_file(file)
    words = ("chunks", str(size), *whole) if whole else None
    return Inputs(items(), blocks=not file.seekable(), words=words)


def of_files(pattern: str, find: Callable[[str], Sequence[str]]) -> Inputs:
    """One task for each file, in the order of their names; raise `ValueError` if there is none."""
    paths = sorted(Path(name) for name in find(pattern))
    paths = [path.absolute() for path in paths if path.is_file()]
    if not paths:
        raise ValueError(f"--files {pattern}: there is no such file")
    return _of_paths(paths)


def _of_paths(paths: Sequence[Path]) -> Inputs:
    def items() -> Iterator[Item]:
        for number, path in enumerate(paths, 1):
            yield Item(number, path.name, files=((path.name, read_data(path, INPUT_SIZE)),))

    return Inputs(items(), len(paths), words=("files", *map(str, paths)))


_OF_WORDS: dict[str, Callable[[Sequence[str]], Inputs]] = {
    "array": lambda words: of_array(words[0])[0],
    "values": of_values,
    "files": lambda words: _of_paths([Path(name) for name in words]),
}
