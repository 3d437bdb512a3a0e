"""Member 1 of a committee in a process of its own: messages in, replies out, until it is killed.

python -m tests.mint.member_process FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from tests.mint.committee import Committee, Member
from tests.mint.deals import Series


async def main(folder: Path) -> None:
    async with trio.open_nursery() as nursery:
        bank = Committee(folder.parent, nursery)
        bank.add_series(Series())
        member = bank.members[1] = Member(bank, 1, folder)
        await member.start()
        bank.count()
        pipes = trio.StapledStream(
            trio.lowlevel.FdStream(os.dup(1)), trio.lowlevel.FdStream(os.dup(0))
        )
        await member.serve(pipes, None)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
