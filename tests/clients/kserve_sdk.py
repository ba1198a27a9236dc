"""KServe's own SDK, unchanged: ``python kserve_sdk.py URL GRPC`` reads rows from standard input, prints what it got."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import kserve
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest, RESTConfig

TENSORS = {
    "fp32": np.array([[1.5, -0.0, 3.25]], np.float32),
    "fp64": np.array([[1e300, -2.5, 1 / 3]]),
    "int64": np.array([[2**62, -1, 0]]),
    "uint8": np.array([[0, 128, 255]], np.uint8),
    "bool": np.array([[True, False, True]]),
    "bytes": np.array([[b"a", "é".encode(), b""]], object),
}


def request(model: str, name: str, array: Any, datatype: str, binary: bool) -> InferRequest:
    given = InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    wanted = [] if not binary else None
    return InferRequest(model_name=model, infer_inputs=[given], request_outputs=wanted)


def same(found: Any, expected: Any) -> bool:
    if expected.dtype == object:
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in np.asarray(found).reshape(-1)]
        return texts == expected.reshape(-1).tolist()
    return bool(np.array_equal(found, expected)) and found.dtype == expected.dtype


async def rest(url: str, rows: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=30)) as client:
        found["v1"] = (await client.infer(url, {"instances": rows.tolist()}, model_name="mlp"))["predictions"]
        found["v1 ready"] = await client.is_model_ready(url, "mlp")
        try:
            await client.infer(url, {"instances": [[1]]}, model_name="mlp")
        except httpx.HTTPStatusError as error:
            found["v1 error"] = str(error)
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)) as client:
        found["live"], found["ready"] = await client.is_server_live(url), await client.is_server_ready(url)
        found["v2 ready"] = await client.is_model_ready(url, "mlp")
        for binary in (False, True):
            answer = await client.infer(url, request("mlp", "input", rows, "FP32", binary), model_name="mlp")
            found["v2 binary" if binary else "v2"] = answer.outputs[0].as_numpy().tolist()
            for datatype, array in TENSORS.items():
                model = f"identity-{datatype}"
                asked = request(model, "input", array, datatype.upper(), binary)
                answer = await client.infer(url, asked, model_name=model)
                found[f"{datatype} {binary}"] = same(answer.outputs[0].as_numpy(), array)
    return found


async def grpc(address: str, rows: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with InferenceGRPCClient(address) as client:
        found["grpc live"], found["grpc ready"] = await client.is_server_live(), await client.is_server_ready()
        found["grpc model ready"] = await client.is_model_ready("mlp")
        answer = await client.infer(request("mlp", "input", rows, "FP32", True))
        found["grpc"] = answer.outputs[0].as_numpy().tolist()
        for datatype, array in TENSORS.items():
            answer = await client.infer(request(f"identity-{datatype}", "input", array, datatype.upper(), True))
            found[f"{datatype} grpc"] = same(answer.outputs[0].as_numpy(), array)
    return found


async def main() -> None:
    rows = np.array(json.load(sys.stdin), np.float32)
    assert InferOutput is not None
    found = {"version": getattr(kserve, "__version__", ""), **await rest(sys.argv[1], rows)}
    print(json.dumps(found | await grpc(sys.argv[2], rows)))


asyncio.run(main())
