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
from fogbank.relay.files_shell import sync_directory, write_atomic
from fogbank.relay.keys import KEY_LENGTH, Ed25519Key, NodeId, Signed, X25519Key
from fogbank.relay.link.handshake import LinkCredentials
from fogbank.relay.node_keys import (
    KEY_FILE_LIMIT,
    STORE_LIMIT,
    NodeKeys,
    Random,
    decode_key,
    encode_key,
)

IDENTITY_FILE = "identity.key"
KEYS_FILE = "node.keys"

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
        return changed

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

    def _offline_message(self, now: float) -> str:
        end = self._keys.signing.made + SIGNING_LIFETIME
        date = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
        expires = "expired" if now >= end else "expires"
        return (
            f"The signing key of the node in {self._folder} {expires} on {date}, and its identity "
            f"key is needed to renew it: put it back as {self._folder / IDENTITY_FILE}, start the "
            "node or wait an hour, then take it away again."
        )


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


def issue_family_certificate(family: Ed25519Key, member: NodeId, now: float) -> Signed:
    """Certify that a node is one of the family's, for a year from `now`."""
    return issue(family, Use.FAMILY, member, now, FAMILY_LIFETIME)


def _make_private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        sync_directory(folder.parent)
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
