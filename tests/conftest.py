"""For all tests: a slow machine is no failure; what is long waits for `make prove`."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Started in the background, tests inherit that Ctrl-C is ignored, and so would the programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``long`` are run by the makefile's other verbs: `make test` has to stay short."""
    if any(os.environ.get(f"MODELPORT_{word}") for word in ("PROVE", "LONG", "CHAOS")):
        return
    skip = pytest.mark.skip(reason="long: MODELPORT_LONG=1, or make prove")
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(skip)
