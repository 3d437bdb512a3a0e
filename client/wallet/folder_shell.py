"""A wallet's folder: who is at work on it, and whether its file is the one that was written.

Beside the database lie `lock`, which the process that is at work on the wallet holds by `flock`,
and `writes`, the number of the last write. A database that was put back is told by these two
(spec/09 §8.3): no copy of `lock` has its inode and the time at which that was made, which nobody
can set; and an older database knows of fewer writes.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from fogbank.client.wallet.errors import WalletBusy, WalletError

MARK_SIZE: Final = 16
NUMBER_SIZE: Final = 8
_LOCK: Final = "lock"
_WRITES: Final = "writes"


def mark_of(folder: Path) -> bytes:
    """Return what no copy of the folder has: the lock's inode, and when that was made."""
    try:
        found = (folder / _LOCK).stat()
    except OSError:
        return b""
    return b"".join(part.to_bytes(8, "big") for part in (found.st_ino, found.st_ctime_ns))


def count_of(folder: Path) -> int:
    """Return the number of the last write; 0 if nobody kept it."""
    try:
        data = (folder / _WRITES).read_bytes()
    except OSError:
        return 0
    return int.from_bytes(data[:NUMBER_SIZE], "big")


def locked(folder: Path) -> int:
    """Make the folder if need be, and become its only process; raise `WalletBusy`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(folder / _LOCK, flags, 0o600)
    except OSError as error:
        raise WalletError(
            f"{folder} cannot be used ({error.strerror}): the wallet is kept there. Make room, or "
            "mend the folder's permissions"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise WalletBusy(
            "another process is at work on this wallet: wait until it has ended"
        ) from error
    return handle


def keep_count(folder: Path, number: int) -> None:
    """Keep the number of a write that is on the disk: a kill before this leaves a lower one."""
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(folder / _WRITES, flags, 0o600)
        try:
            os.pwrite(handle, number.to_bytes(NUMBER_SIZE, "big"), 0)
        finally:
            os.close(handle)
