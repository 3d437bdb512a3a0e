"""Lies that authorities tell in key generation, each in every round that it is told in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fogbank.directory.mint.ballot import Ballot, Judgement, Sent
from fogbank.directory.mint.contributor import MintContributor
from fogbank.directory.mint.dealing import Dealing, deal, decode_dealing, shared_key
from fogbank.directory.mint.generation import under_way
from fogbank.directory.mint.points import GENERATOR_1, GENERATOR_2, ORDER, encode_point
from fogbank.directory.mint.secret import MintSecret, Polynomial
from fogbank.directory.mint.state import MintKeys, identities
from tests.directory.factory import seed
from tests.mint.table import Lie, Table

Change = Callable[[Dealing, MintContributor, Table], Dealing]
"""What a liar makes of the dealing that it should give."""


def silent(_: Table, __: MintContributor, ballot: Ballot) -> Ballot:
    """Gives its keys and names the state, and nothing else."""
    return Ballot(ballot.keys, ballot.state)


def empty(_: Table, __: MintContributor, ___: Ballot) -> Ballot:
    return Ballot()


def withholds(_: Table, __: MintContributor, ballot: Ballot) -> Ballot:
    """Commits, and does not deal."""
    return replace(ballot, dealing=None)


def altered(change: Change) -> Lie:
    """Return a lie that deals something else, and commits to it."""

    def lie(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
        state = seat.held.state
        now = under_way(state, table.network, table.now)
        if now is None or seat.secret is None or seat._identity in now.excluded:
            return ballot
        dealt = seat._dealt(now, table.network.quorum, seat.secret)
        false = change(dealt, seat, table)
        if ballot.commitment is not None:
            commitment = false.commitment(seat._context(now, seat._identity))
            return replace(ballot, commitment=Sent(now.series, now.attempt, commitment))
        if ballot.dealing is not None:
            return replace(ballot, dealing=Sent(now.series, now.attempt, false.encode()))
        return ballot

    return lie


def other_share(place: int) -> Change:
    """Deal a member a share of another polynomial, well sealed."""

    def change(dealt: Dealing, seat: MintContributor, table: Table) -> Dealing:
        now = under_way(seat.held.state, table.network, table.now)
        assert now is not None
        assert seat.secret is not None
        context = seat._context(now, seat._identity)
        right = seat.secret.polynomial(context, table.network.quorum, identities(now.committee))
        wrong = Polynomial(
            ((right.coefficients[0] + 1) % ORDER, *right.coefficients[1:]), right.ephemeral
        )
        sealed = deal(wrong, context, now.committee).sealed
        mixed = (*dealt.sealed[: place - 1], sealed[place - 1], *dealt.sealed[place:])
        return replace(dealt, sealed=mixed)

    return change


def noise(place: int) -> Change:
    """Deal a member bytes that do not open."""

    def change(dealt: Dealing, *_: object) -> Dealing:
        if not dealt.sealed[place - 1]:
            return dealt
        mixed = (*dealt.sealed[: place - 1], bytes(48), *dealt.sealed[place:])
        return replace(dealt, sealed=mixed)

    return change


def other_degree(by: int) -> Change:
    def change(dealt: Dealing, *_: object) -> Dealing:
        points = dealt.coefficients
        return replace(dealt, coefficients=points[:by] if by < 0 else (*points, points[0]))

    return change


def no_proof(dealt: Dealing, *_: object) -> Dealing:
    return replace(dealt, proof=encode_point(GENERATOR_1))


def another_ephemeral(dealt: Dealing, *_: object) -> Dealing:
    """T of somebody else, of which it does not know the scalar."""
    return replace(dealt, ephemeral=encode_point(GENERATOR_2.scalar_mul(7)))


def infinite(dealt: Dealing, *_: object) -> Dealing:
    return replace(dealt, coefficients=(*dealt.coefficients[:-1], b"\xc0" + bytes(95)))


def copied(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    """Commit to what another commits to, and deal what that one deals."""
    other = next(each for each in table.seats if each is not seat)
    theirs = other.ballot(table.network, table.now)
    return replace(ballot, commitment=theirs.commitment, dealing=theirs.dealing)


def uncommitted(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    """Deal something else than it committed to."""
    if ballot.commitment is None:
        return ballot
    return replace(ballot, commitment=replace(ballot.commitment, data=bytes(32)))


def not_a_dealing(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    if ballot.dealing is None:
        return ballot
    return replace(ballot, dealing=replace(ballot.dealing, data=b"\xa0"))


def false_complaints(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    """Complain of everyone: under K that is none, and under the right K of right shares."""
    if ballot.judgement is None:
        return ballot
    generation = seat.held.state.generation
    assert generation is not None
    assert seat.secret is not None
    complaints = []
    for at, (dealer, data) in enumerate(generation.dealings):
        right = shared_key(decode_dealing(data), seat.secret.decrypt)
        made_up = [right, encode_point(GENERATOR_2.scalar_mul(at + 5)), bytes(96)]
        complaints.append((dealer, made_up[at % 3]))
    return replace(
        ballot, judgement=Judgement(generation.series, generation.attempt, tuple(complaints))
    )


def new_keys(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    """Announce other keys in each round."""
    return replace(ballot, keys=MintSecret(seed("keys", table.number)).keys)


def bad_keys(table: Table, seat: MintContributor, ballot: Ballot) -> Ballot:
    """Announce keys that are not of one scalar."""
    assert ballot.keys is not None
    return replace(
        ballot, keys=MintKeys(encode_point(GENERATOR_1), ballot.keys.y2, ballot.keys.vote)
    )


UNSOUND: dict[str, Lie] = {
    "withholds its dealing": withholds,
    "deals what it did not commit to": uncommitted,
    "deals bytes": not_a_dealing,
    "copies another's": copied,
    "deals too low a degree": altered(other_degree(-1)),
    "deals too high a degree": altered(other_degree(1)),
    "has no proof": altered(no_proof),
    "takes another's T": altered(another_ephemeral),
    "deals infinity": altered(infinite),
}
WRONG: dict[str, Lie] = {
    "deals a wrong share": altered(other_share(1)),
    "deals noise": altered(noise(2)),
}
HARMLESS: dict[str, Lie] = {
    "complains falsely": false_complaints,
    "announces other keys": new_keys,
    "announces bad keys": bad_keys,
    "does nothing": silent,
    "sends nothing": empty,
}
ALL = {**UNSOUND, **WRONG, **HARMLESS}
