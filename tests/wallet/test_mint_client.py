"""One request at its committee: it is done whatever few members do (spec/09 §6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from fogbank.client.wallet.asking_shell import Means
from fogbank.client.wallet.errand_shell import Errand
from fogbank.client.wallet.errors import WalletError
from fogbank.client.wallet.mint_client_shell import MintClient
from fogbank.client.wallet.mint_errors import LockedElsewhere, MintUnavailable, RequestRefused
from fogbank.client.wallet.tally import Output
from fogbank.directory.mint.certificates import Certificate, check_certificate
from fogbank.directory.mint.exchange import Carry, Issue, Lock, Message, Status
from fogbank.directory.mint.points import (
    decode_g1,
    decode_g2,
    encode_point,
    hash_token,
    verify_token,
)
from fogbank.directory.mint.requests import Request, Swap, Token, Withdrawal, sign_swap
from fogbank.relay.circuits.work_shell import Solution
from fogbank.relay.keys import NodeId
from fogbank.relay.work import Demand, search
from tests.client.networks import SeededChooser
from tests.mint.curve import NETWORK, DealtKey
from tests.wallet.doubles import DoubleMint, Fault, Member, at_once, own_output, serial_key
from tests.wallet.model_mint import NODE, START, sign


async def solve(
    demand: Demand, message: bytes, seconds: float, wanted: Callable[[], bool]
) -> Solution:
    """Work while no time passes."""
    await trio.lowlevel.checkpoint()
    assert wanted()
    return Solution(search(demand, message, 0, 1 << 20), seconds)


@dataclass
class Bench:
    """A mint, a client of it, and what the client said and kept."""

    mint: DoubleMint
    said: list[str] = field(default_factory=list)
    kept: list[Certificate] = field(default_factory=list)

    def client(self, clock: Callable[[], float] = lambda: 1_800_000_000.0) -> MintClient:
        chooser = SeededChooser("mint")
        means = Means(self.said.append, self.name_of, chooser, clock, solve=solve, blocking=at_once)
        return MintClient(self.mint.open, means)

    def name_of(self, identity: NodeId) -> str:
        return f"authority{self.mint.member_of(identity).place}"

    async def keep(self, certificate: Certificate) -> None:
        self.kept.append(certificate)

    def token(self, name: str) -> Token:
        """Return a token that the mint's key signed."""
        serial = serial_key("input", name).public
        secret = DealtKey.of(self.mint.quorum, len(self.mint.members), "series 0").secret
        return Token(serial, encode_point(hash_token(NETWORK, serial).scalar_mul(secret)))

    def errand(self, inputs: str = "a", outputs: Sequence[str] = ("x",)) -> Errand:
        tokens = sorted(((self.token(each), each) for each in inputs), key=lambda t: t[0].serial)
        made = sorted(map(own_output, outputs), key=lambda each: each.blinded)
        request = Request(
            NETWORK, 0, Swap(tuple(t for t, _ in tokens)), tuple(o.blinded for o in made)
        )
        signed = sign_swap(request, [serial_key("input", name) for _, name in tokens])
        return Errand(self.mint.state.series[0], signed, None, made, self.keep)

    def check(self, outputs: Sequence[Output], signatures: Sequence[bytes]) -> None:
        key = decode_g2(self.mint.state.series[0].key)
        for output, signature in zip(outputs, signatures, strict=True):
            verify_token(hash_token(NETWORK, output.serial), decode_g1(signature), key)

    @property
    def carrier(self) -> Member:
        """The member that a new client asks first."""
        return self.mint.members[self.client().order(self.mint.state.series[0])[0] - 1]

    def all_are(self, fault: Fault) -> None:
        for member in self.mint.members:
            member.faults.add(fault)

    def asked(self, kind: type[Message]) -> list[int]:
        """How often each member was asked that, by whomever."""
        return [sum(isinstance(each, kind) for each in m.asked) for m in self.mint.members]


@asynccontextmanager
async def a_mint(n: int = 4) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        bench = Bench(DoubleMint(n))
        bench.mint.nursery = nursery
        yield bench
        nursery.cancel_scope.cancel()


async def test_one_member_carries_a_request_and_nobody_else_is_asked(
    autojump_clock: MockClock,
) -> None:
    async with a_mint() as bench:
        errand = bench.errand("abcd", "wxyz")
        bench.check(errand.outputs, await bench.client().carry(errand))
        # Tokens take the place of the certificate, of which nothing is kept.
        assert bench.kept == []
        assert bench.mint.opened == [bench.carrier.identity]
        assert sum(bench.asked(Carry)) == 1
        assert trio.current_time() < 1.0
        assert bench.said == []


