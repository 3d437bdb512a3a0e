"""Run attacks and print what came of each: `python -m tests.abuse [ATTACK ...]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trio

from tests.abuse.attacks import ATTACKS
from tests.abuse.network import say
from tests.abuse.scene import scene


async def main(names: list[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            async with scene(Path(folder)) as here:
                report = await here.attack(name)
                say(f"{report}; {report.usage}; broken {here.broken}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1:] or list(ATTACKS))
