"""The 12 words of a wallet, by BIP-39 in English (spec/09 §8.1). Pure."""

from __future__ import annotations

from functools import cache
from typing import Final

from mnemonic import Mnemonic

from fogbank.client.wallet.errors import WordsWrong

ENTROPY_SIZE: Final = 16
WORD_COUNT: Final = 12
SEED_SIZE: Final = 64
_LONGEST: Final = 512


def words_of(entropy: bytes) -> str:
    """Return the words for 16 random bytes, with a blank between any two."""
    if len(entropy) != ENTROPY_SIZE:
        raise ValueError(f"a wallet's words are made of {ENTROPY_SIZE} bytes")
    return _english().to_mnemonic(entropy)


def entropy_of(text: str) -> bytes:
    """Return the 16 bytes that words stand for.

    Blanks, line ends and capitals are as the user likes. Raises `WordsWrong`, whose sentence names
    no word but one that is in no wallet's words.
    """
    words = text[:_LONGEST].lower().split()
    if len(text) > _LONGEST or len(words) != WORD_COUNT:
        raise WordsWrong(f"a wallet has {WORD_COUNT} words: type all of them, in their order")
    known = frozenset(_english().wordlist)
    for place, word in enumerate(words, 1):
        if word not in known:
            raise WordsWrong(f"word {place} is none of the list: look whether it is spelt right")
    try:
        return bytes(_english().to_entropy(words))
    except ValueError as error:
        raise WordsWrong(
            "these words do not belong together: one of them is another, or their order is"
        ) from error


def seed_of(entropy: bytes) -> bytes:
    """Return the 64 bytes from which all secrets of a wallet follow; it takes some milliseconds."""
    return Mnemonic.to_seed(words_of(entropy))


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")
