"""What the server says of itself and of a model, in Triton's terms; REST answers it as it is, gRPC as messages.

A model's ``card`` is for clients of OpenAI, vLLM and Anthropic, in one object.
"""

from __future__ import annotations

from typing import Any

import modelport
from modelport.api.openai.embeddings import gives_embeddings
from modelport.engine.dataplane import Endpoint
from modelport.engine.routing import Route
from modelport.engine.stats import EndpointStats
from modelport.schemas.text_tasks import TextTask
from modelport.tensors import TensorSpec

#: Extensions of the Open Inference Protocol that are spoken here.
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "generate",
    "model_repository",
    "model_configuration",
    "statistics",
]


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "modelport", "version": modelport.__version__, "extensions": EXTENSIONS}


def metadata(route: Route) -> dict[str, Any]:
    """Name, versions, platform, inputs and outputs of a model; with its one input the features it was fitted on."""
    inputs = [_tensor(spec) for spec in route.signature.inputs]
    if route.features and len(inputs) == 1:
        inputs[0]["parameters"] = {"features": list(route.features)}
    return {
        "name": route.name,
        "versions": [str(route.version)],
        "platform": route.platform,
        "inputs": inputs,
        "outputs": [_tensor(spec) for spec in route.signature.outputs],
    }


def card(route: Route) -> dict[str, Any]:
    """A model as ``/v1/models`` lists it. When it was made is not known here: 1970, which Anthropic's API allows."""
    found = {
        "id": route.name,
        "object": "model",
        "created": 0,
        "owned_by": route.project,
        "root": f"{route.model}:{route.version}",
        "parent": None,
        "type": "model",
        "display_name": route.name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }
    if route.language is not None:
        found |= {"max_model_len": route.language.context, "max_input_tokens": route.language.context}
    return found | {"task": task} if (task := text_task(route)) else found


def text_task(route: Route) -> TextTask | None:
    """What the model does with texts; None for another kind of model."""
    if route.language is not None:
        return "chat/completions" if route.language.chat else "completions"
    return "embeddings" if gives_embeddings(route) else None


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def config(route: Route) -> dict[str, Any]:
    """The part of Triton's model configuration that means something here.

    As there, ``max_batch_size`` above 0 says that the dimensions leave out the batch.
    """
    batched = route.batching and route.signature.has_batch_dimension
    return {
        "name": route.name,
        "platform": route.platform,
        "backend": route.platform.partition("_")[0],
        "version_policy": {"specific": {"versions": [route.version]}},
        "max_batch_size": route.max_batch if batched else 0,
        "model_transaction_policy": {"decoupled": route.streams},
        "input": [_config_tensor(spec, batched) for spec in route.signature.inputs],
        "output": [_config_tensor(spec, batched) for spec in route.signature.outputs],
    }


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {
        "name": spec.name,
        "data_type": f"TYPE_{datatype}",
        "dims": list(spec.shape[1:] if batched else spec.shape),
    }


def statistics(endpoints: list[Endpoint]) -> dict[str, Any]:
    """Counters of this gateway process, times in ns, in the form of Triton's ``ModelStatistics``."""
    return {"model_stats": [_model_statistics(endpoint.route, endpoint.stats) for endpoint in endpoints]}


def _model_statistics(route: Route, stats: EndpointStats) -> dict[str, Any]:
    return {
        "name": route.name,
        "version": str(route.version),
        "last_inference": stats.last_success_ms,
        "inference_count": stats.rows,
        "execution_count": stats.executions,
        "inference_stats": {
            "success": {"count": stats.success, "ns": stats.success_ns},
            "fail": {"count": stats.failed, "ns": stats.failed_ns},
            "queue": {"count": stats.success, "ns": stats.queue_ns},
            "compute_infer": {"count": stats.success, "ns": stats.compute_ns},
        },
        "batch_stats": [
            {"batch_size": size, "compute_infer": {"count": count}} for size, count in sorted(stats.batch_sizes.items())
        ],
    }
