"""Kills of `fog wallet` commands on a network of real processes (spec/09 §8).

Three wallets pay each other, of which one is a node's that works by itself meanwhile. Every command
may be killed, and is given again until it ends: in the end all tokens are there, once.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kills.wallet_kills import Result
from tests.system.networks import Network, command, environment

GRANTED = 96
NODE = "worker1"
_STAKE = 24
_MOST = 9
"""Tokens of a payment, at most."""
_TRIES = 5
"""A command is killed so often at most, one after the other."""
_PATIENCE = 90.0


@dataclass(slots=True)
class Purse:
    """A wallet: whose home its commands use, and the options that name it."""

    home: Path
    options: tuple[str, ...] = ()


class CommandKilling:
    """A running network whose worker is granted tokens, and two users."""

    def __init__(
        self, network: Network, folder: Path, seed: int, say: Callable[[str], None]
    ) -> None:
        self._network = network
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self._kills = self._commands = 0
        self._took = 1.0
        node = str(network.folder / NODE)
        self._purses = [
            Purse(network.folder / "client", ("--dir", node)),
            Purse(folder / "alice"),
            Purse(folder / "bob"),
        ]

    def run(self, kills: int) -> Result:
        """Kill so many commands, then count; an `AssertionError` says what is wrong."""
        self._begin()
        while self._kills < kills:
            payer, payee = self._chance.sample(self._purses, 2)
            found = self._balance(payer)
            if found["ready"] + found["resting"] >= _MOST:
                self._pay(payer, payee, self._chance.randrange(1, _MOST + 1), kills)
        return Result(self._kills, self._audit(), self._commands)

    def _begin(self) -> None:
        self._done("testnet", "grant", "--dir", str(self._network.folder), NODE, str(GRANTED))
        node, *users = self._purses
        deadline = time.monotonic() + _PATIENCE
        # The node's wallet is made by the node, once it withdraws.
        while not (self._network.folder / NODE / "wallet").exists() or self._total(node) < GRANTED:
            assert time.monotonic() < deadline, "the node withdrew nothing"
            time.sleep(0.5)
        for user in users:
            document = str(self._network.folder / "client" / "network.toml")
            self._done("join", document, home=user.home)
            self._pay(node, user, _STAKE, self._kills)

    def _pay(self, payer: Purse, payee: Purse, amount: int, kills: int) -> None:
        """Pay, killing commands on the way, up to so many in all."""
        name = f"{self._commands}-{self._kills}"
        invoice, cheque = (self._folder / f"{what} {name}" for what in ("invoice", "cheque"))
        self._insist(kills, payee, "receive", str(amount), "-o", str(invoice), made=invoice)
        self._insist(kills, payer, "send", "--wait", str(invoice), "-o", str(cheque), made=cheque)
        self._insist(kills, payee, "receive", str(cheque))
        self._say(f"{self._kills} killed")

    def _insist(self, kills: int, purse: Purse, *words: str, made: Path | None = None) -> None:
        """Give a command until it has ended by itself, or made its file."""
        for _ in range(_TRIES):
            if self._kills >= kills or not self._killed(purse, words):
                break
            self._kills += 1
            if made is not None and made.exists():
                return
        if made is None or not made.exists():
            begin = time.monotonic()
            self._done("wallet", *words, *purse.options, home=purse.home)
            self._took = time.monotonic() - begin

    def _killed(self, purse: Purse, words: tuple[str, ...]) -> bool:
        """Give a command and kill it at some moment; tell whether it had not ended before."""
        self._commands += 1
        process = subprocess.Popen(
            command(("wallet", *words, *purse.options)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(purse.home),
        )
        try:
            process.wait(self._chance.uniform(0.2, 1.1) * self._took)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        return False

    def _done(self, *words: str, home: Path | None = None, stdin: bytes = b"") -> str:
        self._commands += 1
        answer = self._network.fog(*words, home=home, stdin=stdin)
        assert answer.returncode == 0, answer.stderr.decode()
        return answer.stdout.decode()

    def _balance(self, purse: Purse) -> Any:
        return json.loads(
            self._done("wallet", "balance", "--json", *purse.options, home=purse.home)
        )

    def _total(self, purse: Purse) -> int:
        found = self._balance(purse)
        return int(found["ready"] + found["resting"] + found["on_its_way"])

    def _audit(self) -> int:
        """Let everything be completed, then count it."""
        for purse in self._purses:
            self._done("wallet", "refresh", *purse.options, home=purse.home)
        totals = [self._total(purse) for purse in self._purses]
        assert sum(totals) == GRANTED, f"{GRANTED} tokens were granted, and there are {totals}"
        alice, again = self._purses[1], self._folder / "alice again"
        words = self._done("wallet", "backup", home=alice.home)
        self._done("join", str(self._network.folder / "client" / "network.toml"), home=again)
        self._done("wallet", "restore", home=again, stdin=words.encode())
        restored = self._total(Purse(again))
        assert restored == totals[1], f"words alone give {restored} of {totals[1]} tokens"
        return sum(totals)
