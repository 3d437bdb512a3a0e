"""Credit against spec/vectors: values worked out without its code, by another library."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fogbank.directory.mint.points import (
    GENERATOR_2,
    blind,
    combine_unblind,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode_point,
    hash_token,
    sign_share,
    verify_token,
    wrong_signatures,
)
from fogbank.directory.mint.requests import decode_signed_request, signed_inputs
from tests.vectors import VECTORS, generated

CREDIT: dict[str, Any] = json.loads((VECTORS / "09-credit.json").read_text())
NETWORK, NOW = bytes.fromhex(CREDIT["network_id"]), CREDIT["now"]
MEMBERS = dict(enumerate(CREDIT["members"], 1))


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
