"""The vectors of `spec/vectors`, and the programs that made them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[1] / "spec" / "vectors"
_GENERATORS = VECTORS / "generate"


def run_generator(name: str) -> dict[str, Any]:
    """Run `spec/vectors/generate/NAME.py` and return its names; it may not use the project."""
    program = _GENERATORS / f"{name}.py"
    assert "fogbank." not in program.read_text(encoding="utf-8")
    sys.path.insert(0, str(_GENERATORS))
    try:
        return runpy.run_path(str(program))
    finally:
        sys.path.remove(str(_GENERATORS))


def generated(name: str) -> Any:
    """Return the vectors that a generator makes now."""
    return run_generator(name)["vectors"]()
