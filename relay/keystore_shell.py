"""A node's keys on disk (spec/01 §2).

A key store is a folder that only its owner can enter, with two files: `identity.key`, written
once, which may be kept elsewhere while the node runs; and `node.keys`, all that is renewed as time
goes on, replaced as a whole. Both are written so that a kill at any moment leaves the old keys or
the new ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from stat import S_IMODE
from typing import TypeVar

from fogbank.relay.certificates import FAMILY_LIFETIME, SIGNING_LIFETIME, Chain, Use, issue
from fogbank.relay.errors import KeyStoreError, ProtocolError
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId, Signed, X25519Key
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.node_keys import (
    KEY_FILE_LIMIT,
    STORE_LIMIT,
    NodeKeys,
    Random,
    decode_key,
    encode_key,
    encode_request,
)
from fogbank.sandbox.files_shell import sync, write_atomic

IDENTITY_FILE = "identity.key"
KEYS_FILE = "node.keys"
NEXT_FILE = "signing.next"
"""The signing key that an identity kept elsewhere was asked to certify."""
CERTIFICATE_FILE = "signing.certificate"
"""Its certificate, until the node takes both up."""

_T = TypeVar("_T")

Write = Callable[[Path, bytes], None]
"""Replaces a file as a whole; raises `OSError`."""


class KeyStore:
    """The keys of one node, read from a folder; made by `create` or `open`.

    All methods that fail raise `KeyStoreError`, whose message says what to do.
    """

    def __init__(self, folder: Path, keys: NodeKeys, random: Random, write: Write) -> None:
        self._folder = folder
        self._random = random
        self._write = write
        self._adopt(keys)
        self.identity: NodeId = keys.identity
        """The node's identity."""

    @classmethod
    def create(
        cls,
        folder: Path,
        now: float,
        random: Random = os.urandom,
        write: Write = write_atomic,
    ) -> KeyStore:
        """Make a new node's keys in `folder`, which is made if need be.

        A folder in which an earlier call was cut off is completed; keys are never overwritten.
        """
        if (folder / KEYS_FILE).exists():
            raise KeyStoreError(
                f"{folder} holds a node's keys already: use them, or choose another folder."
            )
        _make_private_folder(folder)
        path = folder / IDENTITY_FILE
        if not path.exists():
            _write(path, encode_key("identity", Ed25519Key(random(KEY_LENGTH))), write)
        identity = _load_key(path, "identity")
        keys = NodeKeys.first(identity, now, random)
        _write(folder / KEYS_FILE, keys.encode(), write)
        return cls(folder, keys, random, write)

    @classmethod
    def open(
        cls, folder: Path, random: Random = os.urandom, write: Write = write_atomic
    ) -> KeyStore:
        """Read the keys in `folder`; the identity's secret may be absent."""
        keys = _load(
            folder / KEYS_FILE,
            STORE_LIMIT,
            NodeKeys.decode,
            "delete it if the identity.key beside it is whole, and initialise the node again in "
            "the same folder: it keeps its identity",
        )
        return cls(folder, keys, random, write)

    def rotate(self, now: float) -> bool:
        """Renew what is due and write it to disk; return whether anything was renewed.

        If the signing key is due and the identity's secret is absent, it raises after all else
        was renewed: the keys stay usable until the signing key expires.
        """
        identity = None
        taken_up = self._take_up(now)
        due = self._keys.signing_due(now)
        if due and (self._folder / IDENTITY_FILE).exists():
            identity = self.identity_key()
        renewed = self._keys.renewed(now, self._random, identity)
        changed = renewed != self._keys
        if changed:
            _write(self._folder / KEYS_FILE, renewed.encode(), self._write)
            self._adopt(renewed)
        if due and identity is None:
            raise KeyStoreError(self._offline_message(now))
        return changed or taken_up

    def credentials(self, now: float) -> LinkCredentials:
        """Return what the node proves itself with on a link."""
        if self._keys.expired(now):
            raise KeyStoreError(self._offline_message(now))
        return self._credentials

    def onion_keys(self) -> Sequence[X25519Key]:
        """Return the onion keys under which a hop handshake is accepted, newest first."""
        return self._onion_keys

    @property
    def chain(self) -> Chain:
        """The certificates that the node shows."""
        return self._credentials.chain

    @property
    def signing_key(self) -> Ed25519Key:
        """The key that signs the node's documents; the chain's first certificate is its own."""
        return self._signing_key

    def _adopt(self, keys: NodeKeys) -> None:
        self._keys = keys
        self._credentials = keys.credentials()
        self._signing_key = Ed25519Key(keys.signing.seed)
        self._onion_keys = tuple(X25519Key(key.seed) for key in keys.onion)

    def identity_key(self) -> Ed25519Key:
        """Read the identity's secret, to certify or to sign a network document."""
        path = self._folder / IDENTITY_FILE
        identity = _load_key(path, "identity")
        if identity.public != self.identity:
            raise KeyStoreError(f"{path} is another node's: put this node's own there.")
        return identity

    # An identity that is kept elsewhere.

    @property
    def identity_is_here(self) -> bool:
        """Whether the identity's secret lies in the folder."""
        return (self._folder / IDENTITY_FILE).exists()

    @property
    def signing_expires(self) -> int:
        """When the signing key can no longer be used, in seconds since 1970."""
        return self._keys.signing.made + SIGNING_LIFETIME

    def take_offline(self, to: Path) -> None:
        """Move the identity's secret to another place: there first, then away from here."""
        key = self.identity_key()
        if to.exists():
            raise KeyStoreError(f"{to} exists already: choose another name.")
        _write(to, encode_key("identity", key), self._write)
        try:
            load_identity_key(to)
        except KeyStoreError:
            _remove(to)
            raise
        _remove(self._folder / IDENTITY_FILE)

    def request_signing(self) -> bytes:
        """Return a request to certify the next signing key, which is made if there is none yet."""
        path = self._folder / NEXT_FILE
        # A kill while the last one was taken up can leave the key that is now in use.
        used = path.exists() and _load_key(path, "signing").public == self.signing_key.public
        if used or not path.exists():
            _write(path, encode_key("signing", Ed25519Key(self._random(KEY_LENGTH))), self._write)
        return encode_request(self.identity, _load_key(path, "signing").public)

    def install_signing(self, certificate: bytes, now: float) -> None:
        """Put the certificate that was asked for beside its key; `rotate` takes both up.

        A node that runs does so within an hour.
        """
        self._certified(certificate, now)
        _write(self._folder / CERTIFICATE_FILE, certificate, self._write)

    def _certified(self, certificate: bytes, now: float) -> NodeKeys:
        seed = _load_key(self._folder / NEXT_FILE, "signing").seed()
        try:
            signed = Signed.decode(certificate, KEY_FILE_LIMIT * 2)
            return self._keys.with_certificate(seed, signed, now)
        except ProtocolError as error:
            raise KeyStoreError(
                f"The certificate cannot be used ({error}): make a request, have it certified "
                "and install what comes back."
            ) from error

    def _take_up(self, now: float) -> bool:
        """Put an installed signing key in the place of the old one; tell whether there was one.

        Cut off at any moment it is begun again: the files go last. One that does not hold, since
        it waited too long, is passed over.
        """
        path = self._folder / CERTIFICATE_FILE
        if not path.exists():
            return False
        try:
            data = _load(path, KEY_FILE_LIMIT * 2, bytes, "install it again")
            keys = self._certified(data, now)
        except KeyStoreError:
            return False
        _write(self._folder / KEYS_FILE, keys.encode(), self._write)
        self._adopt(keys)
        _remove(path)
        _remove(self._folder / NEXT_FILE)
        return True

    def _offline_message(self, now: float) -> str:
        end = self._keys.signing.made + SIGNING_LIFETIME
        date = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
        expires = "expired" if now >= end else "expires"
        return (
            f"The signing key of the node in {self._folder} {expires} on {date}, and its identity "
            "key is needed to renew it: run `fog relay key request`, `certify` where the identity "
            "key is, and `renew` here (or `fog authority key …`, `fog worker key …`)."
        )