async def test_what_is_not_carried_is_asked_of_q_members_and_of_no_more(
    autojump_clock: MockClock,
) -> None:
    """All authorities are of a version that carries nothing."""
    async with a_mint() as bench:
        bench.all_are(Fault.OLD)
        errand, carrier = bench.errand("abcd", "wxyz"), bench.carrier
        signatures = await bench.client().carry(errand)
        bench.check(errand.outputs, signatures)
        check_certificate(bench.kept[0], NETWORK, errand.series)
        assert len(bench.kept) == 1
        # One circuit each, for LOCK and ISSUE both; who carries nothing is not asked.
        assert len(bench.mint.opened) == len(set(bench.mint.opened)) == 4
        assert [type(each) for each in carrier.asked] == [Carry]
        assert trio.current_time() < 1.0
        assert bench.said == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("others", [set(), {Fault.OLD}], ids=["carried", "directly"])
async def test_one_faulty_member_is_worked_around(
    fault: Fault, others: set[Fault], autojump_clock: MockClock
) -> None:
    for place in range(4):
        async with a_mint() as bench:
            for member in bench.mint.members:
                member.faults |= others
            bench.mint.members[place].faults.add(fault)
            errand = bench.errand("ab", "xy")
            signatures = await bench.client().carry(errand)
            bench.check(errand.outputs, signatures)
            for certificate in bench.kept:
                check_certificate(certificate, NETWORK, errand.series)
            # A liar is named, at least as one of two.
            assert all(f"authority{place + 1} " in each for each in bench.said)
            if fault not in LIES:
                assert bench.said == []
            elif others:
                kinds = set(map(type, bench.mint.members[place].asked))
                assert len(bench.said) == (fault in LIES[:2] and bool(kinds & {Lock, Issue}))


LIES = (
    Fault.WRONG_VOTES,
    Fault.WRONG_SHARES,
    Fault.FORGED_VOTES,
    Fault.FORGED_SHARES,
    Fault.FORGED_BOTH,
    Fault.RENUMBERED,
)


@pytest.mark.parametrize("fault", [Fault.FEW_SHARES, Fault.FORGED_SHARES, Fault.WRONG_SHARES])
async def test_votes_that_came_without_right_shares_are_kept_and_shares_alone_are_asked_for(
    fault: Fault, autojump_clock: MockClock
) -> None:
    async with a_mint() as bench:
        bench.carrier.faults.add(fault)
        errand, carrier = bench.errand("ab", "xy"), bench.carrier.place
        client = bench.client()
        bench.check(errand.outputs, await client.carry(errand))
        (certificate,) = bench.kept
        check_certificate(certificate, NETWORK, errand.series)
        # Three locked it, as they were told by who carries; the right shares that it brought count.
        assert sum(bench.asked(Lock)) == 2
        assert len(bench.mint.opened) == {
            Fault.FEW_SHARES: 1 + 2, Fault.FORGED_SHARES: 1 + 2, Fault.WRONG_SHARES: 1 + 1
        }[fault]  # fmt: skip
        assert client.order(errand.series)[0] != carrier


