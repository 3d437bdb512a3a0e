"""What `tests.kills.wallet_kills` kills: `python -m tests.kills.wallet_process FOLDER SEED NOW`.

A process with two wallets withdraws, pays from one wallet to the other and swaps for as long as it
lives, at random. Its mint is the process that began it, behind standard input and output: a frame
is a length, u32, and as many bytes of CBOR.
"""

from __future__ import annotations

import random
import struct
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import cbor2

from fogbank.client.wallet.errors import (
    NotEnough,
    NotYet,
    TooManyWaiting,
    WalletExists,
)
from fogbank.client.wallet.records import Purpose
from fogbank.client.wallet.store_shell import Wallet
from fogbank.directory.mint.certificates import Certificate, Vote
from fogbank.directory.mint.requests import SignedRequest, decode_signed_request
from tests.wallet.model_mint import DAY, NODE, TERMS, Conflict, ModelMint, new_wallet, sign

NAMES = ("alice", "bob")


def entropy_of(name: str) -> bytes:
    """The bytes of a wallet's words."""
    return name[:1].encode() * 16


def read_frame(file: IO[bytes]) -> Any:
    """Read a value; raise `EOFError` at the end."""
    head = file.read(4)
    if len(head) < 4:
        raise EOFError
    data = file.read(struct.unpack(">I", head)[0])
    return cbor2.loads(data)


def write_frame(file: IO[bytes], value: Any) -> None:
    """Write a value; raise `OSError` if nobody reads."""
    data = cbor2.dumps(value)
    file.write(struct.pack(">I", len(data)) + data)
    file.flush()


class FarMember:
    """A member of the mint, which is in another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def lock(self, signed: SignedRequest, now: int) -> Vote:
        """Ask for a vote."""
        status, answer = self._ask("lock", signed.encode(), now)
        if status == "conflict":
            raise Conflict(decode_signed_request(answer))
        return Vote(self.number, answer)

    def issue(self, certificate: Certificate, now: int) -> list[bytes]:
        """Ask for shares."""
        _, shares = self._ask("issue", certificate.encode(), now)
        return [bytes(share) for share in shares]

    def _ask(self, what: str, data: bytes, now: int) -> Any:
        write_frame(sys.stdout.buffer, [what, self.number, data, now])
        return read_frame(sys.stdin.buffer)


class Life:
    """What the process does until it is killed."""

    def __init__(self, folder: Path, chance: random.Random, now: int) -> None:
        self.chance = chance
        self.now = now
        self.mint = ModelMint()
        self.mint.members = [FarMember(number) for number in range(1, 5)]  # type: ignore[misc]
        self.stack = ExitStack()
        self.wallets = [self.stack.enter_context(opened(folder / name)) for name in NAMES]

    def act(self) -> None:
        """Do something; sometimes with members that do not answer."""
        self.now += self.chance.randrange(3)
        payer = self.chance.randrange(2)
        wallet, other = self.wallets[payer], self.wallets[1 - payer]
        match self.chance.randrange(6):
            case 0:
                series = TERMS.calendar.current(self.now)
                allotment = 3 * (self.now - TERMS.calendar.birth(series))
                with suppress(TooManyWaiting):
                    self.wallets[0].withdraw(series, NODE, allotment, sign, self.now)
            case 1:
                amount = self.chance.randrange(1, 12)
                with suppress(NotEnough, TooManyWaiting):
                    wallet.pay(other.invoice(amount, self.now + DAY, self.now), self.now)
            case 2:
                wallet.refresh(self.now, everything=self.chance.random() < 0.2)
            case 3:
                self.hand_over(wallet, other)
            case _:
                self.work(wallet)

    def hand_over(self, payer: Wallet, payee: Wallet) -> None:
        for payment in payer.payments():
            with suppress(NotYet):
                cheque = payer.cheque(payment.number)
                if not payment.handed_over or self.chance.random() < 0.1:
                    payee.receive(cheque, self.mint.state(self.now), self.now)
                    payer.handed_over(payment.number, self.now)

    def work(self, wallet: Wallet) -> None:
        members = self.chance.sample(range(4), self.chance.choice((2, 3, 4, 4)))
        is_carried = self.chance.random() < 0.5
        for request in wallet.unfinished():
            if is_carried and request.purpose is not Purpose.PAYMENT:
                self.mint.carry(request, wallet, self.now, members)
            elif not request.certificate:
                self.mint.vote(request, wallet, self.now, members)
            elif request.wants_shares:
                self.mint.shares(request, wallet, self.now, members)


def opened(folder: Path) -> Wallet:
    """Open a wallet that may not be there yet."""
    with suppress(WalletExists):
        new_wallet(folder, entropy_of(folder.name))
    return Wallet.open(folder, TERMS)


def main() -> None:
    """Live."""
    folder, seed, now = sys.argv[1:]
    life = Life(Path(folder), random.Random(int(seed)), int(now))
    with life.stack, suppress(EOFError, OSError):
        write_frame(sys.stdout.buffer, ["alive", 0, b"", life.now])
        while True:
            life.act()


if __name__ == "__main__":
    main()
