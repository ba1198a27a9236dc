"""How large the learning rate is at a step, as a factor of the one that was asked for."""

from __future__ import annotations

import math

from modelport.training.loop import LoopOptions


def factor(options: LoopOptions, step: int, steps: int, steps_an_epoch: int) -> float:
    """The factor for step ``step`` (from 0) of ``steps``; ``plateau`` is 1 here, and falls by the loop's figures."""
    rising = math.ceil(options.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if options.schedule == "step":
        return float(options.step_factor ** (step // steps_an_epoch // options.step_epochs))
    done = (step - rising) / max(steps - rising, 1)
    if options.schedule == "linear":
        return 1.0 - done
    if options.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0
