"""The fuzzer's own parts: the mutator gets behind signatures, the command says what it did."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import campaign, corpora
from tests.fuzz.__main__ import main
from tests.fuzz.campaign import Campaign, Outcome, fuzz
from tests.fuzz.forms import put_together, taken_apart
from tests.fuzz.kinds import Decoder, Form, StreamDecoder, check
from tests.fuzz.mutation import Mutator
from tests.fuzz.registry import ALL, find, slug


def scratch(data: bytes, limit: int) -> bytes:
    """Change the last byte."""
    return (data[:-1] + bytes([(data[-1] if data else 0) ^ 1]))[:limit]


def test_a_mutation_follows_from_its_seed() -> None:
    first, second = (Mutator(find("vote"), scratch) for _ in range(2))
    valid = find("vote").valid
    mutated = [first.mutate(valid, 4096, seed) for seed in range(50)]
    assert mutated == [second.mutate(valid, 4096, seed) for seed in range(50)]
    assert len(set(mutated)) > 20


@pytest.mark.parametrize(
    "name", ["certificate", "descriptor", "vote", "consensus", "evidence", "signed-network.toml"]
)
def test_mutations_get_behind_the_signatures(name: str) -> None:
    decoder = find(name)
    mutator = Mutator(decoder, scratch)
    mutated = {mutator.mutate(decoder.valid, decoder.limit, seed) for seed in range(300)}
    accepted = [data for data in mutated - {*decoder.seeds} if check(decoder, data)]
    assert accepted


def test_no_mutation_is_longer_than_its_limit() -> None:
    random = Random(1)
    for decoder in ALL:
        mutator = Mutator(decoder, scratch)
        for _ in range(20):
            limit = random.randint(0, decoder.limit)
            assert len(mutator.mutate(decoder.valid, limit, random.getrandbits(32))) <= limit
            crossed = mutator.cross(decoder.valid, decoder.seeds[-1], limit, random.getrandbits(32))
            assert len(crossed) <= limit


@pytest.mark.parametrize("decoder", ALL, ids=lambda decoder: slug(decoder.name))
def test_what_is_taken_apart_is_put_together_again(decoder: Decoder) -> None:
    value = taken_apart(decoder.valid, decoder.form)
    assert (value is None) == (decoder.form is Form.BYTES)
    if value is not None:
        again = put_together(value, decoder.form)
        assert again is not None
        assert taken_apart(again, decoder.form) == value


@pytest.mark.parametrize(
    ("decode", "again"),
    [
        (lambda data: data[7], None),
        (lambda data: data, lambda value: value + b"x"),
    ],
)
def test_the_judge_sees_what_is_wrong(
    decode: Callable[[bytes], object], again: Callable[[object], bytes] | None
) -> None:
    with pytest.raises((IndexError, AssertionError)):
        check(Decoder("bad", decode, b"", again=again), b"data")


def test_the_judge_sees_a_stream_that_depends_on_its_portions() -> None:
    with pytest.raises(AssertionError, match="cut at"):
        check(StreamDecoder("bad", iter, b""), b"some data")


def test_a_corpus_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "CORPUS", tmp_path / "corpus")
    assert corpora.read_corpus("vote") == []
    corpora.write_corpus("vote", [b"long", b"b", b"a", b"b"])
    assert corpora.read_corpus("vote") == [b"a", b"b", b"long"]


def test_without_atheris_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["vote"]) == 2
    assert "tools/install requirements/fuzz.txt" in capsys.readouterr().out


def test_a_decoder_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["votes"]) == 2
    assert "'votes' is no decoder: take one of document" in capsys.readouterr().out


LAST_WORDS = b"""
#4096 pulse  cov: 71 ft: 140 corp: 31/3900b lim: 600 exec/s: 1625 rss: 81Mb
#9000 DONE   cov: 72 ft: 141 corp: 32/3953b lim: 600 exec/s: 1625 rss: 81Mb
stat::number_of_executed_units: 9000
"""


def test_a_campaign_goes_on_after_a_crash_and_sums_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, ...]] = []

    def run(name: str, log: Path, seconds: float, *arguments: str) -> bytes:
        runs.append(arguments)
        if len(runs) == 1:
            (log.parent / "crashes" / "crash-1").write_bytes(b"x")
            return LAST_WORDS + b"ValueError: no\n"
        if arguments[0] == "-merge=1":
            (log.parent / "merged" / "1").write_bytes(b"kept")
        return LAST_WORDS

    monkeypatch.setattr(campaign, "_run", run)
    outcome = fuzz(Campaign(tmp_path, 600), find("vote"))
    assert len(runs) == 3
    assert (outcome.inputs, outcome.edges, outcome.features, outcome.kept) == (18000, 72, 141, 1)
    assert [crash.what for crash in outcome.crashes] == ["ValueError: no"]
    assert "18000 inputs" in Outcome.line(outcome)
