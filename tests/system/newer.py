"""The `fog` program of the next version: it speaks protocol version 2 beside 1.

python -m tests.system.newer relay run --dir …
"""

from __future__ import annotations

import runpy

from fogbank.directory import entries

if __name__ == "__main__":
    # Before anything else of the program takes it from there.
    entries.SUPPORTED_PROTOCOLS = (1, 2)
    runpy.run_module("fogbank", run_name="__main__", alter_sys=True)
