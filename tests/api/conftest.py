"""What the protocols' tests share."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def free_port() -> Iterator[int]:
    """A port that is held for whoever binds it with SO_REUSEPORT, as the supervisor holds one for its gateways."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
