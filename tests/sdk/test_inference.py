"""The client against the real protocol adapters, with real models run in process, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from modelport import AsyncClient, Client
from modelport.api import inference_predict, inference_v2
from modelport.errors import InvalidInput, NotFound
from tests import onnx_models
from tests.api.asgi import serving
from tests.api.plane import LocalPlane


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    made = LocalPlane()
    made.deploy("mlp", onnx_models.mlp(), labels={"output": ["ant", "bee", "cat"]})
    made.deploy("addsub", onnx_models.add_sub())
    made.deploy("columns", onnx_models.add_sub(width=1))
    made.deploy("text", onnx_models.identity("BYTES"))
    made.deploy("named", onnx_models.identity("FP32", (-1, 3)), features=("a", "b", "c"))
    return made


@pytest.fixture(scope="module")
def url(plane: LocalPlane) -> Iterator[str]:
    with serving(inference_v2.routes(plane) + inference_predict.routes(plane)) as address:
        yield f"http://{address}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        yield made


ROWS = np.arange(8, dtype=np.float32).reshape(2, 4) / 8


def test_one_output_is_an_array(client: Client) -> None:
    found = client.predict("mlp", ROWS)
    assert found.shape == (2, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_lists_and_other_dtypes_are_cast(client: Client) -> None:
    want = client.predict("mlp", ROWS)
    for given in (ROWS.tolist(), ROWS.astype(np.float64), {"input": ROWS}, np.asfortranarray(ROWS)):
        np.testing.assert_array_equal(client.predict("mlp", given), want)


def test_one_row(client: Client) -> None:
    np.testing.assert_allclose(client.predict("mlp", ROWS[0]), client.predict("mlp", ROWS)[0], rtol=1e-6)


def test_several_inputs_and_outputs_go_by_name(client: Client) -> None:
    found = client.predict("addsub", {"a": [[1, 2, 3, 4]], "b": [[1, 1, 1, 1]]})
    assert found["sum"].tolist() == [[2, 3, 4, 5]]
    assert found["difference"].tolist() == [[0, 1, 2, 3]]
    with pytest.raises(InvalidInput, match="by name: a, b"):
        client.predict("addsub", [[1, 2, 3, 4]])
    with pytest.raises(InvalidInput, match="'b' is missing"):
        client.predict("addsub", {"a": [[1, 2, 3, 4]]})
    with pytest.raises(InvalidInput, match="'c' is unknown"):
        client.predict("addsub", {"c": 1})


def test_rows_by_column_name_go_to_several_inputs(client: Client) -> None:
    import pandas as pd

    frame = pd.DataFrame({"b": [1.0, 2.0], "more": ["x", "y"], "a": [3.0, 4.0]})
    records = frame[["a", "b"]].to_dict("records")
    for given in (frame, records):
        found = client.predict("columns", given)
        assert found["sum"].tolist() == [[4], [6]] and found["difference"].tolist() == [[2], [2]]
    with pytest.raises(InvalidInput, match="row 1: 'b' is missing, the model takes a, b"):
        client.predict("columns", [records[0], {"a": 1}])
    with pytest.raises(InvalidInput, match="row 0: 'c' is unknown"):
        client.predict("columns", [{**records[0], "c": 1}])
    with pytest.raises(InvalidInput, match="by name: a, b"):
        client.predict("columns", [[1, 2]])


def test_infer_takes_arrays_and_chooses_outputs(client: Client, plane: LocalPlane) -> None:
    one = np.ones((1, 4), np.float32)
    found = client.infer("addsub", {"a": one, "b": one}, outputs=["sum"], timeout=5, request_id="abc")
    assert list(found) == ["sum"]
    assert plane.seen[-1].request_id == "abc"
    with pytest.raises(InvalidInput, match="FP64 given"):
        client.infer("addsub", {"a": one.astype(float), "b": one})


def test_text(client: Client) -> None:
    assert client.predict("text", [["a", "é", ""]]).tolist() == [[b"a", "é".encode(), b""]]


def test_classes(client: Client) -> None:
    scores = client.predict("mlp", ROWS)
    found = client.predict("mlp", ROWS, top_k=2)
    assert [row[0]["label"] for row in found] == [["ant", "bee", "cat"][row.argmax()] for row in scores]
    assert [len(row) for row in found] == [2, 2]
    assert client.predict("mlp", ROWS[0].tolist(), top_k=1)[0].keys() == {"label", "score"}
    assert client.predict("mlp", ROWS, labels=True)


def test_metadata_and_readiness(client: Client, plane: LocalPlane) -> None:
    found = client.metadata("mlp")
    assert (found.name, found.versions) == ("mlp", ("1",))
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.inputs] == [("input", "FP32", (-1, 4))]
    assert client.metadata("mlp:1") == found
    assert client.ready("mlp")
    plane.by_name["mlp"].is_ready = False
    assert not client.ready("mlp")
    plane.by_name["mlp"].is_ready = True
    for ask in (client.metadata, client.ready):
        with pytest.raises(NotFound):
            ask("nope")
    with pytest.raises(NotFound):
        client.predict("mlp:2", ROWS)
    with pytest.raises(InvalidInput, match="call it by its name"):
        client.predict("mlp@champion", ROWS)


def test_metadata_is_asked_again_when_another_version_took_the_endpoint(client: Client, plane: LocalPlane) -> None:
    plane.deploy("moving", onnx_models.identity("FP32"))
    assert client.predict("moving", [[1, 2, 3]]).dtype == np.float32
    plane.deploy("moving", onnx_models.identity("INT64"))
    assert client.predict("moving", [[1, 2, 3]]).dtype == np.int64
    with pytest.raises(InvalidInput, match="shape"):
        client.predict("moving", [[1, 2]])


def test_many_threads_share_one_client(client: Client) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            found = client.predict("addsub", {"a": [[number] * 4], "b": [[1] * 4]})
            if found["sum"].tolist() != [[number + 1] * 4]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


async def test_asynchronously(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.predict("mlp", ROWS)).shape == (2, 3)
        assert await client.ready("mlp")


class Frame:
    """What the client looks at in a data frame."""

    def __init__(self, columns: list[str], rows: np.ndarray) -> None:
        self.columns = columns
        self._rows = rows

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self._rows


def test_a_data_frames_columns_go_to_features_by_name(client: Client) -> None:
    rows = np.array([[3, 1, 2]], np.float32)
    assert client.metadata("named").features == ("a", "b", "c")
    assert client.predict("named", Frame(["c", "a", "b"], rows)).tolist() == [[1, 2, 3]]
    assert client.predict("named", Frame(["x", "y", "z"], rows)).tolist() == [[3, 1, 2]]
    assert client.predict("named", rows).tolist() == [[3, 1, 2]]
    with pytest.raises(InvalidInput, match="lacks the column 'b'"):
        client.predict("named", Frame(["c", "a", "x"], rows))
