"""Where a user's files are: FOGBANK_HOME, else the platform's data folder; and a network's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fogbank.cli.output import read_bounded

if TYPE_CHECKING:
    from fogbank.nodes.home import Home

_NETWORK_LIMIT = 64 << 10


def user_home() -> Home:
    """Return the user's home folder; it need not be there yet."""
    from platformdirs import user_data_path

    from fogbank.nodes.home import Home

    chosen = os.environ.get("FOGBANK_HOME")
    return Home(Path(chosen) if chosen else user_data_path("fogbank"))


def network_text(path: Path) -> str:
    """Read a network's file; raise `ValueError` or `OSError` if it can be none."""
    try:
        return read_bounded(path, _NETWORK_LIMIT).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text: get network.toml again") from None
