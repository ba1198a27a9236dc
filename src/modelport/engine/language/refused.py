"""What an engine does not know is refused by name, never left out in silence."""

from __future__ import annotations

from collections.abc import Sequence

from modelport.engine.generation import Sampling
from modelport.errors import InvalidInput


def refuse_unknown(sampling: Sampling, lacks: Sequence[str], engine: str) -> None:
    """Raises InvalidInput naming what is asked for and not there. ``alternatives`` are likeliest tokens beside the
    chosen one."""
    for name in lacks:
        if name == "alternatives":
            if sampling.logprobs:
                raise InvalidInput(f"the engine {engine} tells chosen tokens' logprobs only: top_logprobs must be 0")
        elif getattr(sampling, name) != getattr(_DEFAULT, name):
            raise InvalidInput(f"the engine {engine} does not know {name!r}")


_DEFAULT = Sampling()
