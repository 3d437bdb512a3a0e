"""The corpora: for each decoder, inputs that together reach all that was ever reached in it.

A corpus is one file, `corpus/<decoder>.xz`: a CBOR array of byte strings, the shortest first,
compressed as a whole. Hundreds of small files a decoder would bury the tree and weigh more, for
what they hold is much alike. They are no vectors: a decoder's change may make any of them useless,
and `python -m tests.fuzz` then replaces it.

Inputs that once broke a decoder are kept apart, by the name of what was wrong, in
`regressions/<decoder>/<name>`: they stay.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from pathlib import Path

import cbor2

from tests.fuzz.registry import slug

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
REGRESSIONS = HERE / "regressions"


def corpus_file(name: str) -> Path:
    """Return where a decoder's corpus is."""
    return CORPUS / f"{slug(name)}.xz"


def read_corpus(name: str) -> list[bytes]:
    """Return a decoder's corpus; empty if there is none."""
    try:
        data = corpus_file(name).read_bytes()
    except FileNotFoundError:
        return []
    return [bytes(item) for item in cbor2.loads(lzma.decompress(data))]


def write_corpus(name: str, inputs: Iterable[bytes]) -> None:
    """Replace a decoder's corpus; the same inputs give the same file."""
    CORPUS.mkdir(exist_ok=True)
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    corpus_file(name).write_bytes(lzma.compress(cbor2.dumps(ordered), preset=9))


def regressions(name: str) -> dict[str, bytes]:
    """Return the inputs that once broke a decoder, by what was wrong."""
    folder = REGRESSIONS / slug(name)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}
