"""Dealings of liars, each by itself (spec/09 §4.1); `test_generation` has what becomes of them."""

from __future__ import annotations

from dataclasses import replace

from fogbank.directory.mint.dealing import (
    Dealing,
    context_of,
    deal,
    is_true_complaint,
    open_dealing,
    open_share,
    shared_key,
)
from fogbank.directory.mint.points import (
    GENERATOR_2,
    PROOF_TAG,
    decode_g1,
    decode_g2,
    encode_point,
    hash_to_g1,
)
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import Seat
from tests.mint.curve import NETWORK, scalar
from tests.mint.deals import key_of

SECRETS = [MintSecret(bytes((k,)) * 32) for k in range(4)]
COMMITTEE = sorted(key_of("seat", k).public for k in range(4))
SEATS = [Seat(identity, secret.keys) for identity, secret in zip(COMMITTEE, SECRETS, strict=True)]
HONEST, LIAR = 0, 1


def dealt(place: int, series: int) -> tuple[Dealing, bytes]:
    """Return what a member of the committee deals to a series, and its context."""
    context = context_of(NETWORK, series, 0, COMMITTEE[place])
    return deal(SECRETS[place].polynomial(context, 3, COMMITTEE), context, SEATS), context


def is_sound(dealing: Dealing, context: bytes) -> bool:
    return open_dealing(dealing.encode(), context, 3, SEATS) is not None


def test_complaints_cannot_be_made_to_open_a_dealing_of_another_series() -> None:
    """Whoever could pass T of an honest dealer for its own would have its shares from complaints.

    The members would complain, truly, that what came with it does not open, and show the K that
    opens what the honest one dealt to them.
    """
    honest, before = dealt(HONEST, 3)
    own, context = dealt(LIAR, 4)
    bait = replace(own, ephemeral=honest.ephemeral, sealed=(bytes(48),) * 4)
    for place, secret in enumerate(SECRETS, 1):
        shown = shared_key(bait, secret.decrypt)
        assert is_true_complaint(bait.encode(), context, place, secret.keys, shown)
        stolen = open_share(honest, before, place, shown)
        polynomial = SECRETS[HONEST].polynomial(before, 3, COMMITTEE)
        assert stolen == polynomial.at(place)
    # So it must not be sound, whatever proof of T the liar has: it is excluded, and nobody judges.
    for proof in (honest.ephemeral_proof, own.ephemeral_proof, own.proof):
        assert not is_sound(replace(bait, ephemeral_proof=proof), context)
    assert is_sound(own, context)
    assert is_sound(honest, before)


def test_t_that_is_made_of_another_s_cannot_be_proven() -> None:
    honest, _ = dealt(HONEST, 3)
    own, context = dealt(LIAR, 4)
    factor, theirs = scalar("factor"), decode_g2(honest.ephemeral)
    for mixed in (theirs.scalar_mul(factor), theirs + GENERATOR_2.scalar_mul(factor), -theirs):
        ephemeral = encode_point(mixed)
        message = hash_to_g1(context + ephemeral, PROOF_TAG)
        stretched = decode_g1(honest.ephemeral_proof).scalar_mul(factor)
        for proof in (message.scalar_mul(factor), stretched, stretched + message):
            lie = replace(own, ephemeral=ephemeral, ephemeral_proof=encode_point(proof))
            assert not is_sound(lie, context)


def test_a_proof_holds_in_its_own_context_alone() -> None:
    own, context = dealt(LIAR, 4)
    for other in (
        context_of(bytes(32), 4, 0, COMMITTEE[LIAR]),
        context_of(NETWORK, 5, 0, COMMITTEE[LIAR]),
        context_of(NETWORK, 4, 1, COMMITTEE[LIAR]),
        context_of(NETWORK, 4, 0, COMMITTEE[HONEST]),
    ):
        assert not is_sound(own, other)
    assert is_sound(own, context)


def test_a_key_for_another_member_is_no_complaint() -> None:
    own, context = dealt(LIAR, 4)
    bait = replace(own, sealed=(bytes(48),) * 4)
    shown = shared_key(bait, SECRETS[2].decrypt)
    data = bait.encode()
    assert is_true_complaint(data, context, 3, SECRETS[2].keys, shown)
    assert not is_true_complaint(data, context, 4, SECRETS[3].keys, shown)
    assert not is_true_complaint(own.encode(), context, 3, SECRETS[2].keys, shown)
    for false in (b"", b"\xc0" + bytes(95), encode_point(GENERATOR_2)):
        assert not is_true_complaint(data, context, 3, SECRETS[2].keys, false)
