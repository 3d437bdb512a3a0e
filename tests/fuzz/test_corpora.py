"""Every input of the corpora, and every one that once broke a decoder, judged again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.corpora import CORPUS, REGRESSIONS, corpus_file, read_corpus, regressions
from tests.fuzz.kinds import AnyDecoder, check
from tests.fuzz.registry import ALL, find, slug

each = pytest.mark.parametrize("decoder", ALL, ids=lambda decoder: slug(decoder.name))


@each
def test_the_corpus(decoder: AnyDecoder) -> None:
    inputs = read_corpus(decoder.name)
    assert inputs, "without a corpus: run `python -m tests.fuzz` for it, with --save"
    for data in inputs:
        check(decoder, data)


@each
def test_what_it_begins_with_is_accepted(decoder: AnyDecoder) -> None:
    for seed in decoder.seeds:
        assert check(decoder, seed)
        assert len(seed) <= decoder.limit
        # Else no mutation of it would be signed as it was.
        assert decoder.repair(seed) == seed


@pytest.mark.parametrize(
    ("name", "what"),
    [(slug(each.name), what) for each in ALL for what in regressions(each.name)],
)
def test_what_once_broke_it_is_refused(name: str, what: str) -> None:
    assert not check(find(name), regressions(name)[what])


def test_every_file_belongs_to_a_decoder() -> None:
    assert set(CORPUS.iterdir()) == {corpus_file(decoder.name) for decoder in ALL}
    slugs = {slug(decoder.name) for decoder in ALL}
    assert {folder.name for folder in REGRESSIONS.iterdir()} <= slugs


def test_names_are_unique() -> None:
    assert len({slug(decoder.name) for decoder in ALL}) == len(ALL)


def test_the_corpora_are_small() -> None:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(CORPUS) + size(REGRESSIONS) < 2 << 20
