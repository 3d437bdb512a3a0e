"""The decoders of credit: requests, certificates, cheques, what the mint and its members send."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fogbank.client.wallet.derivation import Place, Role
from fogbank.client.wallet.errors import WalletError
from fogbank.client.wallet.records import Entry, Kind, Offer, Payment
from fogbank.client.wallet.rows import decode_entry, decode_row, encode_entry, encode_row
from fogbank.directory.mint import bodies
from fogbank.directory.mint.ballot import Ballot, Judgement, Sent, decode_ballot
from fogbank.directory.mint.bodies import Carried, Held, Output, Page, Spent
from fogbank.directory.mint.certificates import (
    VOTE_LABEL,
    Certificate,
    check_certificate,
    decode_certificate,
    sign_vote,
)
from fogbank.directory.mint.cheques import (
    Cheque,
    Invoice,
    cheque_from_text,
    decode_cheque,
    decode_invoice,
    invoice_from_text,
)
from fogbank.directory.mint.dealing import (
    Dealing,
    context_of,
    deal,
    decode_dealing,
    is_true_complaint,
    open_dealing,
    shared_key,
)
from fogbank.directory.mint.evidence import TwoRequests, TwoVotes, check_evidence, decode_evidence
from fogbank.directory.mint.exchange import (
    BATCH_LIMIT,
    Batch,
    Carry,
    GetDealings,
    GetEvidence,
    GetLedger,
    GetOutputs,
    GetRequest,
    GetSerials,
    Issue,
    Lock,
    Reply,
    Status,
    decode_message,
    decode_reply,
)
from fogbank.directory.mint.generation import Given, next_state
from fogbank.directory.mint.points import decode_g1, decode_g2, encode_point
from fogbank.directory.mint.requests import (
    REQUEST_LABEL,
    SignedRequest,
    decode_outputs,
    decode_signed_request,
    signed_inputs,
)
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import Seat, state_from_value
from fogbank.relay.codec import decode, encode
from tests.fuzz.kinds import Decoder, Form
from tests.fuzz.signing import parsed
from tests.mint.curve import NETWORK
from tests.mint.deals import NOW, Series, key_of, outputs_of
from tests.mint.deals import Output as Drawn
from tests.mint.table import Table
from tests.mint.test_state import STATE

SERIES = Series()
SWAP, WITHDRAWAL = SERIES.swap(2), SERIES.withdrawal(2)
RIVAL = SERIES.swap(2, to="elsewhere")
CERTIFICATE = SERIES.certificate(SWAP)
VOTE = SERIES.vote(1, SWAP.request)
LATER = sign_vote(SERIES.vote_key(2), 2, SWAP.request, ((1, 5), (2, 9)))
HELD = Held(SWAP, CERTIFICATE.votes)
KEYS = {
    key.public: key for key in (key_of("signing"), *(Drawn.of("swap", k).key for k in range(8)))
}
POINTS = outputs_of(4, "fuzzed")


# Requests and certificates, signed anew.


def signed_anew(data: bytes) -> bytes:
    """Sign a request with the keys of its serials, as far as they are known."""
    return encode(_request_anew(parsed(data)))


def certified_anew(data: bytes) -> bytes:
    """Let members vote for a certificate's request."""
    match parsed(data):
        case [[bytes(body), proofs], list(votes)]:
            request = _request_anew([body, proofs])
            return encode([request, [_vote_anew(body, vote) for vote in votes]])
    return data


def _request_anew(value: Any) -> Any:
    match value:
        case [bytes(body), list(proofs)]:
            fields = parsed(body)
            inputs = fields.get(3) if isinstance(fields, dict) else None
            if isinstance(inputs, list):
                owners = [each[0] if isinstance(each, list) and each else None for each in inputs]
            else:
                owners = [key_of("signing").public]
            signed = [
                KEYS[owner].sign(REQUEST_LABEL, body)
                if isinstance(owner, bytes) and owner in KEYS
                else proof
                for owner, proof in zip(owners, proofs, strict=False)
            ]
            return [body, [*signed, *proofs[len(signed) :]]]
    return value


def _vote_anew(request: bytes, vote: Any) -> Any:
    match vote:
        case [int(member), bytes(), list(lives)] if 1 <= member <= SERIES.n:
            digest = hashlib.sha256(REQUEST_LABEL.encode() + b"\0" + request).digest()
            body = encode([NETWORK, SERIES.number, member, digest, lives])
            return [member, SERIES.vote_key(member).sign(VOTE_LABEL, body), lives]
    return vote


def believed_request(data: bytes) -> SignedRequest:
    """Look at a request as a LOCK does, but for the pairings."""
    signed = decode_signed_request(data)
    signed.check_proofs(NOW)
    decode_outputs(signed.request)
    signed_inputs(signed.request)
    return signed


def believed_certificate(data: bytes) -> Certificate:
    """Look at a certificate as a payee does."""
    certificate = decode_certificate(data)
    check_certificate(certificate, NETWORK, SERIES.record)
    return certificate


