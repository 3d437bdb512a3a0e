"""What a wallet comes to, what of it grows too old, and what is forgotten (spec/09 §8.2).

All pure.
"""

from __future__ import annotations

from dataclasses import replace

from fogbank.client.wallet.own import drop_inputs
from fogbank.client.wallet.records import Balance, Change, Kind, Purpose, Token
from fogbank.client.wallet.wallet import Book, Draft
from fogbank.directory.mint.calendar import ISSUE_DAYS, PAYMENT_DAYS

WARNING_DAYS = 7
"""Days before tokens are no longer taken as payment in which their owner is told."""


def balance(book: Book, now: int) -> Balance:
    """Count what there is."""
    free = [token for token in book.tokens.values() if not token.locked]
    good = [token for token in free if _taken_until(book, token) > now]
    resting = [token for token in good if token.rests_until > now]
    warned = WARNING_DAYS * book.terms.calendar.day
    expiring = [token for token in good if _taken_until(book, token) <= now + warned]
    paying = [each for each in book.requests.values() if each.purpose is Purpose.PAYMENT]
    over = {number for number, each in book.payments.items() if each.handed_over}
    return Balance(
        ready=len(good) - len(resting),
        resting=len(resting),
        rests_until=max((token.rests_until for token in resting), default=0),
        on_its_way=sum(
            each.count for each in book.requests.values() if each.purpose is not Purpose.PAYMENT
        ),
        leaving=sum(each.count for each in paying if each.payment not in over),
        handed_over=sum(each.count for each in paying if each.payment in over),
        expiring=len(expiring),
        expires=min((_taken_until(book, token) for token in expiring), default=0),
        too_old=len(free) - len(good),
    )


def _taken_until(book: Book, token: Token) -> int:
    """Return until when a token is taken as payment."""
    calendar = book.terms.calendar
    return calendar.lock_until(token.series) - PAYMENT_DAYS * calendar.day


def expire(book: Book, now: int) -> Change:
    """Plan to forget what no authority knows any more: tokens, requests and cheques."""
    calendar = book.terms.calendar
    draft = Draft(book, now)
    dead = [
        token
        for token in book.tokens.values()
        if not token.locked and calendar.lock_until(token.series) <= now
    ]
    for token in dead:
        draft.drop(token)
    gone, lost = set(), 0
    for request in book.requests.values():
        until = calendar.issue_until if request.certificate else calendar.lock_until
        if until(request.series) > now:
            continue
        gone.add(request.id)
        draft.drop(request)
        drop_inputs(draft, request)
        # What was paid is the payee's; what never was, or never came back, was this wallet's.
        if not request.is_done and request.purpose is not Purpose.WITHDRAWAL:
            lost += request.count
    for payment in book.payments.values():
        left = tuple(each for each in payment.requests if each not in gone)
        if not left:
            draft.drop(payment)
        elif left != payment.requests:
            draft.put(replace(payment, requests=left))
    for offer in book.offers.values():
        if offer.until + ISSUE_DAYS * calendar.day <= now:
            draft.drop(offer)
    draft.note(Kind.EXPIRED, len(dead) + lost)
    return draft.change()


def warnings(book: Book, now: int) -> tuple[str, ...]:
    """Return sentences about tokens that will not be taken for much longer."""
    found = balance(book, now)
    sentences = []
    if found.expiring:
        days = (found.expires - now) / book.terms.calendar.day
        sentences.append(
            f"{found.expiring} tokens grow too old to pay with, the first in {days:.1f} days: "
            "spend them before"
        )
    if found.too_old:
        sentences.append(f"{found.too_old} tokens are too old to pay with, and will be forgotten")
    return tuple(sentences)
