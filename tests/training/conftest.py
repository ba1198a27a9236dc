from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Libraries that are asked beside a recipe compute as it does, with one thread."""
    import sklearn.ensemble  # noqa: F401  (its threads are limited only once it is loaded)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
