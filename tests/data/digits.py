"""The 1797 digits that scikit-learn brings along, as a table; and a classifier of them as ONNX."""

from __future__ import annotations

from functools import cache

import pyarrow as pa


@cache
def digits_table() -> pa.Table:
    """Columns ``p0`` … ``p63`` and ``label``."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return pa.table({**{f"p{index}": images[:, index] for index in range(64)}, "label": labels})


@cache
def digits_onnx() -> bytes:
    """FP32 ``X`` [-1, 64] to ``label`` and ``probabilities``."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=200).fit(images / 16, labels)
    classifier.coef_ /= 16
    options = {"zipmap": False}
    converted = to_onnx(
        classifier, images[:1].astype("float32"), options=options, target_opset={"": 18, "ai.onnx.ml": 3}
    )
    return bytes(converted.SerializeToString())
