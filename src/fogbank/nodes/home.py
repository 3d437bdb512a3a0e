"""A node's home folder: its settings, keys, network document, and what it remembers.

node.toml       what the operator chose
keys/           the key store
family.cert     the family certificate, if there is one
network.toml    the network it is in; network.N.toml is its version N, if that was held before
consensus       the last consensus
authority.db    an authority's journal
mint/           its ledgers, one a series
mint-state      the newest state of the mint that a wallet here has seen
wallet/         the wallet
status.json     what the node last told of itself
runtimes/       the runtimes that a worker holds
wrong/          the workers that were proven wrong to the user, with the evidence
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from fogbank.client.verification.evidence_shell import Evidence
from fogbank.directory.addresses import Address, parse_address
from fogbank.directory.consensus import is_nickname
from fogbank.directory.descriptor import Role
from fogbank.directory.mint.secret import MintSecret
from fogbank.directory.network import (
    NETWORK_LIMIT,
    NetworkDocument,
    SignedNetwork,
    dump_network,
    load_network,
    open_network,
    verify_successor,
)
from fogbank.relay.errors import KeyStoreError, ProtocolError, RelayError
from fogbank.relay.keys import Signed
from fogbank.relay.keystore_shell import (
    KeyStore,
    create_family_key,
    issue_family_certificate,
    keep_secret,
    load_family_key,
)
from fogbank.sandbox.files_shell import write_atomic
from fogbank.sandbox.limits import CEILINGS, SandboxConfig

log = logging.getLogger(__name__)

_SETTINGS_LIMIT = 64 << 10
_FAMILY_LIMIT = 1024
_DEFAULT_MEMORY = 1 << 30
_DEFAULT_FLOOR = SandboxConfig().floor
_MAX_MEMORY = 1 << 56
_MAX_CORES = 1 << 16
DEFAULT_DRAIN = 60
MAX_DRAIN = 86_400
_T = TypeVar("_T")
_GOVERNING_VERSIONS = 16
"""Of so many versions of the network document one governs any consensus that has not expired."""
_SERVED_VERSIONS = 256
_REPLACE = "Delete it, and give the network's own file to `fog join` or `fog … run --network`"


class HomeError(RelayError):
    """A node's folder is not as it must be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node's operator chose.

    A worker's: `cores`, `memory` (bytes a task), `floor` (the least fuel per second of CPU time
    that a task must use, 0 for none), `drain` (seconds that running tasks have when it is to end).
    """

    role: Role
    nickname: str
    addresses: tuple[Address, ...] = ()
    cores: int = 1
    memory: int = _DEFAULT_MEMORY
    floor: int = _DEFAULT_FLOOR
    drain: int = DEFAULT_DRAIN
    source: str | None = None
    """The local address to dial from; None leaves it to the system."""
    tor_port: int | None = None
    """An authority's loopback port for Tor's formats, 0 for any free one; None: it serves none."""

    def dump(self) -> str:
        """Return the text of node.toml."""
        fields: dict[str, Any] = {"role": self.role.name.lower(), "nickname": self.nickname}
        if self.addresses:
            fields["addresses"] = [str(address) for address in self.addresses]
        if self.role is Role.WORKER:
            fields |= {"cores": self.cores, "memory": self.memory, "floor": self.floor}
            fields["drain"] = self.drain
        if self.source is not None:
            fields["source"] = self.source
        if self.tor_port is not None:
            fields["tor_port"] = self.tor_port
        return tomli_w.dumps(fields)

    @classmethod
    def load(cls, text: str) -> Settings:
        """Read node.toml; raise `ValueError` with a sentence if it does not fit."""
        try:
            fields = tomllib.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        try:
            role = Role[_typed(str, fields, "role").upper()]
            nickname = _typed(str, fields, "nickname")
            addresses = _typed(list, fields, "addresses", [])
            settings = cls(
                role,
                nickname,
                tuple(map(_address, addresses)),
                _typed(int, fields, "cores", 1),
                _typed(int, fields, "memory", _DEFAULT_MEMORY),
                _typed(int, fields, "floor", _DEFAULT_FLOOR),
                _typed(int, fields, "drain", DEFAULT_DRAIN),
                _typed(str, fields, "source") if "source" in fields else None,
                _port(fields.pop("tor_port", None)),
            )
        except KeyError as error:
            raise ValueError(f"{error} is missing or unknown") from error
        if fields:
            raise ValueError(f"{min(fields)!r} is not a setting")
        settings.check()
        return settings

    def check(self) -> None:
        """Raise `ValueError` with a sentence unless the settings make a node."""
        if not is_nickname(self.nickname):
            raise ValueError(
                f"{self.nickname!r} is not a nickname: take 1 to 19 letters and digits"
            )
        if self.role is Role.WORKER and self.addresses:
            raise ValueError("a worker has no address: it only dials out")
        if self.role is not Role.WORKER and not self.addresses:
            raise ValueError("a relay or authority needs an address, such as 192.0.2.1:9001")
        if not 1 <= self.cores <= _MAX_CORES:
            raise ValueError(f"a worker gives at least one core, and at most {_MAX_CORES}")
        if not 1 <= self.memory <= _MAX_MEMORY:
            raise ValueError(f"memory is the bytes that a task may have, at most {_MAX_MEMORY}")
        if not 0 <= self.floor <= CEILINGS.fuel:
            raise ValueError("floor is fuel per second, such as 10000000; 0 is none")
        if not 0 <= self.drain <= MAX_DRAIN:
            raise ValueError(
                f"drain is the seconds that running tasks have at the end, at most {MAX_DRAIN}"
            )
        if self.tor_port is not None and self.role is not Role.AUTHORITY:
            raise ValueError("only an authority serves Tor's formats: remove tor_port")


def _typed(kind: type[_T], fields: dict[str, Any], name: str, default: _T | None = None) -> _T:
    """Take a setting of one type; without a default it must be there."""
    value = fields.pop(name) if default is None else fields.pop(name, default)
    if type(value) is not kind:
        raise ValueError(f"{name} is not of the type {kind.__name__}")
    return value


def _address(value: object) -> Address:
    return parse_address(value if isinstance(value, str) else "")


def _port(value: object) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 1 << 16):
        return value
    raise ValueError("tor_port is no port: take a number from 1 to 65535, or 0 for any free one")


class Home:
    """A node's folder. Methods raise `HomeError` or `KeyStoreError`, which say what to do.

    `random` gives the bytes that keys are made of, `write` replaces a file as a whole.
    """

    def __init__(
        self,
        folder: Path,
        random: Callable[[int], bytes] = os.urandom,
        write: Callable[[Path, bytes], None] = write_atomic,
    ) -> None:
        self.folder = folder
        self._random = random
        self._write = write

    @property
    def mint(self) -> Path:
        """An authority's ledgers."""
        return self.folder / "mint"

    @property
    def database(self) -> Path:
        """Where an authority keeps its journal."""
        return self.folder / "authority.db"

    @property
    def runtimes_folder(self) -> Path:
        """The runtimes that a worker holds."""
        return self.folder / "runtimes"

    @property
    def held_folder(self) -> Path:
        """Where a worker has the sessions that it holds for clients who are away."""
        return self.folder / "held"

    @property
    def scratch_folder(self) -> Path:
        """Where large data lies while it is needed, in files without a name."""
        return self.folder / "scratch"

    @property
    def evidence(self) -> Evidence:
        """What is kept of workers that were proven wrong."""
        return Evidence(self.folder / "wrong")

    @property
    def status_file(self) -> Path:
        """What the node last told of itself."""
        return self.folder / "status.json"

    @property
    def network_file(self) -> Path:
        """The network document."""
        return self.folder / "network.toml"

    def create(
        self, settings: Settings, network: str | None, family: Path | None, now: float
    ) -> KeyStore:
        """Make a new node: keys first, settings last, so that a cut-off call can be repeated."""
        settings.check()
        if (self.folder / "node.toml").exists():
            raise HomeError(f"{self.folder} holds a node already: choose another folder")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys_folder = self.folder / "keys"
        cut_off = (keys_folder / "node.keys").exists()
        make = KeyStore.open if cut_off else partial(KeyStore.create, now=now)
        store = make(keys_folder, random=self._random, write=self._write)
        if family is not None:
            key = (
                load_family_key(family)
                if family.exists()
                else create_family_key(family, self._random)
            )
            certificate = issue_family_certificate(key, store.identity, now)
            self._write(self.folder / "family.cert", certificate.encode())
        if network is not None:
            self.set_network(network)
        self._write(self.folder / "node.toml", settings.dump().encode())
        return store

    def settings(self) -> Settings:
        """Read the settings."""
        path = self.folder / "node.toml"
        try:
            return Settings.load(_read(path, _SETTINGS_LIMIT).decode())
        except ValueError as error:
            raise HomeError(f"{path}: {error}") from error

    def keys(self, now: float) -> KeyStore:
        """Open the key store, and renew what is due.

        An identity that is kept elsewhere keeps a node from starting only when its signing key
        has expired.
        """
        store = KeyStore.open(self.folder / "keys", self._random, self._write)
        try:
            store.rotate(now)
        except KeyStoreError as error:
            if now >= store.signing_expires:
                raise
            log.warning("%s", error)
        return store

    def mint_secret(self) -> MintSecret:
        """Return an authority's mint key, which is made at its first start (spec/09 §3).

        It is never replaced: whoever loses it loses its seat in all series that live.
        """
        path = self.folder / "keys" / "mint.key"
        return MintSecret(keep_secret(path, "mint", self._random, self._write))

    def families(self) -> tuple[Signed, ...]:
        """Return the family certificate, if there is one."""
        path = self.folder / "family.cert"
        if not path.exists():
            return ()
        try:
            return (Signed.decode(_read(path, _FAMILY_LIMIT), _FAMILY_LIMIT),)
        except ProtocolError as error:
            raise HomeError(
                f"{path} is damaged: delete it, or run init with --family in a new folder"
            ) from error

    def set_network(self, text: str) -> NetworkDocument:
        """Check a network document and keep it; of the same network only the next version.

        The version before is kept beside it, for it governs until the new one is in force.
        """
        document = _open_network(text, "the network file")
        known = self._known_network()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if known is not None and known.document.network_id == document.network_id:
                if known.document.encode_body() == document.encode_body():
                    return self.network()
                document = _succeed(known.document, text)
                self._write(
                    self._version_file(known.document.version), dump_network(known).encode()
                )
            self._write(self.network_file, text.encode())
        except OSError as error:
            raise HomeError(
                f"{self.network_file} cannot be written ({error.strerror}): make room, mend the "
                "folder's permissions, or choose another folder"
            ) from error
        return document

    def network(self) -> NetworkDocument:
        """Read the network document, with the versions before it that may still govern."""
        first, *later = self.versions(_GOVERNING_VERSIONS)
        document = first.document
        for signed in later:
            document = verify_successor(document, signed)
        return document

    def versions(self, most: int = _SERVED_VERSIONS) -> tuple[SignedNetwork, ...]:
        """Read the newest version of the network document and those before it, the oldest first.

        At most so many of them, and only as far back as each is there and follows from the last.
        """
        found = [self._read_network(self.network_file)]
        while len(found) < most and (number := found[-1].document.version - 1):
            path = self._version_file(number)
            if not path.exists():
                break
            before = self._read_network(path)
            try:
                verify_successor(before.document, found[-1])
            except ProtocolError:
                break
            found.append(before)
        return tuple(reversed(found))

    def follow(self, signed: SignedNetwork) -> None:
        """Keep the next version, unless another process has kept it, or a later one, already."""
        known = self._known_network()
        if known is None or known.document.version < signed.document.version:
            self.set_network(dump_network(signed))

    def _version_file(self, number: int) -> Path:
        return self.folder / f"network.{number}.toml"

    def _known_network(self) -> SignedNetwork | None:
        """Return the document at hand; None if there is none that can be used."""
        try:
            return self._read_network(self.network_file)
        except HomeError:
            return None

    def _read_network(self, path: Path) -> SignedNetwork:
        try:
            text = _read(path, NETWORK_LIMIT).decode()
        except UnicodeDecodeError as error:
            raise HomeError(f"{path} is not text. {_REPLACE}") from error
        _open_network(text, str(path), _REPLACE)
        return load_network(text)


def _succeed(known: NetworkDocument, text: str) -> NetworkDocument:
    try:
        return verify_successor(known, load_network(text))
    except ProtocolError as error:
        raise HomeError(f"the network file cannot be used: {error}") from error


def _open_network(text: str, name: str, remedy: str = "") -> NetworkDocument:
    try:
        return open_network(text)
    except (ProtocolError, ValueError) as error:
        raise HomeError(f"{name} cannot be used: {error}. {remedy}".rstrip(". ")) from error


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        remedy = (
            "run `fog join network.toml` with the network's file"
            if path.name == "network.toml"
            else "run `fog … init` for this folder first"
        )
        raise HomeError(f"{path} is not there: {remedy}") from error
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise HomeError(f"{path} is too large to be what its name says")
    return data
