"""Numbers with units, as people write them on a command line."""

from __future__ import annotations

_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_memory(text: str) -> int:
    """Read `512`, `512M`, `512MiB` or `1G`: bytes, a bare number counting MiB."""
    number, factor = _split(text.lower().removesuffix("ib").removesuffix("b"), _BINARY)
    return _whole(text, number, factor or _BINARY["m"])


def parse_fuel(text: str) -> int:
    """Read `250000`, `500M` or `2.5G`: units of fuel, the letters counting thousands."""
    number, factor = _split(text.lower(), _DECIMAL)
    return _whole(text, number, factor or 1)


def _split(text: str, units: dict[str, int]) -> tuple[str, int]:
    factor = units.get(text[-1:], 0)
    return (text[:-1] if factor else text), factor


def _whole(text: str, number: str, factor: int) -> int:
    try:
        value = float(number) * factor if "." in number else int(number) * factor
        whole = int(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no number: write 64, 64M or 2G") from error
    if whole <= 0:
        raise ValueError(f"{text!r} is too little: give a positive number")
    return whole
