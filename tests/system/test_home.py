import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fogbank.directory.addresses import Address
from fogbank.directory.descriptor import Role
from fogbank.directory.network import Timing, dump_network, open_network
from fogbank.nodes.home import Home, HomeError, Settings
from fogbank.nodes.network_file import (
    card_of,
    create_network,
    fingerprint,
    read_card,
    save_network,
    sign_network,
)
from fogbank.nodes.user import join_network
from fogbank.relay.certificates import Use, open_certificate
from fogbank.relay.errors import ProtocolError
from tests.directory.factory import SyntheticNetwork, make_network

NOW = 1_800_000_000.0
TIMING = Timing(int(NOW), 600, 30, 10, 3)


def authority(folder: Path, number: int) -> Home:
    home = Home(folder / f"a{number}")
    address = Address(f"127.{number}.0.1", 9000 + number)
    home.create(Settings(Role.AUTHORITY, f"a{number}", (address,)), None, None, NOW)
    (home.folder / "card.toml").write_text(card_of(home.folder))
    return home


@pytest.mark.parametrize(
    "settings",
    [
        Settings(Role.RELAY, "alpha", (Address("192.0.2.1", 9001),)),
        Settings(Role.RELAY, "alpha", (Address("192.0.2.1", 9001), Address("2001:db8::1", 9))),
        Settings(Role.AUTHORITY, "alpha", (Address("192.0.2.1", 9001),), tor_port=0),
        Settings(Role.WORKER, "omega", cores=3, memory=1 << 28, floor=0, source="127.3.0.1"),
    ],
)
def test_settings_come_back_as_they_were_written(settings: Settings) -> None:
    assert Settings.load(settings.dump()) == settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('nickname = "a"', "role"),
        ('role = "king"\nnickname = "a"', "KING"),
        ('role = "relay"\nnickname = "a"', "needs an address"),
        ('role = "relay"\nnickname = "no spaces"\naddresses = ["192.0.2.1:1"]', "nickname"),
        ('role = "worker"\nnickname = "a"\naddresses = ["192.0.2.1:1"]', "only dials out"),
        ('role = "worker"\nnickname = "a"\ncores = 0', "at least one core"),
        ('role = "worker"\nnickname = "a"\nfloor = -1', "fuel per second"),
        ('role = "worker"\nnickname = "a"\ntor_port = 9030', "only an authority"),
        ('role = "worker"\nnickname = "a"\ntor_port = "9030"', "no port"),
        ('role = "worker"\nnickname = "a"\ntor_port = 65536', "no port"),
        ('role = "worker"\nnickname = "a"\ncolour = 1', "'colour' is not a setting"),
        ('role = "relay"\nnickname = "a"\naddresses = ["example.org:1"]', "not an address"),
    ],
)
def test_settings_that_make_no_node_are_explained(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "node.toml").write_text(text)
    with pytest.raises(HomeError, match=sentence):
        Home(tmp_path).settings()


def test_a_node_is_made_once_and_only_its_owner_reads_its_keys(tmp_path: Path) -> None:
    home = Home(tmp_path / "node")
    settings = Settings(Role.WORKER, "omega")
    store = home.create(settings, None, None, NOW)
    assert home.settings() == settings
    assert home.keys(NOW).identity == store.identity
    for path in (home.folder / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(HomeError, match="holds a node already"):
        home.create(settings, None, None, NOW)


def test_a_creation_that_was_cut_off_is_completed_with_the_same_identity(tmp_path: Path) -> None:
    home = Home(tmp_path / "node")
    store = home.create(Settings(Role.WORKER, "omega"), None, None, NOW)
    (home.folder / "node.toml").unlink()
    assert home.create(Settings(Role.WORKER, "omega"), None, None, NOW).identity == store.identity


def test_nodes_of_one_family_show_certificates_of_one_issuer(tmp_path: Path) -> None:
    family = tmp_path / "family.key"
    issuers = set()
    for name in ("one", "two"):
        home = Home(tmp_path / name)
        store = home.create(Settings(Role.WORKER, name), None, family, NOW)
        (signed,) = home.families()
        certificate = open_certificate(signed, Use.FAMILY, NOW)
        assert certificate.subject == store.identity
        issuers.add(certificate.issuer)
    assert len(issuers) == 1


def test_authorities_make_a_network_from_cards_and_signatures(tmp_path: Path) -> None:
    homes = [authority(tmp_path, number) for number in range(1, 5)]
    # Two operators are here with their folders, two sent their cards and sign later.
    cards = [homes[0].folder, homes[1].folder]
    cards += [home.folder / "card.toml" for home in homes[2:]]
    path = tmp_path / "network.toml"
    signed = create_network(cards, "ours", TIMING, b"i" * 32, test=True)
    save_network(path, signed)
    assert [pin.nickname for pin in signed.document.authorities] == ["a1", "a2", "a3", "a4"]
    with pytest.raises(ProtocolError, match="3 are needed"):
        open_network(path.read_text())
    save_network(path, sign_network(path, homes[3].folder))
    document = open_network(path.read_text())
    assert fingerprint(document) == fingerprint(signed.document)
    assert homes[0].set_network(path.read_text()) == homes[0].network() == document


def test_only_authorities_of_the_network_sign_it(tmp_path: Path) -> None:
    homes = [authority(tmp_path, number) for number in range(1, 6)]
    path = tmp_path / "network.toml"
    cards = [home.folder for home in homes[:4]]
    save_network(path, create_network(cards, "ours", TIMING, b"i" * 32, test=True))
    with pytest.raises(HomeError, match="does not name the node"):
        sign_network(path, homes[4].folder)


def test_what_is_no_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    for text in ("", "identity = 3", 'identity = "x"\nnickname = "a"\naddresses = []', "\0"):
        path.write_text(text)
        with pytest.raises(HomeError, match="not an authority's card"):
            read_card(path)


def test_a_version_that_came_before_is_no_mistake_and_takes_nobody_back(tmp_path: Path) -> None:
    made = make_network(4)
    first = dump_network(made.signed())
    later = replace(made.document, version=2, in_force=made.document.timing.start + 300)
    home = Home(tmp_path)
    for text in (first, dump_network(SyntheticNetwork(later, made.authorities).signed())):
        join_network(home, text)
    assert join_network(home, first).version == home.network().version == 2
    with pytest.raises(HomeError, match="another network"):
        join_network(home, dump_network(make_network(4, name="others").signed()))


def test_a_home_without_network_says_how_to_join(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="fog join"):
        Home(tmp_path).network()


def test_a_damaged_network_file_is_explained(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for data in (b"", b"\xff\xfe", b"name = 3", b"[[[["):
        home.network_file.write_bytes(data)
        with pytest.raises(HomeError, match=r"network\.toml.*Delete it"):
            home.network()


def test_a_network_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    home = authority(tmp_path, 1)
    signed = create_network([home.folder], "ours", TIMING, b"i" * 32, test=True)
    path = tmp_path / "network.toml"
    save_network(path, signed)
    with pytest.raises(HomeError, match=r"cannot be written .*choose another folder"):
        Home(path / "below a file").set_network(path.read_text())
