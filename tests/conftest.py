"""What all tests share: nothing passes or fails by how fast the machine is."""

import signal

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Tests in the background inherit signals that are ignored, and would hand that on to programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start networks: they take long, and must not be the last ones."""
    items.sort(key=lambda item: {"system", "nat"}.isdisjoint(item.path.parts))
