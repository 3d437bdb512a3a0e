"""What follows from a wallet's words is what a second implementation makes of them."""

from __future__ import annotations

import json

from fogbank.client.wallet.derivation import Place, Role, Secrets
from fogbank.client.wallet.words import entropy_of, seed_of
from fogbank.directory.mint.points import (
    combine_unblind,
    decode_g1,
    decode_scalar,
    encode_point,
    hash_token,
)
from tests.vectors import VECTORS, generated

FILE = json.loads((VECTORS / "09-wallet.json").read_text())
NETWORK = bytes.fromhex(FILE["network_id"])


def test_the_generator_makes_the_vectors() -> None:
    assert generated("wallet") == FILE


def test_outputs_are_those_of_the_vectors() -> None:
    seed = seed_of(entropy_of(FILE["words"]))
    assert seed.hex() == FILE["seed"]
    secrets = Secrets(seed, NETWORK)
    for each in FILE["outputs"]:
        place = Place(Role(each["role"]), each["branch"], each["period"], each["counter"])
        output = secrets.output(place)
        key = secrets.serial_key(place)
        assert key.seed().hex() == each["serial_seed"]
        assert (output.serial.hex(), output.blinded.hex()) == (each["serial"], each["blinded"])
        assert key.public == output.serial
        assert output.blind == decode_scalar(bytes.fromhex(each["factor"]))
        unblinded = combine_unblind({1: decode_g1(output.blinded)}, output.blind)
        assert encode_point(unblinded) == encode_point(hash_token(NETWORK, output.serial))


def test_no_two_places_share_anything() -> None:
    secrets = Secrets(bytes(64), NETWORK)
    other = Secrets(bytes(64), bytes(32))
    places = [
        Place(role, branch, period, counter)
        for role in Role
        for branch in (0, 1)
        for period in (0, 1)
        for counter in (0, 1)
    ]
    outputs = [wallet.output(place) for wallet in (secrets, other) for place in places]
    assert len({each.serial for each in outputs}) == len(outputs)
    assert len({each.blind for each in outputs}) == len(outputs)


def test_nothing_secret_is_shown() -> None:
    secrets = Secrets(bytes(range(64)), NETWORK)
    output = secrets.output(Place(Role.CLIENT, 0, 0, 0))
    assert repr(secrets) == "<Secrets>"
    assert str(output.blind) not in repr(output)
