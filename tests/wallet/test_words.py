"""Seed words are those of BIP-39, and what is typed wrongly is refused in words."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.client.wallet.errors import WordsWrong
from fogbank.client.wallet.words import entropy_of, seed_of, words_of

ZOO = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"


@pytest.mark.parametrize(
    ("entropy", "words"),
    [
        ("00" * 16, "abandon " * 11 + "about"),
        ("7f" * 16, "legal winner thank year wave sausage worth useful legal winner thank yellow"),
        ("ff" * 16, ZOO),
    ],
)
def test_vectors_of_bip_39(entropy: str, words: str) -> None:
    assert words_of(bytes.fromhex(entropy)) == words
    assert entropy_of(words) == bytes.fromhex(entropy)


@given(st.binary(min_size=16, max_size=16))
def test_words_give_back_their_bytes_and_the_seed_that_hashlib_gives(entropy: bytes) -> None:
    words = words_of(entropy)
    assert entropy_of(f"  {words.upper()}\n".replace(" ", "  ")) == entropy
    assert seed_of(entropy) == hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (ZOO.removesuffix(" wrong"), "12 words"),
        (ZOO.replace("wrong", "wrogn"), "word 12 is none"),
        (ZOO.replace("wrong", "zoo"), "do not belong together"),
        ("zoo " * 12 * 1000, "12 words"),
        ("", "12 words"),
    ],
)
def test_wrong_words_are_refused_and_not_repeated(words: str, sentence: str) -> None:
    with pytest.raises(WordsWrong, match=sentence) as caught:
        entropy_of(words)
    assert "zoo" not in str(caught.value)
    assert "wrogn" not in str(caught.value)
