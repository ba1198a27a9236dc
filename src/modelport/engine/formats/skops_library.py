"""skops, loaded without torch.

To list scikit-learn's estimators it walks through all of scikit-learn's packages, and one of them is an adapter that
loads torch where that is installed: two seconds, of no use to any estimator.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ADAPTER = "sklearn.externals.array_api_compat.torch"


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """For so long it cannot be imported, which the walk passes over."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # how the import system is told
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden(_ADAPTER):
    import skops.io as library
    from skops.io.exceptions import UntrustedTypesFoundException

__all__ = ["UntrustedTypesFoundException", "library"]
