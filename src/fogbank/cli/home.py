"""Where a user's files are: FOGBANK_HOME, else the platform's data folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fogbank.nodes.home import Home


def user_home() -> Home:
    """Return the user's home folder; it need not be there yet."""
    from platformdirs import user_data_path

    from fogbank.nodes.home import Home

    chosen = os.environ.get("FOGBANK_HOME")
    return Home(Path(chosen) if chosen else user_data_path("fogbank"))