async def test_shares_prove_themselves_whatever_the_votes_are(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        bench.carrier.faults.add(Fault.FORGED_VOTES)
        errand = bench.errand("ab", "xy")
        bench.check(errand.outputs, await bench.client().carry(errand))
        assert (bench.kept, bench.said, len(bench.mint.opened)) == ([], [], 1)


async def test_votes_for_a_cheque_are_checked_each(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        bench.carrier.faults.add(Fault.FORGED_VOTES)
        errand, carrier = bench.errand(), bench.carrier
        payment = Errand(errand.series, errand.signed, None, (), bench.keep)
        assert await bench.client().carry(payment) == ()
        (certificate,) = bench.kept
        check_certificate(certificate, NETWORK, errand.series)
        (sentence,) = bench.said
        assert f"authority{carrier.place} answers as no honest authority does" in sentence


async def test_who_does_not_answer_is_waited_for_a_while_and_others_are_asked(
    autojump_clock: MockClock,
) -> None:
    async with a_mint() as bench:
        bench.carrier.faults.add(Fault.IDLE)
        errand, client, carrier = bench.errand(), bench.client(), bench.carrier.place
        bench.check(errand.outputs, await client.carry(errand))
        assert 5.0 <= trio.current_time() < 6.0
        assert client.order(errand.series)[-1] == carrier


def test_members_take_turns_at_carrying_and_who_failed_is_passed_over() -> None:
    """A quarter of them at a time, whoever asks: so requests of one moment go together."""
    for n, carrying in ((4, {0: {4}, 2: {1}, 5: {2}, 7: {3}}), (9, {2: {1, 5, 9}, 4: {2, 6}})):
        bench = Bench(DoubleMint(n))
        series = bench.mint.state.series[0]
        for seconds, places in carrying.items():
            client = bench.client(lambda at=seconds: float(at))  # type: ignore[misc]
            orders = [client.order(series) for _ in range(20)]
            assert {order[0] for order in orders} == places
            assert all(sorted(order) == list(range(1, n + 1)) for order in orders)
            assert len({tuple(order) for order in orders}) > 1


async def test_an_answer_of_who_carries_is_taken_late(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        carrier = bench.carrier
        for member in bench.mint.members:
            member.delay = 8.0 if member is carrier else 30.0
        errand = bench.errand()
        bench.check(errand.outputs, await bench.client().carry(errand))
        assert 8.0 <= trio.current_time() < 9.0
        assert bench.said == []


async def test_the_work_that_who_carries_asks_for_is_done_once(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        bench.carrier.faults.add(Fault.BUSY)
        errand = bench.errand()
        bench.check(errand.outputs, await bench.client().carry(errand))
        first, second = (each for each in bench.carrier.asked if isinstance(each, Carry))
        assert (first.nonce, second.nonce is None) == (None, False)
        assert len(bench.mint.opened) == 1


async def test_a_conflict_that_one_member_tells_decides_nothing(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        carrier, errand = bench.carrier, bench.errand("ab", "xy")
        assert carrier.answer(Lock(bench.errand("bc", "zw").signed)).status is Status.DONE
        bench.check(errand.outputs, await bench.client().carry(errand))
        assert bench.said == []


async def test_a_member_that_cost_time_is_asked_last_from_then_on(
    autojump_clock: MockClock,
) -> None:
    for fault in (Fault.DOWN, Fault.SILENT):
        async with a_mint() as bench:
            bench.mint.members[1].faults.add(fault)
            client = bench.client()
            for name in "abcdefgh":
                await client.carry(bench.errand(name, (name + "'",)))
            asked = bench.mint.opened.count(bench.mint.members[1].identity)
            assert asked <= 2
            start = trio.current_time()
            await client.carry(bench.errand("z", ("z'",)))
            assert trio.current_time() - start < 0.1


async def test_with_too_few_members_it_ends_in_words_and_the_next_try_completes_it(
    autojump_clock: MockClock,
) -> None:
    async with a_mint() as bench:
        for member in bench.mint.members[:2]:
            member.faults.add(Fault.DOWN)
        errand, start = bench.errand(), trio.current_time()
        with pytest.raises(MintUnavailable, match=r"nothing is lost.*authority1: it does not run"):
            await bench.client().carry(errand)
        assert bench.kept == []
        # Each is tried several times, and nobody is waited for in vain after that.
        assert trio.current_time() - start < 10.0
        for member in bench.mint.members:
            member.faults.clear()
        bench.check(errand.outputs, await bench.client().carry(errand))


async def test_silent_members_cost_their_time_and_no_more(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        for member in bench.mint.members:
            member.faults.add(Fault.SILENT)
        start = trio.current_time()
        with pytest.raises(MintUnavailable, match="did not answer in time"):
            await bench.client().carry(bench.errand())
        assert trio.current_time() - start <= 60.0


async def test_what_more_refuse_than_can_be_faulty_is_refused(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        start = trio.current_time()
        errand = bench.errand()
        for member in bench.mint.members[1:3]:
            member.faults.add(Fault.REFUSING)
        with pytest.raises(RequestRefused, match=r"refuses everything.*refuses everything"):
            await bench.client().carry(errand)
        assert trio.current_time() - start < 1.0


async def test_what_is_locked_elsewhere_names_the_other_request(
    autojump_clock: MockClock,
) -> None:
    async with a_mint() as bench:
        first, second = bench.errand("ab", "xy"), bench.errand("bc", "zw")
        await bench.client().carry(first)
        with pytest.raises(LockedElsewhere) as caught:
            await bench.client().carry(second)
        assert caught.value.others == (first.signed.encode(),)


async def test_a_certificate_is_kept_before_shares_are_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with a_mint() as bench:
        bench.all_are(Fault.OLD)
        errand = bench.errand()
        issues: list[int] = []

        async def keep(_: Certificate) -> None:
            await trio.sleep(1.0)
            issues.append(
                sum(isinstance(m, Issue) for each in bench.mint.members for m in each.asked)
            )

        await bench.client().carry(Errand(errand.series, errand.signed, None, errand.outputs, keep))
        assert issues == [0]


async def test_a_receipt_asks_for_shares_alone(autojump_clock: MockClock) -> None:
    async with a_mint() as bench:
        errand = bench.errand()
        payment = Errand(errand.series, errand.signed, None, (), bench.keep)
        assert await bench.client().carry(payment) == ()
        (certificate,) = bench.kept
        check_certificate(certificate, NETWORK, errand.series)
        assert bench.asked(Issue) == [0] * 4
        receipt = Errand(errand.series, certificate.signed, certificate, errand.outputs, bench.keep)
        locks = bench.asked(Lock)
        bench.check(errand.outputs, await bench.client().carry(receipt))
        assert (len(bench.kept), bench.asked(Lock), len(bench.mint.opened)) == (1, locks, 2)


async def test_nine_members_two_of_them_lying(autojump_clock: MockClock) -> None:
    async with a_mint(9) as bench:
        bench.mint.members[0].faults.add(Fault.WRONG_SHARES)
        bench.mint.members[5].faults.add(Fault.WRONG_VOTES)
        errand = bench.errand("abcdefgh", "rstuvwxy")
        bench.check(errand.outputs, await bench.client().carry(errand))


@pytest.mark.parametrize("is_old", [False, True])
async def test_who_says_of_another_that_it_lost_its_memory_is_left_out(
    is_old: bool, autojump_clock: MockClock
) -> None:
    for liar in range(4):
        async with a_mint() as bench:
            if is_old:
                bench.all_are(Fault.OLD)
            bench.mint.members[liar].lives = (((liar + 1) % 4 + 1, 7),)
            errand = bench.errand()
            bench.check(errand.outputs, await bench.client().carry(errand))
            await bench.client().carry(Errand(errand.series, errand.signed, None, (), bench.keep))
            for certificate in bench.kept:
                check_certificate(certificate, NETWORK, errand.series)
            assert trio.current_time() < 1.0


async def test_a_withdrawal_that_another_one_is_in_the_way_of_hears_of_it_for_ever(
    autojump_clock: MockClock,
) -> None:
    """Also when the certificate of the one in the way has ended since."""
    async with a_mint() as bench:
        bench.mint.allot(NODE, 0, 1)
        for member in bench.mint.members:
            member.now = START
        errands = []
        for name in "xy":
            output = own_output(name)
            request = Request(NETWORK, 0, Withdrawal(NODE, 0, 1), (output.blinded,))
            series = bench.mint.state.series[0]
            errands.append(Errand(series, sign(request), None, [output], bench.keep))
        await bench.client().carry(errands[0])
        with pytest.raises(LockedElsewhere) as caught:
            await bench.client(clock=lambda: START + 400 * 86_400.0).carry(errands[1])
        assert caught.value.others == (errands[0].signed.encode(),)
        assert bench.said == []


@pytest.mark.parametrize("fault", [Fault.OLD, Fault.FEW_SHARES])
async def test_a_certificate_that_cannot_be_kept_is_not_used_and_no_member_is_blamed(
    fault: Fault, autojump_clock: MockClock
) -> None:
    async with a_mint() as bench:
        bench.all_are(fault)
        errand = bench.errand()

        async def fails(_: Certificate) -> None:
            raise WalletError("the disk is full")

        full = Errand(errand.series, errand.signed, None, errand.outputs, fails)
        with pytest.raises(WalletError, match="the disk is full"):
            await bench.client().carry(full)
        # Nothing but what who carries asked for.
        assert len(bench.mint.opened) == (4 if fault is Fault.OLD else 1)
        assert bench.asked(Issue).count(1) == (0 if fault is Fault.OLD else 3)
        assert bench.said == []
        bench.check(errand.outputs, await bench.client().carry(errand))
