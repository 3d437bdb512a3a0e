"""What has to hold of a LOCK and of an ISSUE, in the order of spec/09 §6.2 and §6.3. Pure.

Times and places first, which cost nothing; what costs computing becomes a `Task`.
"""

from __future__ import annotations

from fogbank.directory.mint.calendar import Calendar
from fogbank.directory.mint.certificates import (
    VOTE_LABEL,
    Certificate,
    RightVotes,
    vote_body,
    vote_key,
)
from fogbank.directory.mint.crunch import Statement, Task
from fogbank.directory.mint.ledger import Entry
from fogbank.directory.mint.requests import (
    REQUEST_LABEL,
    Request,
    SignedRequest,
    Swap,
    Withdrawal,
)
from fogbank.directory.mint.state import MintState, SeriesRecord
from fogbank.relay.certificates import Use, issued_at, open_certificate
from fogbank.relay.errors import ProtocolError


def entry_of(signed: SignedRequest) -> Entry:
    """Return what the ledger keeps of a request."""
    request = signed.request
    return Entry(request.digest(), signed.encode(), request.serials(), request.outputs)


def check_spent(request: Request, network_id: bytes, calendar: Calendar, now: float) -> None:
    """Raise `ProtocolError` unless tokens of the request's series are spent now."""
    if request.network_id != network_id:
        raise ProtocolError("the request is of another network")
    series = request.series
    if now < calendar.birth(series):
        raise ProtocolError(f"series {series} is not born yet: use the current one")
    if now >= calendar.lock_until(series):
        raise ProtocolError(
            f"the tokens of series {series} can be spent no more: its 60 days are over"
        )


def check_issued(request: Request, network_id: bytes, calendar: Calendar, now: float) -> None:
    """Raise `ProtocolError` unless shares are given for the request's series now."""
    if request.network_id != network_id:
        raise ProtocolError("the certificate is of another network")
    series = request.series
    if not calendar.birth(series) <= now < calendar.issue_until(series):
        raise ProtocolError(f"no shares are given for series {series} now: its 67 days are over")


def check_withdrawal(request: Request, state: MintState, calendar: Calendar, now: float) -> None:
    """Raise `ProtocolError` if a request withdraws what its node may not withdraw now."""
    source = request.source
    if not isinstance(source, Withdrawal):
        return
    if now >= calendar.withdraw_until(request.series):
        raise ProtocolError(
            f"nothing is withdrawn into series {request.series} any more: use the current one"
        )
    allotted = state.allotted(source.identity, request.series)
    if source.first + source.count > allotted:
        raise ProtocolError(
            f"the node's allotment in series {request.series} is {allotted}, and this withdrawal "
            f"goes to {source.first + source.count}: wait until it has grown"
        )


def lock_task(signed: SignedRequest, now: float | None) -> Task:
    """Return what is to be computed before a vote; raise `ProtocolError` if that is clear already.

    A withdrawal's certificate must be in force at `now`; None takes any that ever was.
    """
    request = signed.request
    tokens: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(request.source, Swap):
        tokens = tuple((each.serial, each.signature) for each in request.source.inputs)
    return Task(request.series, (_proofs(signed, now),), request.outputs, tokens)


def issue_task(
    certificate: Certificate,
    record: SeriesRecord,
    *,
    is_known: bool,
    right: RightVotes | None = None,
) -> Task:
    """Return what is to be computed before shares are given; errors as above.

    `is_known`: the ledger holds the request, so its proofs were checked. `right` votes were.
    """
    request = certificate.request
    votes = [
        Statement(
            VOTE_LABEL,
            vote_body(request, vote.member, vote.lives),
            ((vote_key(record, vote.member), vote.signature),),
        )
        for vote in certificate.votes
        if right is None or not right.knows(request, vote)
    ]
    # Proofs are no part of H(R): what is kept must not be what somebody made of them.
    proofs = () if is_known else (_proofs(certificate.signed, None),)
    return Task(request.series, (*votes, *proofs), request.outputs, wants_shares=True)


def _proofs(signed: SignedRequest, now: float | None) -> Statement:
    """Return who has to have signed the request, and what they gave for it."""
    body = signed.request.encode()
    source = signed.request.source
    if isinstance(source, Swap):
        serials = (token.serial for token in source.inputs)
        return Statement(REQUEST_LABEL, body, tuple(zip(serials, signed.proofs, strict=True)))
    if signed.certificate is None:
        raise ProtocolError("a withdrawal comes without its certificate")
    at = issued_at(signed.certificate) if now is None else now
    signing = open_certificate(signed.certificate, Use.SIGNING, at, source.identity)
    return Statement(REQUEST_LABEL, body, ((signing.subject, signed.proofs[0]),))
