"""python runner.py request.json: the model's answer to {"inputs": [{name, datatype, shape, data}]}, as a server's.

Needs numpy and ai-edge-litert; with preprocessing also what preprocess.py names.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

here = Path(__file__).parent
manifest = json.loads((here / "manifest.json").read_text())
types = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
given = json.loads(Path(sys.argv[1]).read_text())["inputs"]
feed = {
    one["name"]: np.array(one["data"], types.get(one["datatype"], one["datatype"].lower())).reshape(one["shape"])
    for one in given
}
if manifest["preprocessing"]:
    from preprocess import prepared  # type: ignore[import-not-found]

    feed = prepared(feed, manifest, here)
model = Interpreter(str(here / manifest["details"]["model_file"]))
if key := manifest["details"].get("signature"):
    found = model.get_signature_runner(key)(**feed)
else:
    for about in model.get_input_details():
        model.resize_tensor_input(about["index"], feed[about["name"]].shape)
    model.allocate_tensors()
    for about in model.get_input_details():
        model.set_tensor(about["index"], feed[about["name"]])
    model.invoke()
    found = {about["name"]: model.get_tensor(about["index"]) for about in model.get_output_details()}
shown = {name: {"shape": list(array.shape), "data": array.reshape(-1).tolist()} for name, array in found.items()}
print(json.dumps({"outputs": shown}))
