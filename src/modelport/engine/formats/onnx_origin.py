"""What an exporter writes into an ONNX file about the machine that it ran on; nobody else's business."""

from __future__ import annotations

from onnx import ModelProto


def without_origin(model: ModelProto) -> ModelProto:
    """Takes out files and lines of the code that was exported, in place; what callers see stays."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        for part in (graph.node, graph.value_info):
            for one in part:
                one.doc_string = ""
                del one.metadata_props[:]
    for named in (model.graph.input, model.graph.output, model.graph.initializer):
        for one in named:
            one.doc_string = ""
            del one.metadata_props[:]
    return model
