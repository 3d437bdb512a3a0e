import pytest

from fogbank.cli.sizes import parse_fuel, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", 64 << 20),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("1g", 1 << 30),
        ("512kb", 512 << 10),
        ("0.5G", 1 << 29),
    ],
)
def test_memory_in_every_spelling(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(("text", "fuel"), [("7", 7), ("500M", 5 * 10**8), ("2.5g", 25 * 10**8)])
def test_fuel_in_every_spelling(text: str, fuel: int) -> None:
    assert parse_fuel(text) == fuel


@pytest.mark.parametrize("text", ["", "M", "much", "1e400.", "0", "-3", "1.2.3", "nan.", "inf."])
def test_what_is_no_amount_is_refused_in_words(text: str) -> None:
    for parse in (parse_memory, parse_fuel):
        with pytest.raises(ValueError, match=r"no number|too little"):
            parse(text)