def proven_anew(data: bytes) -> bytes:
    """Sign anew what stands in evidence."""
    match parsed(data):
        case [1, first, second]:
            return encode([1, _request_anew(first), _request_anew(second)])
        case [2, certificate, [bytes(body), list(proofs)], vote]:
            certified = parsed(certified_anew(encode(certificate)))
            return encode([2, certified, _request_anew([body, proofs]), _vote_anew(body, vote)])
    return data


def opened_evidence(data: bytes) -> TwoRequests | TwoVotes:
    """Judge evidence as anybody does."""
    proof = decode_evidence(data)
    check_evidence(proof, NETWORK, SERIES.record)
    return proof


# Text.


def of_text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Return a decoder of what a user copied."""
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


def text_of(what: Invoice | Cheque) -> bytes:
    """Return what a user copies."""
    return what.text().encode()


INVOICE = Invoice(NETWORK, outputs_of(2, "payee"), NOW)
CHEQUE = Cheque((CERTIFICATE,))


# Key generation.

SECRETS = [MintSecret(bytes((k,)) * 32) for k in range(4)]
COMMITTEE = sorted(key_of("seat", k).public for k in range(4))
SEATS = [Seat(identity, secret.keys) for identity, secret in zip(COMMITTEE, SECRETS, strict=True)]
CONTEXT = context_of(NETWORK, 3, 0, COMMITTEE[0])
DEALING = deal(SECRETS[0].polynomial(CONTEXT, 3, COMMITTEE), CONTEXT, SEATS)
JUDGING = Ballot(
    SECRETS[0].keys,
    (NOW, bytes(32)),
    Sent(3, 0, DEALING.commitment(CONTEXT)),
    Sent(3, 0, DEALING.encode()),
    Judgement(3, 0, ((COMMITTEE[1], shared_key(DEALING, SECRETS[0].decrypt)),)),
    ((2, 7), (3, 1)),
)


def judged_dealing(data: bytes) -> Dealing:
    """Judge a dealing as every authority does, and a complaint of each of its members."""
    dealing = decode_dealing(data)
    if open_dealing(data, CONTEXT, 3, SEATS) is not None:
        for place, secret in enumerate(SECRETS, 1):
            shared = shared_key(dealing, secret.decrypt)
            assert not is_true_complaint(data, CONTEXT, place, SECRETS[place - 2].keys, shared)
            is_true_complaint(data, CONTEXT, place, secret.keys, shared)
    return dealing


def counted_ballot(rounds: int) -> Decoder:
    """Return a decoder that counts a ballot beside three honest ones, in a step of generation.

    Whatever it says, a state comes of it that is written and read.
    """
    table = Table()
    for _ in range(rounds):
        table.round()
    given = [Given(seat._identity, seat.ballot(table.network, table.now)) for seat in table.seats]

    def counted(data: bytes) -> Ballot:
        ballot = decode_ballot(data)
        others = [Given(given[0].authority, ballot), *given[1:]]
        state = next_state(table.state, others, table.network, table.now)
        assert state_from_value(decode(state.encode(), 1 << 20)) == state
        return ballot

    return Decoder(
        f"vote's part for the mint in step {rounds + 1}",
        counted,
        given[0].ballot.encode(),
        again=lambda ballot: ballot.encode(),
        limit=4096,
    )


MINT = [
    Decoder(
        "message to the mint",
        decode_message,
        Lock(SWAP, 7).encode(),
        more=(
            Lock(WITHDRAWAL).encode(),
            Issue(CERTIFICATE).encode(),
            GetOutputs(3, 2, 3, POINTS[0]).encode(),
            GetSerials(3, 32, 5, bytes(32)).encode(),
            GetRequest(3, bytes(32)).encode(),
            GetEvidence(3).encode(),
            GetDealings(3).encode(),
            GetLedger(3, bytes(32), NOW).encode(),
            Carry(SWAP, nonce=7).encode(),
            Carry(SWAP, CERTIFICATE.votes).encode(),
        ),
        again=lambda message: message.encode(),
        limit=4096,
    ),
    Decoder(
        "batch of messages to the mint",
        lambda data: decode_message(data, BATCH_LIMIT),
        Batch((Lock(SWAP).encode(), Issue(CERTIFICATE).encode())).encode(),
        again=lambda message: message.encode(),
        limit=4096,
    ),
    Decoder(
        "reply of the mint",
        decode_reply,
        Reply(Status.DONE, b"body", "").encode(),
        more=(Reply(Status.REFUSED, reason="why not").encode(),),
        again=lambda reply: reply.encode(),
    ),
    Decoder(
        "request to the mint",
        believed_request,
        SWAP.encode(),
        more=(WITHDRAWAL.encode(),),
        again=lambda signed: signed.encode(),
        repair=signed_anew,
    ),
    Decoder(
        "mint certificate",
        believed_certificate,
        CERTIFICATE.encode(),
        more=(SERIES.certificate(WITHDRAWAL).encode(),),
        again=lambda certificate: certificate.encode(),
        repair=certified_anew,
    ),
    Decoder(
        "point of signatures",
        decode_g1,
        POINTS[0],
        again=encode_point,
        form=Form.BYTES,
        limit=96,
    ),
    Decoder(
        "point of keys",
        decode_g2,
        SERIES.record.key,
        again=encode_point,
        form=Form.BYTES,
        limit=192,
    ),
    Decoder(
        "shares of outputs",
        lambda data: bodies.unpack_shares(data, 2),
        bodies.pack_shares(POINTS[:2]),
        again=bodies.pack_shares,
    ),
    Decoder(
        "what was carried",
        lambda data: bodies.unpack_carried(data, 2),
        Carried(CERTIFICATE.votes, ((1, POINTS[:2]), (3, POINTS[2:]))).encode(),
        more=(Carried((LATER,)).encode(),),
        again=lambda carried: carried.encode(),
    ),
    Decoder(
        "replies to a batch",
        lambda data: bodies.unpack_replies(data, 2),
        bodies.pack_replies((Reply(Status.DONE, b"body").encode(), b"")),
        again=bodies.pack_replies,
    ),
    Decoder(
        "page of outputs",
        bodies.unpack_outputs,
        bodies.pack_outputs(Page(9, (Output(POINTS[0], POINTS[1], bytes(32)),))),
        again=bodies.pack_outputs,
    ),
    Decoder(
        "page of serials",
        bodies.unpack_serials,
        bodies.pack_serials(Page(9, (Spent(bytes(32), b"h" * 32), Spent(b"s" * 32, bytes(32))))),
        again=bodies.pack_serials,
    ),
    Decoder(
        "request that is held",
        bodies.unpack_held,
        HELD.encode(),
        more=(Held(WITHDRAWAL, ()).encode(),),
        again=lambda held: held.encode(),
    ),
    Decoder(
        "page of a ledger",
        bodies.unpack_ledger,
        bodies.pack_ledger([HELD]),
        again=bodies.pack_ledger,
    ),
    Decoder(
        "vote of the mint",
        bodies.unpack_vote,
        bodies.pack_vote(VOTE),
        more=(bodies.pack_vote(LATER),),
        again=bodies.pack_vote,
    ),
    Decoder(
        "conflict",
        bodies.unpack_conflict,
        bodies.pack_conflict(SWAP, VOTE),
        more=(bodies.pack_conflict(SWAP, None),),
        again=lambda both: bodies.pack_conflict(*both),
    ),
    Decoder(
        "list of dealings",
        bodies.unpack_dealings,
        bodies.pack_dealings([(COMMITTEE[0], b"dealing"), (COMMITTEE[1], b"")]),
        again=bodies.pack_dealings,
    ),
    Decoder(
        "evidence of the mint",
        opened_evidence,
        TwoRequests(SWAP, RIVAL).encode(),
        more=(TwoVotes(CERTIFICATE, RIVAL, SERIES.vote(1, RIVAL.request)).encode(),),
        again=lambda proof: proof.encode(),
        repair=proven_anew,
        limit=4096,
    ),
    Decoder(
        "proofs of the mint",
        bodies.unpack_evidence,
        bodies.pack_evidence([b"proof", b""]),
        again=bodies.pack_evidence,
    ),
    Decoder(
        "dealing",
        judged_dealing,
        DEALING.encode(),
        again=lambda dealing: dealing.encode(),
    ),
    Decoder(
        "vote's part for the mint",
        decode_ballot,
        JUDGING.encode(),
        more=(Ballot().encode(),),
        again=lambda ballot: ballot.encode(),
        limit=4096,
    ),
    *map(counted_ballot, range(3)),
    Decoder(
        "state of the mint",
        lambda data: state_from_value(decode(data, 1 << 16)),
        STATE.encode(),
        again=lambda state: state.encode(),
        limit=4096,
    ),
    Decoder(
        "invoice",
        decode_invoice,
        INVOICE.encode(),
        again=lambda invoice: invoice.encode(),
    ),
    Decoder(
        "cheque",
        decode_cheque,
        CHEQUE.encode(),
        again=lambda cheque: cheque.encode(),
    ),
    Decoder(
        "invoice of a user",
        of_text(invoice_from_text),
        text_of(INVOICE),
        exact=False,
        again=text_of,
        canonical=False,
        form=Form.BYTES,
    ),
    Decoder(
        "cheque of a user",
        of_text(cheque_from_text),
        text_of(CHEQUE),
        exact=False,
        again=text_of,
        canonical=False,
        form=Form.BYTES,
    ),
    Decoder(
        "row of a wallet",
        decode_row,
        encode_row(Offer(1, NOW, (Place(Role.CLIENT, 0, 3, 1),), POINTS[:1], ())),
        error=WalletError,
        more=(encode_row(Payment(1, b"i" * 32, 2, (b"r" * 32,), False, False)),),
    ),
    Decoder(
        "line of a wallet's history",
        decode_entry,
        encode_entry(Entry(NOW, next(iter(Kind)), 5)),
        error=WalletError,
    ),
]
