"""BYTES tensors for libraries that want Python strings, and back."""

from __future__ import annotations

import numpy as np

from modelport.errors import ModelRejectedInput
from modelport.tensors import Array


def to_texts(name: str, array: Array) -> Array:
    """BYTES as an object array of ``str``; raises ModelRejectedInput naming the input when an element is not UTF-8."""
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError:
        raise ModelRejectedInput(f"input {name!r}: the model takes text, and an element is not UTF-8") from None
    return texts.reshape(array.shape)


def to_bytes(array: Array) -> Array:
    """An array of ``str`` as BYTES, an object array of ``bytes``."""
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [str(element).encode() for element in array.reshape(-1).tolist()]
    return encoded.reshape(array.shape)
