"""What all tests share: nothing passes or fails by how fast the machine is."""

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start networks: they take long, and must not be the last ones."""
    items.sort(key=lambda item: {"system", "nat"}.isdisjoint(item.path.parts))
