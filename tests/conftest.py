"""For all tests: a slow machine is no failure."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Started in the background, tests inherit that Ctrl-C is ignored, and so would the programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