def load_identity_key(path: Path) -> Ed25519Key:
    """Read an identity's secret wherever it is kept."""
    return _load_key(path, "identity")


def create_family_key(path: Path, random: Random = os.urandom) -> Ed25519Key:
    """Make a family's key in a new file at `path`."""
    if path.exists():
        raise KeyStoreError(f"{path} exists already: use it, or choose another name.")
    key = Ed25519Key(random(KEY_LENGTH))
    _write(path, encode_key("family", key))
    return key


def load_family_key(path: Path) -> Ed25519Key:
    """Read a family's key."""
    return _load_key(path, "family")


def keep_secret(
    path: Path, kind: str, random: Random = os.urandom, write: Write = write_atomic
) -> bytes:
    """Return the 32 secret bytes in the file at `path`, which is made if it is not there."""
    if not path.exists():
        _write(path, encode_key(kind, Ed25519Key(random(KEY_LENGTH))), write)
    return _load_key(path, kind).seed()


def issue_family_certificate(family: Ed25519Key, member: NodeId, now: float) -> Signed:
    """Certify that a node is one of the family's, for a year from `now`."""
    return issue(family, Use.FAMILY, member, now, FAMILY_LIFETIME)


def _make_private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        sync(folder.parent)
    except OSError as error:
        raise KeyStoreError(
            f"The folder {folder} cannot be made ({error.strerror}): choose another one."
        ) from error


def _write(path: Path, data: bytes, write: Write = write_atomic) -> None:
    try:
        write(path, data)
    except OSError as error:
        raise KeyStoreError(
            f"{path} cannot be written ({error.strerror}): free some space or mend its folder's "
            "permissions, then try again. What was there before is still whole."
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        raise KeyStoreError(
            f"{path} cannot be deleted ({error.strerror}): delete it by hand."
        ) from error


def _load_key(path: Path, kind: str) -> Ed25519Key:
    return _load(
        path,
        KEY_FILE_LIMIT,
        lambda data: decode_key(kind, data),
        "put back the copy that you kept",
    )


def _load(path: Path, limit: int, decode: Callable[[bytes], _T], remedy: str) -> _T:
    try:
        with path.open("rb") as file:
            mode = S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"{path} is not there: initialise the node first, or name another folder."
        ) from error
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be read ({error.strerror}).") from error
    if mode & 0o077:
        raise KeyStoreError(f"Others can read {path}: run chmod 600 {path}")
    try:
        return decode(data)
    except ProtocolError as error:
        raise KeyStoreError(f"{path} is damaged: {remedy}. ({error})") from error
