"""Making `network.toml`: authorities' cards, the first version, and its signatures (spec/05 §1)."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from pathlib import Path

import tomli_w

from fogbank.directory.addresses import parse_address
from fogbank.directory.network import (
    AuthorityPin,
    NetworkDocument,
    SignedNetwork,
    Timing,
    dump_network,
    load_network,
    open_network,
)
from fogbank.nodes.home import Home, HomeError
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import parse_id, show_id
from fogbank.relay.keystore_shell import KeyStore
from fogbank.sandbox.files_shell import write_atomic

CARD_FILE = "card.toml"
_CARD_LIMIT = 8 << 10


def card_of(folder: Path) -> str:
    """Return an authority's card: what a network's document says of it."""
    home = Home(folder)
    settings = home.settings()
    store = KeyStore.open(folder / "keys")
    return tomli_w.dumps(
        {
            "identity": show_id(store.identity),
            "nickname": settings.nickname,
            "addresses": [str(address) for address in settings.addresses],
        }
    )


def read_card(path: Path) -> AuthorityPin:
    """Read an authority's card, or the card in an authority's folder."""
    if path.is_dir():
        path /= CARD_FILE
    try:
        with path.open("rb") as file:
            fields = tomllib.loads(file.read(_CARD_LIMIT).decode())
        return AuthorityPin(
            parse_id(str(fields["identity"])),
            str(fields["nickname"]),
            tuple(parse_address(str(each)) for each in fields["addresses"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HomeError(
            f"{path} is not an authority's card: get the one that `fog authority init` made"
        ) from error


def create_network(
    cards: list[Path], name: str, timing: Timing, network_id: bytes, *, test: bool
) -> SignedNetwork:
    """Return the first version of a network's document, with the signatures that can be made here.

    A card that is an authority's folder, with its identity key, gives that authority's signature.
    """
    pins = tuple(map(read_card, cards))
    document = NetworkDocument(network_id, name, 1, pins, timing, test=test)
    try:
        document.check()
    except ProtocolError as error:
        raise HomeError(f"this would be no sound network: {error}") from error
    signed = SignedNetwork(document)
    for path in cards:
        if path.is_dir():
            signed = signed.sign(KeyStore.open(path / "keys").identity_key())
    return signed


def amend_network(path: Path, cards: list[Path], gone: list[str], in_force: int) -> SignedNetwork:
    """Return the next version of the document at `path`, in force from that time, unsigned.

    The authorities of `cards` come in, those with the nicknames in `gone` leave.
    """
    known = open_network(path.read_text(encoding="utf-8"))
    missing = set(gone) - {pin.nickname for pin in known.authorities}
    if missing:
        raise HomeError(f"{path} names no authority {min(missing)}")
    stay = tuple(pin for pin in known.authorities if pin.nickname not in gone)
    document = replace(
        known,
        version=known.version + 1,
        authorities=(*stay, *map(read_card, cards)),
        in_force=in_force,
    )
    try:
        document.check()
    except ProtocolError as error:
        raise HomeError(f"this would be no sound network: {error}") from error
    return SignedNetwork(document)


def signatures_missing(signed: SignedNetwork, previous: NetworkDocument | None) -> int:
    """Return how many more signatures are needed of one version's authorities at least."""
    signers = {identity for identity, _ in signed.signatures}
    versions = [signed.document, *([previous] if previous else [])]
    return max(
        max(0, version.quorum - sum(version.is_authority(each) for each in signers))
        for version in versions
    )


def sign_network(
    path: Path, folder: Path, previous: NetworkDocument | None = None
) -> SignedNetwork:
    """Add the signature of the authority in `folder` to the document at `path`.

    The authorities of the `previous` version sign too, those who leave among them.
    """
    signed = load_network(path.read_text(encoding="utf-8"))
    key = KeyStore.open(folder / "keys").identity_key()
    versions = [signed.document, *([previous] if previous else [])]
    if not any(version.is_authority(key.public) for version in versions):
        raise HomeError(f"{path} does not name the node in {folder} as an authority")
    return signed.sign(key)


def save_network(path: Path, signed: SignedNetwork) -> None:
    """Write a network's document."""
    write_atomic(path, dump_network(signed).encode(), 0o644)


def fingerprint(document: NetworkDocument) -> str:
    """Return what operators and users compare by voice: 8 groups of 4 hexadecimal digits."""
    digest = hashlib.sha256(document.encode_body()).hexdigest()[:32]
    return " ".join(digest[at : at + 4] for at in range(0, len(digest), 4))
