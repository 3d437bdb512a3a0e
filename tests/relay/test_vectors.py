"""The relay room against spec/vectors: values that were worked out without its code."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from fogbank.relay.certificates import Chain, Use, issue, open_certificate
from fogbank.relay.errors import ProtocolError
from fogbank.relay.handshake import (
    EK_LENGTH,
    HopRequest,
    OriginHandshake,
    _encapsulate,
    answer_handshake,
)
from fogbank.relay.keys import Ed25519Key, Signed, X25519Key
from fogbank.relay.replay import ReplayCache
from tests.vectors import generated

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


CERTIFICATES = load("01-certificates.json")
HANDSHAKES = load("03-handshake.json")["handshakes"]
ML_KEM = load("ml-kem-768.json")


@pytest.mark.parametrize("name", ["01-certificates", "03-handshake", "03-layers", "03-work"])
def test_the_generators_give_the_files(name: str) -> None:
    assert generated(name.partition("-")[2]) == load(f"{name}.json")


@pytest.mark.parametrize("vector", HANDSHAKES, ids=lambda v: v["name"])
def test_hop_handshakes(vector: dict[str, str]) -> None:
    value = {key: bytes.fromhex(text) for key, text in vector.items() if key != "name"}
    request = HopRequest.decode(value["cm"])
    assert request.encode() == value["cm"]
    origin = OriginHandshake(
        value["identity"],
        value["onion_key"],
        value["network_id"],
        request,
        value["x25519_secret"],
        value["mlkem_seed"],
    )
    assert origin.message == value["m1"]
    kem = value["kem_secret"], value["kem_ciphertext"]
    answer, seen, keys = answer_handshake(
        value["m1"],
        value["identity"],
        [X25519Key(value["onion_secret"])],
        value["network_id"],
        ReplayCache(),
        value["y_secret"],
        encapsulate=lambda _: kem,
    )
    assert answer == value["m2"]
    assert seen == request
    assert (keys.forward, keys.backward) == (value["forward"], value["backward"])
    assert origin.finish(answer) == keys


@pytest.mark.parametrize("name", ["signing", "link", "onion", "family"])
def test_certificates(name: str) -> None:
    now, data = CERTIFICATES["now"], bytes.fromhex(CERTIFICATES["certificates"][name])
    seeds = {key: bytes.fromhex(seed) for key, seed in CERTIFICATES["seeds"].items()}
    signer = Ed25519Key(seeds[{"signing": "identity", "family": "family"}.get(name, "signing")])
    subject = bytes.fromhex(CERTIFICATES["identity" if name == "family" else f"{name}_key"])
    signed = Signed.decode(data, 512)
    use = Use[name.upper()]
    cert = open_certificate(signed, use, now, signer.public)
    assert cert.subject == subject
    assert issue(signer, use, subject, now, cert.expires - now).encode() == data


def test_a_chain() -> None:
    keys = Chain.decode(bytes.fromhex(CERTIFICATES["chain"])).verify(CERTIFICATES["now"])
    assert keys.identity.hex() == CERTIFICATES["identity"]
    assert keys.signing.hex() == CERTIFICATES["signing_key"]
    assert keys.link.hex() == CERTIFICATES["link_key"]
    assert keys.onion.hex() == CERTIFICATES["onion_key"]


@pytest.mark.parametrize("case", CERTIFICATES["link_accepted"], ids=lambda c: c["why"])
def test_a_certificate_is_accepted(case: dict[str, Any]) -> None:
    data = bytes.fromhex(CERTIFICATES["certificates"]["link"])
    issuer = bytes.fromhex(CERTIFICATES["signing_key"])
    open_certificate(Signed.decode(data, 512), Use.LINK, case["now"], issuer)


def open_link(data: bytes, now: int) -> None:
    issuer = bytes.fromhex(CERTIFICATES["signing_key"])
    open_certificate(Signed.decode(data, 512), Use.LINK, now, issuer)


@pytest.mark.parametrize("case", CERTIFICATES["link_refused"], ids=lambda c: c["why"])
def test_a_certificate_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        open_link(bytes.fromhex(case["certificate"]), case["now"])


@pytest.mark.parametrize("case", ML_KEM["decapsulation"], ids=lambda c: f"{c['tcId']}")
def test_ml_kem_against_published_values(case: dict[str, Any]) -> None:
    key = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(case["seed"]))
    ciphertext = bytes.fromhex(case["c"])
    if case["result"] == "invalid":
        with pytest.raises(ValueError, match="ciphertext"):
            key.decapsulate(ciphertext)
        return
    assert key.public_key().public_bytes_raw().hex() == case["ek"]
    assert key.decapsulate(ciphertext).hex() == case["K"]


@pytest.mark.parametrize("case", ML_KEM["refused_keys"], ids=lambda c: c["comment"])
def test_keys_of_another_length_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="a hop handshake failed"):
        _encapsulate(bytes.fromhex(case["ek"]))


def test_every_key_that_is_not_reduced_is_refused() -> None:
    """FIPS 203 §7.2: each of these has one coefficient that is not below the modulus."""
    lines = gzip.decompress((VECTORS / "ml-kem-768-modulus.txt.gz").read_bytes()).split()
    assert len(lines) == 780
    for line in lines:
        ek = bytes.fromhex(line.decode())
        assert len(ek) == EK_LENGTH
        with pytest.raises(ProtocolError, match="a hop handshake failed"):
            _encapsulate(ek)


def test_encapsulation_and_decapsulation_agree() -> None:
    for case in ML_KEM["decapsulation"]:
        if case["result"] == "valid":
            key = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(case["seed"]))
            secret, ciphertext = _encapsulate(bytes.fromhex(case["ek"]))
            assert key.decapsulate(ciphertext) == secret
