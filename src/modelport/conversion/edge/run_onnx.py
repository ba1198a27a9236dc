"""python runner.py request.json: the model's answer to {"inputs": [{name, datatype, shape, data}]}, as a server's.

Needs numpy and onnxruntime; with preprocessing also what preprocess.py names.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

here = Path(__file__).parent
manifest = json.loads((here / "manifest.json").read_text())
session = onnxruntime.InferenceSession(here / manifest["details"]["model_file"], providers=["CPUExecutionProvider"])
types = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
given = json.loads(Path(sys.argv[1]).read_text())["inputs"]
feed = {
    one["name"]: np.array(one["data"], types.get(one["datatype"], one["datatype"].lower())).reshape(one["shape"])
    for one in given
}
if manifest["preprocessing"]:
    from preprocess import prepared  # type: ignore[import-not-found]

    feed = prepared(feed, manifest, here)
names = [spec["name"] for spec in manifest["signature"]["outputs"]]
found = dict(zip(names, session.run(names, feed), strict=True))
shown = {name: {"shape": list(array.shape), "data": array.reshape(-1).tolist()} for name, array in found.items()}
print(json.dumps({"outputs": shown}))
