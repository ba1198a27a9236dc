"""The greatest difference of every way in from a library's own answer: one table of models by protocols.

A ``Case`` is a model on disk, inputs for it and what its own library answers; ``compare`` pushes and deploys it,
``measure`` asks through every protocol. One that cannot carry a case has to refuse it, in words that become a
footnote. The table is printed when pytest ends (``tests/services/conftest.py``). Knows no library of any format.
"""

from __future__ import annotations

import base64
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from modelport.tensors import datatype_of
from tests.services.conftest import Server

Tensors = dict[str, np.ndarray]


@dataclass
class Case:
    """A model on disk, inputs for it, and what its library answers."""

    path: Path
    inputs: Tensors
    expected: Tensors
    refused: Mapping[str, str] = field(default_factory=dict)
    """Protocols that cannot carry it, each with words of the refusal."""


class Refused(Exception):
    """What a server said instead of an answer."""


@dataclass
class Table:
    """What was measured: a cell is the greatest difference, or a protocol's own words why there is none."""

    cells: dict[str, dict[str, float | str]] = field(default_factory=dict)

    def markdown(self) -> str:
        """Formats down, protocols across, footnotes beneath; empty when nothing was measured."""
        if not self.cells:
            return ""
        notes: list[str] = []
        lines = ["| format | " + " | ".join(PROTOCOLS) + " |", "|---|" + "---|" * len(PROTOCOLS)]
        for label, found in self.cells.items():
            shown = [self._shown(found.get(protocol), f"{label}, {protocol}", notes) for protocol in PROTOCOLS]
            lines.append(f"| {label} | " + " | ".join(shown) + " |")
        return "\n".join([*lines, "", *(f"{index}. {note}" for index, note in enumerate(notes, 1))])

    @staticmethod
    def _shown(cell: float | str | None, where: str, notes: list[str]) -> str:
        if cell is None:
            return ""
        if isinstance(cell, str):
            notes.append(f"{where}: {cell}")
            return f"({len(notes)})"
        return f"{cell:.1g}"


TABLE = Table()


def put(server: Server, name: str, path: Path, **options: Any) -> Any:
    with server.client() as client:
        client.models.push(path, name, **options)
        return client.deploy(name)


def compare(server: Server, label: str, name: str, case: Case, tolerance: float = 1e-6, **options: Any) -> None:
    """Push and deploy it, and measure."""
    put(server, name, case.path, **options)
    measure(server, label, name, case, tolerance)


def measure(server: Server, label: str, name: str, case: Case, tolerance: float = 1e-6) -> None:
    """Every protocol gives the library's answer within ``tolerance``, or refuses as the case says."""
    row = TABLE.cells.setdefault(label, {})
    for protocol, ask in PROTOCOLS.items():
        try:
            found = ask(server, name, case)
        except Refused as error:
            assert protocol in case.refused, (label, protocol, str(error))
            assert case.refused[protocol] in str(error), (label, protocol)
            row[protocol] = str(error)
            continue
        assert protocol not in case.refused, (label, protocol, "was not refused")
        row[protocol] = worst = difference(found, case.expected)
        assert worst <= tolerance, (label, protocol, worst)


def difference(found: Tensors, expected: Tensors) -> float:
    """The greatest difference of any element of any output; names, shapes, dtypes and texts have to be equal."""
    assert set(found) == set(expected)
    worst = 0.0
    for key, want in expected.items():
        got = found[key]
        assert (got.shape, got.dtype) == (want.shape, want.dtype), key
        if want.dtype == object:
            assert [_bytes(item) for item in got.flat] == [_bytes(item) for item in want.flat], key
        elif want.size and want.dtype.kind in "iu":
            worst = max(worst, float(np.abs(got.astype(object) - want.astype(object)).max()))  # 2^62 is not a float
        elif want.size:
            worst = max(worst, float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max()))
    return worst


def _bytes(element: Any) -> bytes:
    """BYTES are bytes in a binary answer, texts in JSON."""
    return element if isinstance(element, bytes) else str(element).encode()


# V2: tritonclient, as anybody would write it


def ask(server: Server, protocol: str, name: str, inputs: Tensors) -> Tensors:
    """One inference through tritonclient by one of V2's ways; raises what tritonclient raises."""
    if protocol == "gRPC ModelStreamInfer":
        return _stream(server, name, inputs)
    if protocol == "gRPC ModelInfer":
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            return _grpc_tensors(client.infer(name, _grpc_inputs(inputs)))
    binary, feed = protocol == "V2 binary", []
    for key, array in inputs.items():
        feed.append(triton_http.InferInput(key, list(array.shape), datatype_of(array.dtype)))
        feed[-1].set_data_from_numpy(array, binary_data=binary)
    with triton_http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        wanted = [output["name"] for output in client.get_model_metadata(name)["outputs"]]
        outputs = [triton_http.InferRequestedOutput(key, binary_data=binary) for key in wanted]
        found = client.infer(name, feed, outputs=outputs)
    return {output["name"]: found.as_numpy(output["name"]) for output in found.get_response()["outputs"]}


