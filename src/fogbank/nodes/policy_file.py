"""An authority's `policy.toml`: read at the start, and again whenever it has changed."""

from __future__ import annotations

import logging
from pathlib import Path

from fogbank.directory.rules import POLICY_LIMIT, PolicyError, Rules, parse_policy
from fogbank.directory.vote import Policy
from fogbank.nodes.home import HomeError

log = logging.getLogger(__name__)

POLICY_FILE = "policy.toml"


def load_policy(path: Path) -> tuple[Policy, Rules]:
    """Read a policy; raise `HomeError` that names what is wrong with it.

    A file that is not there is the default: everything allowed that this program knows.
    """
    try:
        with path.open("rb") as file:
            data = file.read(POLICY_LIMIT + 1)
    except FileNotFoundError:
        return Policy(), Rules()
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > POLICY_LIMIT:
        raise HomeError(f"{path} is over its limit of {POLICY_LIMIT} bytes")
    try:
        return parse_policy(data.decode())
    except (PolicyError, UnicodeDecodeError) as error:
        raise HomeError(f"{path}: {error}") from error


class PolicyFile:
    """Gives the policy that stands in a file now; of a bad file, the last good one.

    Raises `HomeError` at the start if the file is bad then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._policy = load_policy(path)

    def __call__(self) -> tuple[Policy, Rules]:
        """Return the policy; a look at the file's date is all that it costs if nothing changed."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._policy = load_policy(self._path)
                log.info("the policy has changed: it counts from the next vote on")
            except HomeError as error:
                log.error("%s; the last good policy stays in force", error)  # noqa: TRY400 - a sentence for the operator
        return self._policy


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
