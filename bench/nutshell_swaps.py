"""Swaps at a nutshell mint, by nutshell's own code, in its environment: `nutshell.py` starts it.

    python nutshell_swaps.py URL SWAPS AT_ONCE

Prints tokens a second and latencies as JSON, by the tokens of a swap, each of one unit. AT_ONCE is
JSON too: how many wallets swap at once, by the same.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from typing import Any

import httpx
from cashu.core.crypto.b_dhke import step1_alice, step3_alice
from cashu.core.crypto.secp import PublicKey

_PAID_TRIES = 100
_LOCK_TRIES = 20


class Wallet:
    """Tokens of one unit each, at one mint."""

    def __init__(self, http: httpx.AsyncClient, keyset: dict[str, Any]) -> None:
        self._http = http
        self._id = keyset["id"]
        self._key = PublicKey(bytes.fromhex(keyset["keys"]["1"]))
        self._purse: list[dict[str, Any]] = []

    async def _turn(self, path: str, message: dict[str, Any], count: int) -> None:
        """Send blinded outputs with a message; the purse becomes what comes back, unblinded."""
        made = [(name := secrets.token_hex(32), *step1_alice(name)) for _ in range(count)]
        message["outputs"] = [
            {"amount": 1, "id": self._id, "B_": blinded.format().hex()} for _, blinded, _ in made
        ]
        answer = await self._http.post(path, json=message)
        for _ in range(_LOCK_TRIES):
            # Its database gives up waiting for a lock after a second.
            if answer.is_success or "lock" not in answer.text:
                break
            answer = await self._http.post(path, json=message)
        answer.raise_for_status()
        signed = [PublicKey(bytes.fromhex(each["C_"])) for each in answer.json()["signatures"]]
        self._purse = [
            {
                "amount": 1,
                "id": self._id,
                "secret": name,
                "C": step3_alice(point, factor, self._key).format().hex(),
            }
            for (name, _, factor), point in zip(made, signed, strict=True)
        ]

    async def fill(self, count: int) -> None:
        """Get tokens for an invoice that is paid in play."""
        path = "/v1/mint/quote/bolt11"
        quote = (await self._http.post(path, json={"amount": count, "unit": "sat"})).json()
        for _ in range(_PAID_TRIES):
            if (await self._http.get(f"{path}/{quote['quote']}")).json()["state"] == "PAID":
                break
            await asyncio.sleep(0.1)
        await self._turn("/v1/mint/bolt11", {"quote": quote["quote"]}, count)

    async def swap(self, times: int, taken: list[float]) -> None:
        """Swap all in the purse, again and again."""
        for _ in range(times):
            begin = time.perf_counter()
            await self._turn("/v1/swap", {"inputs": self._purse}, len(self._purse))
            taken.append((time.perf_counter() - begin) * 1000)


async def measure(url: str, tokens: int, swaps: int, at_once: int) -> dict[str, float]:
    """Let several wallets swap so many tokens at a time, all at once."""
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        keysets = (await http.get("/v1/keys")).json()["keysets"]
        keyset = next(each for each in keysets if each["unit"] == "sat")
        wallets = [Wallet(http, keyset) for _ in range(at_once)]
        for wallet in wallets:
            await wallet.fill(tokens)
        taken: list[float] = []
        begin = time.perf_counter()
        await asyncio.gather(*(wallet.swap(swaps // at_once, taken) for wallet in wallets))
        seconds = time.perf_counter() - begin
    taken.sort()
    return {
        "tokens_per_s": tokens * len(taken) / seconds,
        "p50_ms": taken[len(taken) // 2],
        "p95_ms": taken[len(taken) * 95 // 100],
    }


def main() -> None:
    """Measure, and print JSON."""
    url, swaps, at_once = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    figures = {
        size: asyncio.run(measure(url, int(size), swaps, count)) for size, count in at_once.items()
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
