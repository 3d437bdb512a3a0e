"""An attacker in a process of its own.

    python -m tests.abuse.attacker ATTACK SECONDS

Prints `ready`, attacks for so long, and prints what it did as one line of JSON. The attack named
`burn=0.7` attacks nobody: it uses 0.7 of a processor, to compare with.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import trio

from tests.abuse.attacks import ATTACKS, PREPARED, did
from tests.abuse.network import say

_TURN = 0.01


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def burn(share: float, seconds: float) -> None:
    """Use that share of one processor."""
    begin, before = time.monotonic(), cpu()
    while (passed := time.monotonic() - begin) < seconds:
        if cpu() - before > passed * share:
            time.sleep(_TURN)


async def attack(name: str, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await ATTACKS[name]()


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    PREPARED.get(name, dict)()
    say("ready")
    before = cpu()
    if name.startswith("burn="):
        burn(float(name.removeprefix("burn=")), seconds)
    else:
        trio.run(attack, name, seconds)
    say(json.dumps({"cpu": cpu() - before, "did": did}))


if __name__ == "__main__":
    main()
