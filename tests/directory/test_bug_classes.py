"""Faults that other directories have had, and that have no other test here (spec/00 §6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from fogbank.directory import signatures
from fogbank.directory.broadcast import Answer, Broadcast, Chain
from fogbank.directory.exchange import MAX_REASON, Reply, Status, decode_reply
from fogbank.directory.network import MAX_AUTHORITIES
from fogbank.directory.schedule import nth_round
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import verify
from tests.directory.factory import make_network, relay

NETWORK = make_network(4)
DOCUMENT = NETWORK.document
ROUND = nth_round(DOCUMENT, 0)
BODY = b"a vote"


@pytest.mark.parametrize("letter", ["x", "é", "漢", "𝄞"])
@pytest.mark.parametrize("count", [MAX_REASON - 1, MAX_REASON, MAX_REASON + 1, 10 * MAX_REASON])
def test_string_slices(letter: str, count: int) -> None:
    """A reason is cut between letters, whatever they weigh, and its reader takes the whole."""
    reply = Reply(Status.REFUSED, 1, b"", letter * count)
    assert decode_reply(reply.encode()).reason == letter * min(count, MAX_REASON)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Count the signatures whose mathematics are done."""
    done: list[bytes] = []

    def counted(key: bytes, label: str, body: bytes, signature: bytes) -> None:
        done.append(signature)
        verify(key, label, body, signature)

    monkeypatch.setattr(signatures, "verify", counted)
    return iter([done])


def chain(*signers: int) -> Chain:
    made = Chain(ROUND.valid_after, NETWORK.credentials[1].identity, hashlib.sha256(BODY).digest())
    for signer in signers:
        made = made.signed(DOCUMENT.network_id, NETWORK.credentials[signer])
    return made


def test_cpu_by_crafted_signatures(verified: Iterator[list[bytes]]) -> None:
    """What costs little is looked at first: a message costs one verification an authority."""
    (done,) = verified
    broadcast = Broadcast(DOCUMENT, ROUND, NETWORK.credentials[0])
    often = chain(*[1] * MAX_AUTHORITIES)
    with pytest.raises(ProtocolError, match="twice"):
        broadcast.receive(often, None, ROUND.begins)
    assert len(done) == 1
    stranger = relay(9).credentials
    with pytest.raises(ProtocolError, match="no authority"):
        broadcast.receive(chain().signed(DOCUMENT.network_id, stranger), None, ROUND.begins)
    with pytest.raises(ProtocolError):
        Chain.decode(chain(*[1] * (MAX_AUTHORITIES + 1)).encode())
    assert broadcast.receive(chain(1), BODY, ROUND.concludes + 1) == (Answer.LATE, [])
    assert len(done) == 1
    broadcast.receive(chain(1), BODY, ROUND.begins)
    assert len(done) == 2
    for _ in range(100):
        assert broadcast.receive(chain(1), BODY, ROUND.begins) == (Answer.TAKEN, [])
    assert len(done) == 2


def test_batches_are_single_verifications(verified: Iterator[list[bytes]]) -> None:
    """A bad signature is found wherever it stands among good ones: each is verified by itself."""
    (done,) = verified
    good = chain(0, 1, 2).signatures
    for place in range(3):
        done.clear()
        bad = bytearray(good[place].signature)
        bad[40] ^= 1
        mixed = list(good)
        mixed[place] = signatures.AuthoritySignature(
            good[place].identity, good[place].certificate, bytes(bad)
        )
        with pytest.raises(ProtocolError):
            Chain(
                ROUND.valid_after, chain().sender, chain().digest, tuple(mixed)
            ).verify(DOCUMENT)  # fmt: skip
        assert len(done) == place + 1
