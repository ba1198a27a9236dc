"""Makes what was fitted in float64 answer the same in float32, as ONNX Runtime computes; no answer changes by it.

Thresholds of boosted trees fall to the nearest float32 below: float32 values lie on the same side as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from modelport.tensors import Array
from modelport.training.tabular.calibration import IsotonicCalibrated


def settle(estimator: Any) -> None:
    """All that is inside a fitted estimator, in place."""
    for found in _within(estimator):
        for trees in getattr(found, "_predictors", ()):
            for tree in trees:
                if "num_threshold" in (tree.nodes.dtype.names or ()):
                    tree.nodes["num_threshold"] = floor32(tree.nodes["num_threshold"])


def _within(estimator: Any) -> Iterator[Any]:
    yield estimator
    parts = [each.estimator for each in getattr(estimator, "calibrated_classifiers_", ())]
    if isinstance(estimator, IsotonicCalibrated):
        parts.append(estimator.estimator)
    if hasattr(estimator, "named_estimators_"):  # voting and stacking; forests have estimators_ too
        parts += [*estimator.estimators_, getattr(estimator, "final_estimator_", None)]
    for part in parts:
        if part is not None:
            yield from _within(part)


def floor32(thresholds: Array) -> Array:
    """The greatest float32 that is not above, as float64."""
    near = thresholds.astype(np.float32)
    above = near.astype(np.float64) > thresholds
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    return near.astype(np.float64)
