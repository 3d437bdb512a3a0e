"""Which runtimes there are, and the folder that holds them (spec/07 §1.1)."""

import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.outcome import ModuleRefused, Outcome
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.runtimes import catalogue, store_shell
from fogbank.sandbox.runtimes.catalogue import CATALOGUE, RuntimeId, RuntimeSpec
from fogbank.sandbox.runtimes.python import BOOTSTRAP
from fogbank.sandbox.runtimes.store_shell import RuntimeRefused, RuntimeStore

SPEC = Path(__file__).resolve().parents[2] / "spec" / "07-sandbox.md"
MODULE = b"\0asm, as far as a store cares"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> RuntimeSpec:
    """A catalogue with one small runtime in it."""
    digest = hashlib.sha256(MODULE).digest()
    spec = dataclasses.replace(CATALOGUE[0], name="small", digest=digest, size=len(MODULE))
    for module in (catalogue, store_shell):
        monkeypatch.setattr(module, "CATALOGUE", (spec,))
    return spec


@pytest.fixture
def store(tmp_path: Path) -> RuntimeStore:
    return RuntimeStore(tmp_path / "runtimes")


def test_the_spec_lists_the_catalogue() -> None:
    rows = re.findall(
        r"^\| (\w+) \| .*, ([\d ]+) bytes \| `(\w{64})` \| (.+) \| `(\S+)` \|$",
        SPEC.read_text(),
        re.MULTILINE,
    )
    assert [
        (spec.name, f"{spec.size:,}".replace(",", " "), spec.digest.hex(), spec.licence, spec.entry)
        for spec in CATALOGUE
    ] == [tuple(item.strip() for item in row) for row in rows]


def test_the_program_that_starts_python_is_the_one_that_the_spec_names() -> None:
    assert f"SHA-256 `{hashlib.sha256(BOOTSTRAP.encode()).hexdigest()}`" in SPEC.read_text()


def test_a_runtime_is_found_by_name_suffix_and_digest() -> None:
    for spec in CATALOGUE:
        assert catalogue.by_name(spec.name) is spec
        assert catalogue.by_digest(spec.digest) is spec
        assert spec.id == RuntimeId(spec.digest)
        for suffix in spec.suffixes:
            assert catalogue.by_suffix(f"job{suffix}") is spec
            assert spec.entry.endswith(suffix)
    assert catalogue.by_name("cobol") is None
    assert catalogue.by_suffix("job.wasm") is None
    assert catalogue.by_digest(bytes(32)) is None
    with pytest.raises(ValueError, match="32 bytes"):
        RuntimeId(b"short")


def test_a_store_keeps_what_the_catalogue_names(store: RuntimeStore, known: RuntimeSpec) -> None:
    assert store.held() == ()
    assert store.add(MODULE) == known
    assert store.held() == (known,)
    assert store.read(known.digest) == MODULE
    assert [file.name for file in store.folder.iterdir()] == [f"{known.digest.hex()}.wasm"]
    store.remove("small")
    assert store.held() == ()
    assert list(store.folder.iterdir()) == []


def test_a_store_takes_nothing_else(store: RuntimeStore, known: RuntimeSpec) -> None:
    with pytest.raises(RuntimeRefused, match="no runtime of this release, which knows small"):
        store.add(MODULE + b"?")
    assert not store.folder.exists()
    with pytest.raises(RuntimeRefused, match="small is not held here"):
        store.read(known.digest)
    with pytest.raises(RuntimeRefused, match="is not held here"):
        store.read(bytes(32))
    with pytest.raises(RuntimeRefused, match="small is not held here"):
        store.remove("small")


def test_a_damaged_runtime_is_never_handed_out(store: RuntimeStore, known: RuntimeSpec) -> None:
    store.add(MODULE)
    file = next(store.folder.iterdir())
    file.write_bytes(MODULE.swapcase())
    with pytest.raises(RuntimeRefused, match="damaged: remove the runtime small and add it again"):
        store.read(known.digest)
    file.write_bytes(MODULE[:-1])
    assert store.held() == ()
    store.add(MODULE)
    assert store.read(known.digest) == MODULE


async def test_a_sandbox_refuses_a_runtime_that_it_does_not_hold(store: RuntimeStore) -> None:
    for held in (store, None):
        async with open_sandbox(SandboxConfig(processes=1, spares=0), held) as sandbox:
            with pytest.raises(ModuleRefused) as refused:
                async with sandbox.open_job(CATALOGUE[0].id):
                    pass
            assert refused.value.outcome is Outcome.UNKNOWN_RUNTIME
