"""Plans for a wallet's own tokens: to withdraw and swap them, what comes of it (spec/09 §8.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from fogbank.client.wallet.choosing import MOST_UNITS, choose
from fogbank.client.wallet.derivation import Place
from fogbank.client.wallet.errors import TooManyWaiting
from fogbank.client.wallet.records import Change, Kind, OpenRequest, Purpose, Units
from fogbank.client.wallet.records import Token as OwnToken
from fogbank.client.wallet.terms import GAP, OFFER_PERIODS
from fogbank.client.wallet.wallet import Book, Draft
from fogbank.directory.mint.requests import (
    Request,
    SignedRequest,
    Swap,
    Token,
    Withdrawal,
    decode_signed_request,
    sign_swap,
)
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import NodeId

Sign: TypeAlias = Callable[[Request], SignedRequest]
"""Signs a withdrawal with the node's key."""


def withdraw(
    book: Book, series: int, identity: NodeId, allotment: int, sign: Sign, now: int
) -> Change:
    """Plan the next withdrawal: of as many units as a request can have; empty if none is left."""
    units = book.units.get((identity, series), Units(identity, series, 0))
    left = allotment - units.next
    if left <= 0 or now >= book.terms.calendar.withdraw_until(series):
        return Change()
    draft = Draft(book, now)
    count = min(MOST_UNITS, 1 << left.bit_length() - 1)
    places, outputs = own_outputs(draft, count)
    source = Withdrawal(identity, units.next, count)
    signed = sign(Request(book.terms.network_id, series, source, outputs))
    draft.put(opened(signed, Purpose.WITHDRAWAL, outputs=places))
    draft.put(replace(units, next=units.next + count))
    return draft.change()


def refresh(book: Book, now: int, *, everything: bool = False) -> Change:
    """Plan swaps of what came from words into outputs of the wallet's own branch.

    `everything`: of all that is ready. As many are planned as may wait to be issued at once: call
    it again when these are done.
    """
    ours = (book.about.role, book.about.branch)
    tokens = [
        token
        for token in book.tokens.values()
        if (everything or (token.place.role, token.place.branch) != ours)
        and not token.locked
        and token.rests_until <= now < book.terms.calendar.lock_until(token.series)
    ]
    draft = Draft(book, now)
    for inputs in choose(tokens, len(tokens)):
        try:
            places, outputs = own_outputs(draft, len(inputs))
        except TooManyWaiting:
            break
        swap(draft, Purpose.REFRESH, inputs, outputs, places)
    return draft.change()


def own_outputs(
    draft: Draft, count: int, gap: int = GAP
) -> tuple[tuple[Place, ...], tuple[bytes, ...]]:
    """Take outputs; return their places and what is to be signed, in the order of a request."""
    output = draft.book.secrets.output
    taken = sorted((output(place).blinded, place) for place in draft.take(count, gap))
    return tuple(place for _, place in taken), tuple(blinded for blinded, _ in taken)


def swap(
    draft: Draft,
    purpose: Purpose,
    tokens: Sequence[OwnToken],
    outputs: Sequence[bytes],
    places: Sequence[Place] = (),
    payment: int = 0,
) -> OpenRequest:
    """Sign a swap of tokens into outputs, and keep the tokens from any other request."""
    inputs = sorted(tokens, key=lambda token: token.serial)
    source = Swap(tuple(Token(token.serial, token.signature) for token in inputs))
    network_id, series = draft.book.terms.network_id, inputs[0].series
    request = Request(network_id, series, source, tuple(sorted(outputs)))
    keys = [draft.book.secrets.serial_key(token.place) for token in inputs]
    signed = sign_swap(request, keys)
    made = opened(signed, purpose, tuple(token.place for token in inputs), places, payment)
    for token in inputs:
        draft.put(replace(token, locked=made.id))
    draft.put(made)
    return made


def opened(
    signed: SignedRequest,
    purpose: Purpose,
    inputs: Sequence[Place] = (),
    outputs: Sequence[Place] = (),
    payment: int = 0,
) -> OpenRequest:
    """Return the record of a request that is signed."""
    request = signed.request
    ends = (tuple(inputs), tuple(outputs))
    return OpenRequest(
        request.digest(),
        purpose,
        request.series,
        request.source.count,
        signed.encode(),
        b"",
        *ends,
        payment,
    )


def certified(book: Book, name: bytes, certificate: bytes, now: int) -> Change:
    """Plan to keep a certificate; nothing is to be done if there is one, or no such request."""
    request = book.requests.get(name)
    if request is None or request.certificate:
        return Change()
    draft = Draft(book, now)
    draft.put(replace(request, certificate=certificate))
    drop_inputs(draft, request)
    payment = book.payments.get(request.payment)
    if payment is not None and all(
        each == name or is_certified(book, each) for each in payment.requests
    ):
        draft.note(Kind.PAID, payment.amount)
    return draft.change()


