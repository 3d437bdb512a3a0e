"""The `abuse` marker: what it marks runs only when asked for (`make abuse`)."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "abuse: compares throughputs under an attack; runs with `-m abuse` only"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "abuse" in config.option.markexpr:
        return
    chosen = [item for item in items if item.get_closest_marker("abuse") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
