"""Kills of a process that has two wallets, one life after the other (spec/09 §8).

The mint is here and outlives all of them, so what the wallets lost or doubled would show.
"""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from fogbank.client.wallet.derivation import Role
from fogbank.client.wallet.store_shell import Wallet
from fogbank.directory.mint.certificates import decode_certificate
from fogbank.directory.mint.requests import decode_signed_request
from tests.kills.wallet_process import NAMES, entropy_of, opened, read_frame, write_frame
from tests.mint.curve import NETWORK
from tests.wallet.model_mint import START, TERMS, Conflict, ModelMint

ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 0.4
"""Seconds that a process lives at most, once it has begun to act."""


@dataclass(slots=True)
class Result:
    """What came of it: how many tokens there were in the end, and what was asked of the mint."""

    kills: int
    tokens: int
    asked: int


class Killing:
    """A folder with two wallets, their mint, and lives one after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.mint = ModelMint()
        self.now = START
        self.asked = 0

    def run(self, kills: int) -> Result:
        """Kill so many processes, then count what is left; `AssertionError` says what is wrong."""
        for _ in range(kills):
            self._live()
        return Result(kills, self._audit(), self.asked)

    def _live(self) -> None:
        seed = self.chance.randrange(1 << 32)
        command = [sys.executable, "-m", "tests.kills.wallet_process"]
        with subprocess.Popen(
            [*command, str(self.folder), str(seed), str(self.now)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            is_alive = read_frame(process.stdout)[0] == "alive"
            timer = Timer(self.chance.uniform(0, _LONGEST), process.kill)
            timer.start()
            try:
                with suppress(EOFError, OSError):
                    while is_alive:
                        write_frame(process.stdin, self._answer(*read_frame(process.stdout)))
            finally:
                timer.join()
                with suppress(OSError):
                    process.stdin.close()
        assert process.returncode == -9, "it ended by itself"

    def _answer(self, what: str, member: int, data: bytes, now: int) -> Any:
        self.now = max(self.now, now)
        self.asked += 1
        asked = self.mint.members[member - 1]
        if what == "issue":
            return ["done", asked.issue(decode_certificate(data), now)]
        try:
            return ["done", asked.lock(decode_signed_request(data), now).signature]
        except Conflict as conflict:
            raise AssertionError("a wallet signed two requests over one input") from conflict

    def _audit(self) -> int:
        """Complete everything, then count: all that was withdrawn is there, once, and unspent."""
        with ExitStack() as stack:
            alice, bob = (stack.enter_context(opened(self.folder / name)) for name in NAMES)
            for wallet in (alice, bob):
                self.mint.drive(wallet, self.now)
            for payer, payee in ((alice, bob), (bob, alice)):
                for payment in payer.payments():
                    payee.receive(payer.cheque(payment.number), self.mint.state(self.now), self.now)
            for wallet in (alice, bob):
                self.mint.drive(wallet, self.now)
                assert wallet.unfinished() == ()
            serials = [token.serial for wallet in (alice, bob) for token in wallet.tokens()]
            assert len(set(serials)) == len(serials), "a token is there twice"
            assert not any(map(self.mint.is_spent, serials)), "a token is there that was spent"
            assert len(serials) == self.mint.withdrawn(), "tokens were lost, or made of nothing"
            for wallet, name in zip((alice, bob), NAMES, strict=True):
                self._restore(wallet, name)
        return len(serials)

    def _restore(self, wallet: Wallet, name: str) -> None:
        folder = self.folder / f"{name} restored"
        Wallet.create(folder, NETWORK, Role.CLIENT, entropy_of(name))
        with Wallet.open(folder, TERMS) as again:
            self.mint.restore(again, self.now, range(4))
            found, there = ({token.serial for token in each.tokens()} for each in (again, wallet))
            assert found == there, "words alone give other tokens"
