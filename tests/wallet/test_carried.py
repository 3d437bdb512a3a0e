"""A wallet's side of a carried request, and real authorities, of whom one may lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from fogbank.client.wallet.asking_shell import Means
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.mint_client_shell import MintClient
from fogbank.client.wallet.mint_errors import LockedElsewhere
from fogbank.directory.mint.bodies import pack_shares, unpack_shares
from fogbank.directory.mint.certificates import Certificate, check_certificate
from fogbank.directory.mint.exchange import Issue, Message, Reply, Status
from fogbank.directory.mint.points import decode_g1, decode_g2, encode_point, verify_token
from fogbank.directory.mint.requests import SignedRequest
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream
from tests.client.networks import SeededChooser
from tests.mint.committee import Answer, Committee, Liar, Member, committee, fresh
from tests.mint.curve import NETWORK
from tests.mint.deals import Output
from tests.wallet.doubles import OwnOutput, at_once


@dataclass
class Buyer:
    """Somebody with tokens of a committee's."""

    bank: Committee
    opened: list[NodeId] = field(default_factory=list)
    kept: list[Certificate] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, identity: NodeId) -> AsyncIterator[Stream]:
        self.opened.append(identity)
        member = next(each for each in self.bank.members.values() if each.identity == identity)
        near, far = memory_stream_pair()
        self.bank.nursery.start_soon(member.serve, far, None)
        try:
            yield near
        finally:
            await near.aclose()

    async def keep(self, certificate: Certificate) -> None:
        self.kept.append(certificate)

    async def carry(
        self,
        signed: SignedRequest,
        outputs: Sequence[Output],
        certificate: Certificate | None = None,
    ) -> None:
        """Have a request carried, by a new client; its tokens are right."""
        means = Means(self.said.append, self.name_of, SeededChooser("buyer"), blocking=at_once)
        own = [OwnOutput(each.key.public, each.factor, each.blinded) for each in outputs]
        own.sort(key=lambda each: each.blinded)
        errand = Errand(self.bank.record, signed, certificate, own, self.keep)
        signatures = await MintClient(self.open, means).carry(errand)
        key = decode_g2(self.bank.record.key)
        by_serial = {each.key.public: each.message for each in outputs}
        for output, signature in zip(own, signatures, strict=True):
            verify_token(by_serial[output.serial], decode_g1(signature), key)

    def name_of(self, identity: NodeId) -> str:
        return next(f"a{i}" for i, each in self.bank.members.items() if each.identity == identity)


async def gives_wrong_shares(_: Member, message: Message, honest: Answer) -> Reply:
    reply = await honest(message)
    if isinstance(message, Issue) and reply.status is Status.DONE:
        shares = unpack_shares(reply.body, len(message.certificate.request.outputs))
        doubled = [decode_g1(each).scalar_mul(2) for each in shares]
        return Reply(Status.DONE, pack_shares([encode_point(each) for each in doubled]))
    return reply


async def is_silent(_: Member, message: Message, honest: Answer) -> Reply:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_swap_a_cheque_and_its_receipt_take_one_circuit_each(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with committee(tmp_path) as bank:
        old, new = fresh(8), fresh(8)
        buyer = Buyer(bank)
        await buyer.carry(bank.swap(old, new), new)
        assert (len(buyer.opened), buyer.kept) == (1, [])
        paid = fresh(8)
        cheque = bank.swap(new, paid)
        await buyer.carry(cheque, [])
        (certificate,) = buyer.kept
        check_certificate(certificate, NETWORK, bank.record)
        # The payee has the certificate, and needs no votes.
        await buyer.carry(cheque, paid, certificate)
        assert (len(buyer.opened), len(buyer.kept), buyer.said) == (3, 1, [])


@pytest.mark.parametrize("liar", [gives_wrong_shares, is_silent])
async def test_one_of_four_lies_or_is_silent(
    liar: Liar, tmp_path: Path, autojump_clock: MockClock
) -> None:
    for place in range(1, 5):
        folder = tmp_path / str(place)
        folder.mkdir()
        async with committee(folder, liars={place: liar}) as bank:
            buyer, begin = Buyer(bank), trio.current_time()
            old, new, paid = fresh(2), fresh(2), fresh(2)
            await buyer.carry(bank.swap(old, new), new)
            await buyer.carry(cheque := bank.swap(new, paid), [])
            await buyer.carry(cheque, paid, buyer.kept[-1])
            for certificate in buyer.kept:
                check_certificate(certificate, NETWORK, bank.record)
            assert all(f"a{place} " in each for each in buyer.said)
            assert trio.current_time() - begin < 30.0


async def test_who_was_ahead_is_told_by_more_than_can_lie(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with committee(tmp_path) as bank:
        buyer, old = Buyer(bank), fresh(1)
        first, second = fresh(1), fresh(1)
        await buyer.carry(one := bank.swap(old, first), first)
        with pytest.raises(LockedElsewhere) as caught:
            await buyer.carry(bank.swap(old, second), second)
        assert caught.value.others == (one.encode(),)
        # Its circuit to who carries, and one to each of more than one member.
        assert len(buyer.opened) > 1 + 2
