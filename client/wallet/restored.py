"""The plan that takes in what a search found (spec/09 §8.3). Pure."""

from __future__ import annotations

from dataclasses import replace

from fogbank.client.wallet.lanes import EMPTY_BRANCHES
from fogbank.client.wallet.own import drop_inputs, opened
from fogbank.client.wallet.records import Change, Kind, Purpose, Units
from fogbank.client.wallet.restore import Found
from fogbank.client.wallet.wallet import Book, Draft
from fogbank.directory.mint.requests import Withdrawal
from fogbank.relay.keys import NodeId


def restored(book: Book, found: Found, now: int, identity: NodeId | None = None) -> Change:
    """Plan to take in what was found, and to go on in a branch of its own.

    What the wallet has in its file stays, as far as it still holds: requests whose tokens were
    made elsewhere go, and so do tokens that are spent.
    """
    draft = Draft(book, now)
    unused = found.branches[book.about.role]
    # One that old copies do not use, and that the next search does not end before.
    branch = max(unused, min(book.about.branch + 1, unused + EMPTY_BRANCHES - 1))
    draft.about = replace(book.about, branch=branch)
    for place in found.issued:
        draft.reach(place)
    _requests(draft, found)
    new = _tokens(draft, found)
    for series, taken in found.units.items():
        units = book.units.get((identity or b"", series), Units(identity or b"", series, 0))
        draft.put(replace(units, next=max(taken, units.next)))
    _count_offers(draft, found)
    draft.note(Kind.RESTORED, new)
    return draft.change()


def _tokens(draft: Draft, found: Found) -> int:
    """Take in what can be spent, let go what cannot; return how many are new."""
    here = draft.book.tokens
    for token in here.values():
        if token.place in found.spent and not token.locked:
            draft.drop(token)
    new = [token for token in found.tokens if token.place not in here]
    for token in new:
        draft.put(token)
    return len(new)


def _requests(draft: Draft, found: Found) -> None:
    """Let go the requests whose tokens were made already; take in those to be completed."""
    here = draft.book.requests
    for request in here.values():
        if request.outputs and found.issued.keys() >= set(request.outputs):
            draft.drop(request)
            drop_inputs(draft, request)
    for signed, places in found.open:
        is_drawn = isinstance(signed.request.source, Withdrawal)
        if signed.request.digest() not in here:
            purpose = Purpose.WITHDRAWAL if is_drawn else Purpose.REFRESH
            draft.put(opened(signed, purpose, outputs=places))


def _count_offers(draft: Draft, found: Found) -> None:
    """Keep which outputs of invoices were paid, so that no cheque for them counts again."""
    for offer in draft.book.offers.values():
        pairs = zip(offer.places, offer.counted, strict=True)
        counted = tuple(before or found.issued.get(place, b"") for place, before in pairs)
        if counted != offer.counted:
            draft.put(replace(offer, counted=counted))
