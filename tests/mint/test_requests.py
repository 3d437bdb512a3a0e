"""Requests to the mint (spec/09 §6.1)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from fogbank.directory.mint.points import decode_g2, wrong_signatures
from fogbank.directory.mint.requests import (
    REQUEST_LIMIT,
    SIGNED_REQUEST_LIMIT,
    UNITS,
    Request,
    SignedRequest,
    Swap,
    Token,
    Withdrawal,
    decode_outputs,
    decode_request,
    decode_signed_request,
    request_hash,
    sign_swap,
    signed_inputs,
)
from fogbank.relay.certificates import SIGNING_LIFETIME, Use, issue
from fogbank.relay.codec import decode, encode
from fogbank.relay.errors import ProtocolError
from tests.mint.curve import NETWORK, outside_the_subgroups
from tests.mint.deals import NOW, Series, key_of, outputs_of

SERIES = Series()
INFINITY = b"\xc0" + bytes(47)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_swap_travels_whole(count: int) -> None:
    signed = SERIES.swap(count)
    assert decode_signed_request(signed.encode()) == signed
    assert decode_request(signed.request.encode()) == signed.request
    signed.check_proofs(NOW)
    assert len(decode_outputs(signed.request)) == count
    inputs = signed_inputs(signed.request)
    assert len(inputs) == len(set(signed.request.serials())) == count
    assert not wrong_signatures(inputs, decode_g2(SERIES.record.key), bytes(32))


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 32, 64])
def test_a_withdrawal_travels_whole(count: int) -> None:
    signed = SERIES.withdrawal(count, first=5)
    assert decode_signed_request(signed.encode()) == signed
    signed.check_proofs(NOW)
    assert signed_inputs(signed.request) == []
    assert len(set(signed.request.serials())) == count


def test_the_largest_requests_fit() -> None:
    largest = SERIES.withdrawal(64, first=UNITS - 64)
    assert len(largest.request.encode()) < REQUEST_LIMIT
    assert len(largest.encode()) < SIGNED_REQUEST_LIMIT


def test_units_are_the_same_serials_in_any_request() -> None:
    first, second = SERIES.withdrawal(4, first=0), SERIES.withdrawal(2, first=3)
    assert first.request.serials()[3] == second.request.serials()[0]
    expected = hashlib.sha256(
        b"fogbank-unit-v1\0"
        + NETWORK
        + (3).to_bytes(8, "big")
        + key_of("identity").public
        + (3).to_bytes(8, "big")
    )
    assert second.request.serials()[0] == expected.digest()
    other = Series(number=4).withdrawal(4, first=0)
    assert set(other.request.serials()).isdisjoint(first.request.serials())


def fields_of(signed: SignedRequest) -> dict[int, Any]:
    return dict(decode(signed.request.encode(), REQUEST_LIMIT))


SWAP, WITHDRAWAL = fields_of(SERIES.swap(2)), fields_of(SERIES.withdrawal(2))
MALFORMED = {
    "another network's length": SWAP | {1: bytes(31)},
    "a negative series": SWAP | {2: -1},
    "no inputs": SWAP | {3: []},
    "three inputs": SWAP | {3: sorted([*SWAP[3], [bytes(32), bytes(48)]])},
    "inputs out of order": SWAP | {3: SWAP[3][::-1]},
    "one input twice": SWAP | {3: [SWAP[3][0], SWAP[3][0]]},
    "one serial twice": SWAP | {3: [SWAP[3][0], [SWAP[3][0][0], SWAP[3][1][1]]]},
    "a short serial": SWAP | {3: [SWAP[3][0], [SWAP[3][1][0][:-1], SWAP[3][1][1]]]},
    "a long signature": SWAP | {3: [SWAP[3][0], [SWAP[3][1][0], SWAP[3][1][1] + b"x"]]},
    "an input with more": SWAP | {3: [SWAP[3][0], [*SWAP[3][1], b""]]},
    "no outputs": SWAP | {4: []},
    "fewer outputs": SWAP | {4: SWAP[4][:1]},
    "more outputs": SWAP | {4: list(outputs_of(4, "new"))},
    "outputs out of order": SWAP | {4: SWAP[4][::-1]},
    "one output twice": SWAP | {4: [SWAP[4][0]] * 2},
    "a short output": SWAP | {4: [SWAP[4][0][:-1], SWAP[4][1]]},
    "an output of another kind": SWAP | {4: [1, 2]},
    "both sources": SWAP | {5: WITHDRAWAL[5]},
    "no source": {key: SWAP[key] for key in (1, 2, 4)},
    "a field too many": SWAP | {6: 0},
    "no network": {key: SWAP[key] for key in (2, 3, 4)},
    "three units": WITHDRAWAL | {4: list(outputs_of(3, "x")), 5: [*WITHDRAWAL[5][:2], 3]},
    "128 units": WITHDRAWAL | {5: [*WITHDRAWAL[5][:2], 128]},
    "no units": WITHDRAWAL | {4: [], 5: [*WITHDRAWAL[5][:2], 0]},
    "true units": WITHDRAWAL | {4: WITHDRAWAL[4][:1], 5: [*WITHDRAWAL[5][:2], True]},
    "units beyond the last": WITHDRAWAL | {5: [WITHDRAWAL[5][0], UNITS - 1, 2]},
    "negative units": WITHDRAWAL | {5: [WITHDRAWAL[5][0], -1, 2]},
    "a short identity": WITHDRAWAL | {5: [WITHDRAWAL[5][0][:-1], 0, 2]},
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=list(MALFORMED))
def test_a_request_of_a_wrong_shape_is_refused(fields: dict[int, Any]) -> None:
    assert decode_request(encode(SWAP))
    assert decode_request(encode(WITHDRAWAL))
    with pytest.raises(ProtocolError):
        decode_request(encode(fields))


def test_proofs_of_a_wrong_shape_are_refused() -> None:
    swap, withdrawal = SERIES.swap(2), SERIES.withdrawal(1)
    body = swap.request.encode()
    certificate = withdrawal.certificate.value() if withdrawal.certificate else []
    wrong: list[Any] = [
        [body],
        [body, []],
        [body, list(swap.proofs[:1])],
        [body, [*swap.proofs, swap.proofs[0]]],
        [body, [swap.proofs[0][:-1], swap.proofs[1]]],
        [body, [swap.proofs[0], certificate]],
        [withdrawal.request.encode(), list(withdrawal.proofs)],
        [withdrawal.request.encode(), [*withdrawal.proofs, certificate, certificate]],
        [swap.request.encode() + b"\0", list(swap.proofs)],
        {1: body},
    ]
    for value in wrong:
        with pytest.raises(ProtocolError):
            decode_signed_request(encode(value))


def test_every_owner_signs_the_whole_request() -> None:
    signed = SERIES.swap(2)
    for changed in (
        replace(signed.request, network_id=bytes(32)),
        replace(signed.request, series=4),
        replace(signed.request, outputs=outputs_of(2, "a thief's")),
    ):
        with pytest.raises(ProtocolError):
            SignedRequest(changed, signed.proofs).check_proofs(NOW)
    stolen = signed.proofs[0], key_of("thief").sign("fogbank-mint-request-v1", b"")
    for proofs in (signed.proofs[::-1], stolen):
        with pytest.raises(ProtocolError):
            SignedRequest(signed.request, proofs).check_proofs(NOW)


def test_a_serial_that_is_no_key_signs_nothing() -> None:
    token = SERIES.swap(1).request.source.inputs[0]  # type: ignore[union-attr]
    for serial in (bytes(32), b"\1" + bytes(31)):
        source = Swap((Token(serial, token.signature),))
        request = Request(NETWORK, 3, source, outputs_of(1, "x"))
        with pytest.raises(ProtocolError):
            SignedRequest(request, (bytes(64),)).check_proofs(NOW)


def test_a_withdrawal_is_its_nodes_alone_and_in_time() -> None:
    signed = SERIES.withdrawal(2)
    assert signed.certificate is not None
    assert isinstance(signed.request.source, Withdrawal)
    identity, stranger = key_of("identity"), key_of("stranger")
    for changed in (
        replace(signed, certificate=None),
        replace(signed, certificate=issue(stranger, Use.SIGNING, stranger.public, NOW, 100)),
        replace(signed, certificate=issue(identity, Use.SIGNING, stranger.public, NOW, 100)),
        replace(signed, certificate=issue(identity, Use.LINK, key_of("signing").public, NOW, 9)),
        replace(signed, request=replace(signed.request, outputs=outputs_of(2, "x"))),
    ):
        for now in (NOW, None):
            with pytest.raises(ProtocolError):
                changed.check_proofs(now)
    late = NOW + SIGNING_LIFETIME
    with pytest.raises(ProtocolError):
        signed.check_proofs(late)
    signed.check_proofs(late - 1)
    signed.check_proofs(None)


def test_the_hash_names_the_request_and_not_its_proofs() -> None:
    signed = SERIES.swap(1)
    again = sign_swap(signed.request, [key_of("other")])
    assert again.request.digest() == signed.request.digest()
    assert signed.request.digest() == request_hash(signed.request.encode())
    others = {replace(signed.request, series=k).digest() for k in range(5)}
    assert len(others) == 5


def test_a_changed_request_has_other_bytes() -> None:
    """What was worked out once is of this request alone."""
    signed = decode_signed_request(SERIES.swap(2).encode())
    before = signed.encode(), signed.request.encode(), signed.request.digest()
    changed = replace(signed, request=replace(signed.request, series=9))
    after = changed.encode(), changed.request.encode(), changed.request.digest()
    assert not set(before) & set(after)
    assert decode_signed_request(changed.encode()) == changed
    assert changed.request.digest() == request_hash(changed.request.encode())
    assert repr(signed) == repr(SERIES.swap(2))


def test_points_are_judged_apart() -> None:
    signed = SERIES.swap(1)
    token = SERIES.swap(1).request.source.inputs[0]  # type: ignore[union-attr]
    for point in (INFINITY, outside_the_subgroups()[0], bytes(48)):
        with pytest.raises(ProtocolError):
            decode_outputs(decode_request(replace(signed.request, outputs=(point,)).encode()))
        request = replace(signed.request, source=Swap((replace(token, signature=point),)))
        with pytest.raises(ProtocolError):
            signed_inputs(decode_request(request.encode()))