def _grpc_inputs(inputs: Tensors) -> list[Any]:
    feed = []
    for key, array in inputs.items():
        feed.append(triton_grpc.InferInput(key, list(array.shape), datatype_of(array.dtype)))
        feed[-1].set_data_from_numpy(array)
    return feed


def _grpc_tensors(found: Any) -> Tensors:
    return {output.name: found.as_numpy(output.name) for output in found.get_response().outputs}


def _stream(server: Server, name: str, inputs: Tensors) -> Tensors:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(name, _grpc_inputs(inputs))
        result, error = answers.get(timeout=60)
    if error is not None:
        raise error
    return _grpc_tensors(result)


def _by_triton(protocol: str) -> Callable[[Server, str, Case], Tensors]:
    def asked(server: Server, name: str, case: Case) -> Tensors:
        try:
            found = ask(server, protocol, name, case.inputs)
        except (triton_grpc.InferenceServerException, triton_http.InferenceServerException) as error:
            raise Refused(error.message()) from None
        return found

    return asked


# Doors that name no data types: JSON is read as what the library answered


def _post(server: Server, path: str, body: Any, key: str | None) -> Any:
    answer = httpx.post(server.url + path, json=body, timeout=120)
    found = answer.json()
    if answer.status_code == 400:
        raise Refused(found.get("error") or found["message"])
    assert answer.status_code == 200, answer.text
    return found if key is None else found[key]


def _value(array: np.ndarray) -> Any:
    """As JSON: texts as they are, other bytes in base64."""
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.shape, object)
    for index, element in np.ndenumerate(array):
        try:
            texts[index] = element.decode()
        except UnicodeDecodeError:
            texts[index] = {"b64": base64.b64encode(element).decode()}
    return texts.tolist()


def _tensor(value: Any, want: np.ndarray) -> np.ndarray:
    if want.dtype != object:
        return np.array(value, want.dtype)
    out = np.empty(np.shape(value), object)
    out[...] = value
    return out


def _columns(value: Any, case: Case) -> Tensors:
    """Outputs by name, or the only output bare."""
    by_name = value if len(case.expected) > 1 else dict.fromkeys(case.expected, value)
    assert by_name.keys() == case.expected.keys()
    return {name: _tensor(by_name[name], want) for name, want in case.expected.items()}


def _by_instances(server: Server, name: str, case: Case) -> Tensors:
    count = len(next(iter(case.inputs.values())))
    columns = {key: _value(array) if array.ndim else [_value(array)] * count for key, array in case.inputs.items()}
    rows = [{key: column[row] for key, column in columns.items()} for row in range(count)]
    bare = [next(iter(row.values())) for row in rows] if len(case.inputs) == 1 else rows
    found = _post(server, f"/v1/models/{name}:predict", {"instances": bare}, "predictions")
    if len(case.expected) > 1:
        found = {key: [row[key] for row in found] for key in case.expected}
    return _columns(found, case)


def _by_columns(path: str, given: str, answered: str) -> Callable[[Server, str, Case], Tensors]:
    def asked(server: Server, name: str, case: Case) -> Tensors:
        inputs = {key: _value(array) for key, array in case.inputs.items()}
        return _columns(_post(server, path.format(name), {given: inputs}, answered), case)

    return asked


def _by_generate(server: Server, name: str, case: Case) -> Tensors:
    """Outputs come flat there; their shape is the library's."""
    body = {key: _value(array) for key, array in case.inputs.items()}
    found = _post(server, f"/v2/models/{name}/generate", body, None)
    return {key: _tensor(found[key], want).reshape(want.shape) for key, want in case.expected.items()}


def _by_sdk(server: Server, name: str, case: Case) -> Tensors:
    with server.client() as client:
        found = client.predict(name, case.inputs)
    return found if len(case.expected) > 1 else dict.fromkeys(case.expected, found)


V2 = ("V2 JSON", "V2 binary", "gRPC ModelInfer", "gRPC ModelStreamInfer")
PROTOCOLS: dict[str, Callable[[Server, str, Case], Tensors]] = {
    **{protocol: _by_triton(protocol) for protocol in V2},
    "V1 instances": _by_instances,
    "V1 inputs": _by_columns("/v1/models/{}:predict", "inputs", "outputs"),
    "/predict": _by_columns("/predict/{}", "data", "result"),
    "/invocations": _by_columns("/invocations?model={}", "inputs", "predictions"),
    "generate": _by_generate,
    "SDK": _by_sdk,
}