def is_certified(book: Book, name: bytes) -> bool:
    """Tell whether a request is there, with its certificate."""
    request = book.requests.get(name)
    return request is not None and bool(request.certificate)


def drop_inputs(draft: Draft, request: OpenRequest) -> int:
    """Let the tokens go that a request spends; return how many were here."""
    tokens = [draft.book.tokens.get(place) for place in request.inputs]
    gone = [token for token in tokens if token is not None and token.locked == request.id]
    for token in gone:
        draft.drop(token)
    return len(gone)


def issued(book: Book, name: bytes, signatures: Sequence[bytes], now: int) -> Change:
    """Plan to take in the tokens of a request, which is done with that.

    `signatures`: unblinded and checked, one for each output in R's order; they say that there was a
    certificate, also if none was kept. Nothing is to be done if there is no such request any more.
    """
    request = book.requests.get(name)
    if request is None:
        return Change()
    if request.purpose is Purpose.PAYMENT or len(signatures) != len(request.outputs):
        raise ValueError("tokens of another request, or of one that pays somebody else")
    draft = Draft(book, now)
    drop_inputs(draft, request)
    for place, signature in zip(request.outputs, signatures, strict=True):
        serial = book.secrets.serial_key(place).public
        rests_until = now + book.terms.rest
        draft.put(OwnToken(place, request.series, serial, signature, rests_until))
        draft.reach(place)
    draft.drop(request)
    if request.purpose is Purpose.WITHDRAWAL:
        draft.note(Kind.WITHDREW, request.count)
    return draft.change()


def beaten(book: Book, name: bytes, other: SignedRequest, now: int) -> Change:
    """Plan what follows when a request cannot be certified, since another one holds its inputs.

    That other one bears the signatures of this wallet's own keys: another copy of it is at work, or
    was, before this one was restored. If its outputs are the wallet's own, it is completed instead;
    what goes elsewhere is lost here. Raises `ProtocolError` if the other one is not signed, or has
    none of the inputs.
    """
    request = book.requests.get(name)
    if request is None or request.certificate or other.request.digest() == name:
        return Change()
    mine = decode_signed_request(request.signed).request
    if not set(mine.serials()) & set(other.request.serials()):
        raise ProtocolError("a conflict is told that is none")
    other.check_proofs(None)
    draft = Draft(book, now)
    draft.drop(request)
    drop_inputs(draft, request)
    places = find_places(book, other.request)
    if places is None:
        draft.note(Kind.LOST, len(request.inputs))
    else:
        draft.note(Kind.LOST, len(set(mine.serials()) - set(other.request.serials())))
        if other.request.digest() not in book.requests:
            draft.put(opened(other, request.purpose, outputs=places))
    skip_units(draft, other.request, request)
    shorten(draft, request)
    return draft.change()


def skip_units(draft: Draft, withdrawn: Request, beaten_one: OpenRequest) -> None:
    """Go on behind the units that another withdrawal took, and those that are under way."""
    if not isinstance(withdrawn.source, Withdrawal):
        return
    end, identity = withdrawn.source.first + withdrawn.source.count, withdrawn.source.identity
    for each in draft.book.requests.values():
        if each.purpose is Purpose.WITHDRAWAL and each != beaten_one:
            source = decode_signed_request(each.signed).request.source
            if each.series != withdrawn.series or not isinstance(source, Withdrawal):
                continue
            if source.identity == identity:
                end = max(end, source.first + source.count)
    draft.put(Units(identity, withdrawn.series, end))


def shorten(draft: Draft, beaten_one: OpenRequest) -> None:
    """Take a request that was beaten out of its payment, which is smaller by so much."""
    book = draft.book
    payment = book.payments.get(beaten_one.payment)
    if payment is None:
        return
    rest = tuple(each for each in payment.requests if each != beaten_one.id)
    if not rest:
        draft.drop(payment)
        return
    amount = payment.amount - beaten_one.count
    draft.put(replace(payment, requests=rest, amount=amount))
    if all(is_certified(book, each) for each in rest):
        draft.note(Kind.PAID, amount)


def find_places(book: Book, request: Request) -> tuple[Place, ...] | None:
    """Return where a request's outputs are in this wallet's seed; None if any is not.

    Looks in the periods and branches that the wallet knows, at some 0.3 ms for each counter.
    """
    wanted, found = set(request.outputs), {}
    for counter in book.counters.values():
        if counter.period + OFFER_PERIODS < request.series:
            continue
        for number in range(counter.next + GAP):
            place = Place(*counter.key, number)
            blinded = book.secrets.output(place).blinded
            if blinded in wanted:
                found[blinded] = place
                if len(found) == len(wanted):
                    return tuple(found[each] for each in request.outputs)
    return None
