"""What tests of this room share."""

from pathlib import Path

import pytest

from fogbank.relay.keystore_shell import KeyStore
from tests.relay.stores import NOW, Drbg


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    """A new node's keys, in a folder of their own."""
    return KeyStore.create(tmp_path / "keys", NOW, Drbg())
