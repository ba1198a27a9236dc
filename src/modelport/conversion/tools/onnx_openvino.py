"""An ONNX model as OpenVINO's intermediate representation: ``model.xml`` and ``model.bin``, weights as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openvino

from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.errors import InvalidInput

FILE = "model.xml"
_VERSION = openvino.__version__.partition("-")[0]


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The same names in and out, free dimensions stay free; outputs that are texts are left out."""
    graph, _ = onnx_file.read(Path(request["folder"]), request["files"])
    left_out = onnx_file.without_texts(graph, "OpenVINO")
    (out / "tmp").mkdir()
    onnx_file.write(graph, out / "tmp")
    try:
        model = openvino.convert_model(out / "tmp" / onnx_file.FILE)
    except Exception as error:  # its frontends raise several kinds
        raise InvalidInput(f"OpenVINO {_VERSION} cannot convert the model: {said(error)}") from None
    for ports, infos in ((model.inputs, graph.graph.input), (model.outputs, graph.graph.output)):
        names = [info.name for info in infos]
        for place, port in enumerate(ports):
            known = [name for name in names if name in port.get_names()] or [names[place]]
            port.get_tensor().set_names({known[0]})
    if labels := onnx_file.labels_of(graph):
        model.set_rt_info(json.dumps(labels, ensure_ascii=False), ["modelport", "labels"])
    openvino.save_model(model, out / FILE, compress_to_fp16=False)
    for path in (out / "tmp").iterdir():
        path.unlink()
    (out / "tmp").rmdir()
    return {"report": {"left_out": left_out}, "versions": {"openvino": _VERSION}}
