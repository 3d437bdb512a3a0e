"""An identity kept elsewhere certifies signing keys there (spec/01 §2.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogbank.relay import keystore_shell
from fogbank.relay.certificates import DAY, SIGNING_LIFETIME, Use, issue
from fogbank.relay.errors import KeyStoreError, ProtocolError
from fogbank.relay.keys import Ed25519Key, Signed
from fogbank.relay.keystore_shell import CERTIFICATE_FILE, NEXT_FILE, KeyStore, load_identity_key
from fogbank.relay.node_keys import answer_request, encode_request
from tests.relay.stores import NOW, reopened


def certified(store: KeyStore, elsewhere: Path, now: float) -> bytes:
    """Do what the operator does where the identity is."""
    return answer_request(store.request_signing(), load_identity_key(elsewhere), now)[1].encode()


def test_a_node_lives_on_while_its_identity_is_elsewhere(store: KeyStore, tmp_path: Path) -> None:
    elsewhere, identity = tmp_path / "vault.key", store.identity
    store.take_offline(elsewhere)
    assert not store.identity_is_here
    assert load_identity_key(elsewhere).public == identity
    first = store.signing_key.public
    for month in range(1, 4):
        now = NOW + month * 25 * DAY
        with pytest.raises(KeyStoreError, match="key request"):
            store.rotate(now)
        store.install_signing(certified(store, elsewhere, now), now)
        assert store.rotate(now)
        assert store.signing_key.public != first
        assert store.signing_expires == int(now) + SIGNING_LIFETIME
        store.chain.verify(now + 1)
        assert store.chain.verify(now + 1).identity == identity
        assert {p.name for p in store._folder.iterdir()} == {"node.keys"}
        store = reopened(store)
        assert not store.rotate(now + 1)


def test_link_and_onion_keys_stay_when_the_signing_key_changes(
    store: KeyStore, tmp_path: Path
) -> None:
    """What clients know of the node, its onion key, holds on."""
    elsewhere = tmp_path / "vault.key"
    before = [key.public for key in store.onion_keys()], store.credentials(NOW).link_key.public
    store.take_offline(elsewhere)
    store.install_signing(certified(store, elsewhere, NOW + 5), NOW + 5)
    assert store.rotate(NOW + 5)
    after = [key.public for key in store.onion_keys()], store.credentials(NOW + 5).link_key.public
    assert before == after


def test_a_request_can_be_made_again(store: KeyStore) -> None:
    assert store.request_signing() == store.request_signing()


def wrong_certificates(identity: Ed25519Key, wanted: bytes) -> dict[str, Signed]:
    other = Ed25519Key(bytes(32))
    return {
        "of another key": issue(identity, Use.SIGNING, other.public, NOW, SIGNING_LIFETIME),
        "by another identity": issue(other, Use.SIGNING, wanted, NOW, SIGNING_LIFETIME),
        "for another use": issue(identity, Use.LINK, wanted, NOW, SIGNING_LIFETIME),
        "for ever": issue(identity, Use.SIGNING, wanted, NOW, 100 * SIGNING_LIFETIME),
        "expired": issue(identity, Use.SIGNING, wanted, NOW - 31 * DAY, SIGNING_LIFETIME),
        "of the future": issue(identity, Use.SIGNING, wanted, NOW + DAY, SIGNING_LIFETIME),
    }


@pytest.mark.parametrize(
    "name",
    ["of another key", "by another identity", "for another use", "for ever", "expired",
     "of the future"],
)  # fmt: skip
def test_wrong_certificates_are_refused(store: KeyStore, name: str) -> None:
    identity = store.identity_key()
    wanted, _ = answer_request(store.request_signing(), identity, NOW)
    wrong = wrong_certificates(identity, wanted)[name]
    with pytest.raises(KeyStoreError, match="cannot be used"):
        store.install_signing(wrong.encode(), NOW)
    assert not (store._folder / CERTIFICATE_FILE).exists()
    with pytest.raises(KeyStoreError, match="cannot be used"):
        store.install_signing(b"no certificate", NOW)


def test_a_certificate_without_a_request_is_refused(store: KeyStore) -> None:
    certificate = issue(store.identity_key(), Use.SIGNING, bytes(32), NOW, SIGNING_LIFETIME)
    with pytest.raises(KeyStoreError):
        store.install_signing(certificate.encode(), NOW)


def test_requests_to_others_are_not_answered(store: KeyStore) -> None:
    other = Ed25519Key(bytes(32))
    with pytest.raises(ProtocolError, match="another node's"):
        answer_request(store.request_signing(), other, NOW)
    with pytest.raises(ProtocolError):
        answer_request(b"garbage", other, NOW)
    altered = encode_request(other.public, bytes(32)).replace(b"signing", b"signinG")
    with pytest.raises(ProtocolError, match="no request"):
        answer_request(altered, other, NOW)


def test_a_certificate_that_waited_too_long_is_passed_over(store: KeyStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "vault.key"
    store.take_offline(elsewhere)
    store.install_signing(certified(store, elsewhere, NOW), NOW)
    with pytest.raises(KeyStoreError, match="expired on"):
        store.rotate(NOW + 31 * DAY)
    later = NOW + 31 * DAY
    store.install_signing(certified(store, elsewhere, later), later)
    assert store.rotate(later)


def test_nothing_is_moved_onto_another_file(store: KeyStore, tmp_path: Path) -> None:
    taken = tmp_path / "vault.key"
    taken.write_bytes(b"something else")
    with pytest.raises(KeyStoreError, match="exists already"):
        store.take_offline(taken)
    assert store.identity_is_here
    with pytest.raises(KeyStoreError):
        store.take_offline(tmp_path / "no such folder" / "vault.key")
    assert store.identity_is_here


@pytest.mark.parametrize("step", range(3))
def test_a_kill_while_a_key_is_taken_up_loses_nothing(
    store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before the keys are written, after that, and between the removals."""
    elsewhere = tmp_path / "vault.key"
    store.take_offline(elsewhere)
    wanted, certificate = answer_request(
        store.request_signing(), load_identity_key(elsewhere), NOW + 5
    )
    store.install_signing(certificate.encode(), NOW + 5)
    calls = iter(range(10))

    def killing(name: str) -> None:
        whole = getattr(keystore_shell, name)

        def call(*arguments: object) -> None:
            if next(calls) == step:
                raise KeyboardInterrupt
            whole(*arguments)

        monkeypatch.setattr(keystore_shell, name, call)

    with monkeypatch.context():
        killing("_write")
        killing("_remove")
        with pytest.raises(KeyboardInterrupt):
            store.rotate(NOW + 5)
    monkeypatch.undo()
    store = reopened(store)
    store.rotate(NOW + 6)
    assert store.signing_key.public == wanted
    assert not (store._folder / CERTIFICATE_FILE).exists()
    # The key in use is never asked for again.
    assert answer_request(store.request_signing(), load_identity_key(elsewhere), NOW)[0] != wanted
    assert (store._folder / NEXT_FILE).exists()
