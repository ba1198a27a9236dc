"""Modelport: models in, services out.

The names below load on first use, so that ``import modelport`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelport.errors import ModelportError
    from modelport.sdk.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "ModelportError", "__version__"]

_HOMES = {
    "Client": "modelport.sdk.client",
    "AsyncClient": "modelport.sdk.client",
    "ModelportError": "modelport.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modelport' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  (start-up time is a promise)

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
