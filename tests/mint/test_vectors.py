"""Credit against spec/vectors: values worked out without its code, by another library."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fogbank.directory.mint.bodies import unpack_carried, unpack_replies, unpack_shares
from fogbank.directory.mint.certificates import check_certificate, decode_certificate, sign_vote
from fogbank.directory.mint.dealing import (
    context_of,
    deal,
    decode_dealing,
    is_true_complaint,
    is_wronged,
    open_dealing,
    open_share,
    shared_key,
)
from fogbank.directory.mint.exchange import (
    Batch,
    Carry,
    Issue,
    Lock,
    Message,
    decode_message,
    decode_reply,
)
from fogbank.directory.mint.points import (
    GENERATOR_2,
    blind,
    combine_unblind,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode_point,
    encode_scalar,
    hash_token,
    sign_share,
    verify_token,
    wrong_signatures,
)
from fogbank.directory.mint.requests import decode_signed_request, signed_inputs
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.mint.state import Member, MintKeys, Seat, SeriesRecord
from fogbank.relay.keys import Ed25519Key
from tests.vectors import VECTORS, generated

CREDIT: dict[str, Any] = json.loads((VECTORS / "09-credit.json").read_text())
NETWORK, NOW = bytes.fromhex(CREDIT["network_id"]), CREDIT["now"]
MEMBERS = dict(enumerate(CREDIT["members"], 1))
RECORD = SeriesRecord(
    CREDIT["series"],
    CREDIT["quorum"],
    bytes.fromhex(CREDIT["key"]),
    tuple(
        Member(bytes([i]) * 32, bytes.fromhex(each["vote_key"]), bytes.fromhex(each["share_key"]))
        for i, each in MEMBERS.items()
    ),
    (),
)
DEALING: dict[str, Any] = CREDIT["dealing"]
SECRETS = [MintSecret(bytes.fromhex(each)) for each in DEALING["mint_keys"]]
COMMITTEE = [bytes.fromhex(each) for each in DEALING["committee"]]
SEATS = [
    Seat(identity, secret.keys) for identity, secret in zip(COMMITTEE[:3], SECRETS, strict=False)
] + [Seat(COMMITTEE[3])]
CONTEXT = bytes.fromhex(DEALING["context"])


def test_the_generator_gives_the_file() -> None:
    assert generated("credit") == CREDIT


@pytest.mark.parametrize("token", CREDIT["tokens"], ids=lambda t: t["serial"][:8])
def test_a_token_from_its_serial_to_its_signature(token: dict[str, Any]) -> None:
    message = hash_token(NETWORK, bytes.fromhex(token["serial"]))
    assert encode_point(message).hex() == token["message"]
    factor = decode_scalar(bytes.fromhex(token["factor"]))
    blinded = blind(message, factor)
    assert encode_point(blinded).hex() == token["blinded"]
    shares = {}
    for i, member in MEMBERS.items():
        shares[i] = sign_share(decode_scalar(bytes.fromhex(member["share"])), blinded)
        assert encode_point(shares[i]).hex() == token["shares"][str(i)]
    for left_out in MEMBERS:
        chosen = {i: share for i, share in shares.items() if i != left_out}
        assert encode_point(combine_unblind(chosen, factor)).hex() == token["signature"]
    signature = decode_g1(bytes.fromhex(token["signature"]))
    verify_token(message, signature, decode_g2(bytes.fromhex(CREDIT["key"])))


def test_keys_of_shares() -> None:
    for member in MEMBERS.values():
        share = decode_scalar(bytes.fromhex(member["share"]))
        assert encode_point(GENERATOR_2.scalar_mul(share)).hex() == member["share_key"]


@pytest.mark.parametrize("kind", ["swap", "withdrawal"])
def test_requests(kind: str) -> None:
    vector = CREDIT[kind]
    signed = decode_signed_request(bytes.fromhex(vector["signed"]))
    assert signed.encode().hex() == vector["signed"]
    assert signed.request.encode().hex() == vector["request"]
    assert signed.request.digest().hex() == vector["hash"]
    assert [serial.hex() for serial in signed.request.serials()] == vector["serials"]
    signed.check_proofs(NOW)
    key = decode_g2(bytes.fromhex(CREDIT["key"]))
    assert not wrong_signatures(signed_inputs(signed.request), key, bytes(32))


@pytest.mark.parametrize("kind", ["swap", "withdrawal"])
def test_certificates(kind: str) -> None:
    certificate = decode_certificate(bytes.fromhex(CREDIT[kind]["certificate"]))
    assert certificate.encode().hex() == CREDIT[kind]["certificate"]
    check_certificate(certificate, NETWORK, RECORD)
    for vote in certificate.votes:
        key = Ed25519Key(bytes.fromhex(MEMBERS[vote.member]["vote_seed"]))
        assert sign_vote(key, vote.member, certificate.request) == vote


def test_a_request_that_is_carried() -> None:
    vector = CREDIT["carried"]
    certificate = decode_certificate(bytes.fromhex(CREDIT["swap"]["certificate"]))
    signed = decode_signed_request(bytes.fromhex(CREDIT["swap"]["signed"]))
    messages: dict[str, Message] = {
        "carry": Carry(signed),
        "carry_with_work": Carry(signed, nonce=77, wants_shares=False),
        "carry_certified": Carry(signed, certificate.votes),
        "batch": Batch((Lock(signed).encode(), Issue(certificate).encode())),
    }
    for name, message in messages.items():
        assert message.encode().hex() == vector[name]
        assert decode_message(bytes.fromhex(vector[name])) == message
    carried = unpack_carried(bytes.fromhex(vector["body"]), 2)
    assert carried.encode().hex() == vector["body"]
    assert carried.votes == certificate.votes
    assert [member for member, _ in carried.shares] == [2, 3, 4]
    for place, output in enumerate(signed.request.outputs):
        points = {member: decode_g1(each[place]) for member, each in carried.shares}
        token = next(each for each in CREDIT["tokens"] if each["blinded"] == output.hex())
        factor = decode_scalar(bytes.fromhex(token["factor"]))
        assert encode_point(combine_unblind(points, factor)).hex() == token["signature"]
    replies = unpack_replies(bytes.fromhex(vector["batch_replies"]), 2)
    assert [unpack_shares(decode_reply(each).body, 2) for each in replies] == [
        shares for _, shares in carried.shares[:2]
    ]


def test_mint_keys() -> None:
    for secret, public in zip(SECRETS, DEALING["public"], strict=True):
        assert secret.keys == MintKeys(*map(bytes.fromhex, public))


def test_a_dealing() -> None:
    dealer = DEALING["place"] - 1
    context = context_of(NETWORK, CREDIT["series"], DEALING["attempt"], COMMITTEE[dealer])
    assert context == CONTEXT
    polynomial = SECRETS[dealer].polynomial(context, CREDIT["quorum"], COMMITTEE)
    numbers = [encode_scalar(each).hex() for each in polynomial.coefficients]
    assert numbers == DEALING["coefficients"]
    assert encode_scalar(polynomial.ephemeral).hex() == DEALING["ephemeral"]
    dealing = deal(polynomial, context, SEATS)
    assert dealing.encode().hex() == DEALING["dealing"]
    assert dealing.commitment(context).hex() == DEALING["commitment"]
    data = dealing.encode()
    assert open_dealing(data, context, CREDIT["quorum"], SEATS) == dealing


def test_who_was_dealt_a_share_opens_it_and_cannot_complain() -> None:
    data = bytes.fromhex(DEALING["dealing"])
    dealing = decode_dealing(data)
    for place, secret in enumerate(SECRETS[:3], 1):
        shared = shared_key(dealing, secret.decrypt)
        assert shared.hex() == DEALING["shared"][place - 1]
        share = open_share(dealing, CONTEXT, place, shared)
        assert share == int(DEALING["shares"][place - 1], 16)
        assert not is_wronged(dealing, CONTEXT, place, shared)
        assert not is_true_complaint(data, CONTEXT, place, secret.keys, shared)
