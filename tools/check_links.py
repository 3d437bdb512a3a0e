"""A build hook that refuses to build without the rooms.

`src/fogbank/` reaches the rooms through symbolic links. A clone made with `core.symlinks=false`
holds small text files in their place, and would build a package that is empty, without an error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOMS = ("sandbox", "relay", "directory", "client")


class CheckLinks(BuildHookInterface):  # type: ignore[type-arg]  # its configuration's type is private
    """Runs before every build: sdist, wheel and editable install."""

    PLUGIN_NAME = "check-links"

    def initialize(
        self,
        version: str,  # noqa: ARG002 - hatchling passes these by name
        build_data: dict[str, Any],  # noqa: ARG002 - likewise
    ) -> None:
        """Exit with a sentence for the user if a room cannot be reached."""
        package = Path(self.root, "src", "fogbank")
        for room in ROOMS:
            if not (package / room / "__init__.py").is_file():
                sys.exit(
                    f"error: src/fogbank/{room} is not a link to the folder {room}/. This clone "
                    "was made without symbolic links: run `git config core.symlinks true` and "
                    "`git checkout -f -- src/fogbank`, on a file system that has them."
                )
