"""Bodies of peers that leave the format to their user: JSON rows by orjson for m1, raw float32 for the others."""

import numpy as np
import orjson
from onnx_model import MODEL, OnnxModel


def read(model: OnnxModel, body: bytes) -> np.ndarray:
    """``{"data": [[…]]}``, or raw float32."""
    if MODEL == "m1":
        return np.array(orjson.loads(body)["data"], np.float32)
    return model.from_raw(body)


def write(rows: np.ndarray) -> bytes:
    """``{"result": [[…]]}``, or raw float32."""
    if MODEL == "m1":
        return orjson.dumps({"result": rows}, option=orjson.OPT_SERIALIZE_NUMPY)
    return rows.tobytes()
