"""Models, versions, aliases, labels and files over HTTP."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests import onnx_models
from tests.api.native.conftest import KeyOf

API = "/api/v1"
MODEL = onnx_models.identity("FP32", (-1, 4))
SHA = hashlib.sha256(MODEL).hexdigest()
BINARY = {"content-type": "application/octet-stream"}


def push(client: TestClient, name: str = "digits", **fields: object):
    assert client.put(f"{API}/blobs/{SHA}", content=MODEL, headers=BINARY).json() == {"sha256": SHA, "size": len(MODEL)}
    body = {"files": [{"path": "model.onnx", "size": len(MODEL), "sha256": SHA}], **fields}
    return client.post(f"{API}/models/{name}/versions", json=body)


def error_of(response) -> dict:
    error = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    return error


def test_push_look_and_delete(client: TestClient) -> None:
    assert client.post(f"{API}/blobs/missing", json={"sha256": [SHA]}).json() == {"missing": [SHA]}
    made = push(client, alias="champion", labels={"team": "a"}, metrics={"accuracy": 0.9})
    assert made.status_code == 201
    assert client.post(f"{API}/blobs/missing", json={"sha256": [SHA]}).json() == {"missing": []}
    for ref in ("1", "latest", "champion"):
        assert client.get(f"{API}/models/digits/versions/{ref}").json() == made.json()
    assert client.get(f"{API}/models/digits").json()["aliases"] == {"champion": 1}
    assert [model["name"] for model in client.get(f"{API}/models").json()["items"]] == ["digits"]
    assert len(client.get(f"{API}/models/digits/versions").json()["items"]) == 1
    assert client.get(f"{API}/models/digits/versions/1/lineage").json()["version"] == "digits:1"
    refused = client.delete(f"{API}/models/digits/versions/1")
    assert (refused.status_code, error_of(refused)["code"]) == (409, "conflict")
    assert client.delete(f"{API}/models/digits").status_code == 204
    assert client.get(f"{API}/models/digits").status_code == 404


def test_one_file_push(client: TestClient) -> None:
    made = client.post(
        f"{API}/models/digits/versions", params={"filename": "m.onnx", "alias": "new"}, content=MODEL, headers=BINARY
    )
    assert made.status_code == 201
    assert made.json()["aliases"] == ["new"]
    assert made.json()["manifest"]["files"] == [{"path": "m.onnx", "size": len(MODEL), "sha256": SHA}]


@pytest.mark.parametrize("filename", ["", "..", "../m", "/m", "a\x00b", "x" * 501, "a/", "C:m"])
def test_one_file_push_under_a_bad_name(client: TestClient, filename: str) -> None:
    answer = client.post(f"{API}/models/m/versions", params={"filename": filename}, content=MODEL, headers=BINARY)
    assert answer.status_code in (400, 422)
    assert "file" in error_of(answer)["message"]


def test_files_download(client: TestClient) -> None:
    push(client)
    answer = client.get(f"{API}/models/digits/versions/1/files/model.onnx")
    assert answer.content == MODEL
    assert answer.headers["etag"] == f'"{SHA}"'
    assert answer.headers["content-length"] == str(len(MODEL))
    assert client.get(f"{API}/models/digits/versions/1/files/other").status_code == 404


@pytest.mark.parametrize(
    ("range_", "if_range", "start"),
    [
        ("bytes=0-", "", 0), ("bytes=7-", "", 7), (f"bytes={len(MODEL) - 1}-", f'"{SHA}"', len(MODEL) - 1),
        ("bytes=7-", '"another"', 0), ("bytes=-7", "", 0), ("bytes=7-9", "", 0), ("bytes=1-,3-", "", 0),
        (f"bytes={len(MODEL)}-", "", 0), ("bytes=" + "9" * 30 + "-", "", 0), ("rows=7-", "", 0), ("bytes=x-", "", 0),
    ],
)  # fmt: skip
def test_the_rest_of_a_file(client: TestClient, range_: str, if_range: str, start: int) -> None:
    push(client)
    headers = {"range": range_} | ({"if-range": if_range} if if_range else {})
    answer = client.get(f"{API}/models/digits/versions/1/files/model.onnx", headers=headers)
    assert answer.status_code == (206 if start else 200)
    assert answer.content == MODEL[start:]
    assert answer.headers["content-length"] == str(len(MODEL) - start)
    assert answer.headers["etag"] == f'"{SHA}"'
    whole = f"bytes {start}-{len(MODEL) - 1}/{len(MODEL)}"
    assert answer.headers.get("content-range") == (whole if start else None)


def test_a_lost_file_is_a_clean_error(client: TestClient, tmp_path: Path) -> None:
    push(client)
    (tmp_path / "artifacts" / "1" / SHA[:2] / SHA).unlink()
    answer = client.get(f"{API}/models/digits/versions/1/files/model.onnx")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
    assert str(tmp_path) not in answer.text


def test_aliases_and_labels(client: TestClient) -> None:
    push(client)
    where = f"{API}/models/digits"
    assert client.put(f"{where}/aliases/champion", json={"version": 1}).json()["aliases"] == {"champion": 1}
    assert client.put(f"{where}/aliases/champion", json={"version": 2}).status_code == 404
    assert client.put(f"{where}/aliases/latest", json={"version": 1}).status_code == 400
    assert client.put(f"{where}/aliases/7", json={"version": 1}).status_code == 422
    assert client.put(f"{where}/versions/champion/labels/team", json={"value": "b"}).json()["labels"] == {"team": "b"}
    assert client.delete(f"{where}/versions/1/labels/team").status_code == 204
    assert client.delete(f"{where}/versions/1/labels/team").status_code == 404
    assert client.delete(f"{where}/aliases/champion").status_code == 204
    assert client.delete(f"{where}/aliases/champion").status_code == 404


def test_lists_come_in_pages(client: TestClient) -> None:
    for name in ("a", "b", "c", "a"):
        push(client, name)
    first = client.get(f"{API}/models", params={"limit": 2}).json()["items"]
    second = client.get(f"{API}/models", params={"limit": 2, "after": first[-1]["name"]}).json()["items"]
    assert [model["name"] for model in first + second] == ["a", "b", "c"]
    assert [v["version"] for v in client.get(f"{API}/models/a/versions?after=2").json()["items"]] == [1]
    for limit in ("0", "1001", "x"):
        assert client.get(f"{API}/models", params={"limit": limit}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"files": []}, "body.files"),
        ({"files": [{"path": "", "size": 1, "sha256": SHA}]}, "body.files.0.path"),
        ({"files": [{"path": "m", "size": -1, "sha256": SHA}]}, "body.files.0.size"),
        ({"files": [{"path": "m", "size": 1, "sha256": SHA.upper()}]}, "body.files.0.sha256"),
        ({"files": [{"path": "../m", "size": 1, "sha256": SHA}]}, "file path '../m'"),
        ({"files": [{"path": "m", "size": 10**30, "sha256": SHA}]}, "'m'"),
        ({"files": [{"path": "m", "size": 1, "sha256": SHA}] * 10_001}, "body.files"),
        ({"alias": "7up"}, "body.alias"),
        ({"labels": {"a b": "x"}}, "body.labels"),
        ({"labels": {"a": "x\n"}}, "body.labels.a"),
        ({"metrics": {"loss": 1e999}}, "metrics.loss"),
        ({"parents": "x"}, "body.parents"),
        ({"surprise": 1}, "body.surprise"),
        ({"sample": []}, "body.sample"),
        ({"sample": {"inputs": [{"name": "\x00"}]}}, "sample.inputs.0"),
        ({"class_labels": ["a"] * 3}, "class_labels"),
        ({"description": "x" * 10_001}, "body.description"),
    ],
)  # fmt: skip
def test_a_bad_push_names_the_field(client: TestClient, fields: dict, said: str) -> None:
    import json

    push(client, "other")
    body = {"files": [{"path": "model.onnx", "size": len(MODEL), "sha256": SHA}], **fields}
    answer = client.post(
        f"{API}/models/digits/versions", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert said in error_of(answer)["message"]
    assert client.get(f"{API}/models/digits").status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"files":' + b"[" * 100_000, b"1" * 100_000, b'{"files":NaN}'],
)
def test_what_is_no_push_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post(f"{API}/models/m/versions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "body" in error_of(answer)["message"]


@pytest.mark.parametrize(
    "media", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "", "\xff"]
)
def test_other_content_types_are_refused(client: TestClient, media: str) -> None:
    answer = client.post(f"{API}/models/m/versions", content=MODEL, headers={b"content-type": media.encode("latin-1")})
    assert answer.status_code == 415
    assert "application/octet-stream" in error_of(answer)["message"]


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "%2e%2e%2f", "a%00b", "a%0a", "a%0d%0ax", "%C3%A9", "%ff", "a%20b", "-a", "x" * 101, "x" * 10_000,
     "a%2fb", "a\\b", "%25", "a:b", "a;b", "*", "%F0%9F%98%80"],
)  # fmt: skip
def test_bad_names_are_refused(client: TestClient, name: str) -> None:
    for method, path in [
        ("GET", f"{API}/models/{name}"),
        ("DELETE", f"{API}/models/{name}"),
        ("GET", f"{API}/models/{name}/versions"),
        ("GET", f"{API}/models/m/versions/{name}"),
        ("GET", f"{API}/models/m/versions/1/files/{name}"),
        ("DELETE", f"{API}/models/m/aliases/{name}"),
        ("DELETE", f"{API}/models/m/versions/1/labels/{name}"),
        ("DELETE", f"{API}/keys/{name}"),
    ]:
        answer = client.request(method, path)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)
        assert error_of(answer)["message"]


@pytest.mark.parametrize(
    "artifact", [b"", b"not a model", b"\x80\x04\x95junk", b"PK\x03\x04", MODEL[:-5], b"\x00" * 5000]
)
def test_what_is_no_model_is_refused(client: TestClient, artifact: bytes, tmp_path: Path) -> None:
    answer = client.post(f"{API}/models/m/versions", content=artifact, headers=BINARY)
    assert (answer.status_code, error_of(answer)["code"]) == (422, "artifact_refused")
    assert str(tmp_path) not in answer.text
    assert client.get(f"{API}/models/m").status_code == 404


def test_a_viewer_looks_and_does_not_touch(client: TestClient, key_of: KeyOf) -> None:
    push(client)
    viewer, caller = key_of("viewer"), key_of("caller")
    assert client.get(f"{API}/models/digits", headers=viewer).status_code == 200
    assert client.get(f"{API}/models/digits", headers=caller).status_code == 403
    for method, path in [
        ("DELETE", "/models/digits"),
        ("POST", "/models/digits/versions"),
        ("PUT", f"/blobs/{SHA}"),
        ("DELETE", "/models/digits/aliases/x"),
        ("POST", "/gc"),
        ("GET", "/keys"),
        ("GET", "/audit"),
    ]:
        answer = client.request(method, API + path, headers=viewer)
        assert (answer.status_code, error_of(answer)["code"]) == (403, "not_allowed"), path


def test_another_project_sees_nothing(client: TestClient, key_of: KeyOf) -> None:
    push(client)
    other = key_of("admin", "acme")
    assert client.get(f"{API}/models", headers=other).json() == {"items": []}
    assert client.get(f"{API}/models/digits", headers=other).status_code == 404
    assert client.get(f"{API}/audit", headers=other).json() == {"items": []}
