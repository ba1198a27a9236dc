"""Keys and the audit over HTTP, and who is let in."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.api.native.conftest import AS_OWNER, KeyOf

KEYS = "/api/v1/keys"


def test_a_keys_life(client: TestClient) -> None:
    made = client.post(KEYS, json={"name": "app", "role": "developer", "days": 7})
    assert made.status_code == 201
    key = made.json()
    headers = {"authorization": f"Bearer {key['secret']}"}
    assert client.get("/api/v1/models", headers=headers).status_code == 200
    (listed,) = client.get(KEYS, headers=AS_OWNER).json()["items"]
    assert listed == {name: value for name, value in key.items() if name not in ("secret", "notes")}
    assert client.delete(f"{KEYS}/{key['id']}", headers=AS_OWNER).status_code == 204
    assert client.get("/api/v1/models", headers=headers).status_code == 401
    assert client.delete(f"{KEYS}/{'0' * 19}", headers=AS_OWNER).status_code == 404
    actions = [row["action"] for row in client.get("/api/v1/audit", headers=AS_OWNER).json()["items"]]
    assert actions == ["key.revoke", "key.create"]
    assert key["secret"] not in client.get("/api/v1/audit", headers=AS_OWNER).text


def test_what_a_keys_maker_perhaps_did_not_mean_is_said(client: TestClient) -> None:
    wish = {"name": "intern", "models": ["tiny"]}
    first, second = (client.post(KEYS, json=wish, headers=AS_OWNER).json() for _ in range(2))
    assert first["notes"] == ["project 'default' has no endpoint 'tiny' yet"]
    assert len(second["notes"]) == 2 and first["id"] in second["notes"][1]
    client.delete(f"{KEYS}/{first['id']}", headers=AS_OWNER)
    client.delete(f"{KEYS}/{second['id']}", headers=AS_OWNER)
    third = client.post(KEYS, json={"name": "intern"}, headers=AS_OWNER).json()
    assert third["notes"] == [], "revoked ones are no twins"


def test_what_is_no_id_is_told_where_ids_are(client: TestClient) -> None:
    refused = client.delete(f"{KEYS}/mobile-app", headers=AS_OWNER)
    assert (refused.status_code, "`modelport keys list` shows" in refused.json()["error"]["message"]) == (404, True)


def test_from_the_first_key_on_every_route_wants_one(client: TestClient, key_of: KeyOf) -> None:
    assert client.get("/api/v1/models").status_code == 200
    key_of("caller")
    schema = client.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        filled = path.replace("{sha256}", "a" * 64).replace("{ref}", "1").replace("{id}", "1")
        for name in ("name", "alias", "key", "path", "model"):
            filled = filled.replace(f"{{{name}}}", "x")
        for method in operations:
            answer = client.request(method, filled, json={})
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "X-Api-Key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer mp_x"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
        {"authorization": ""},
        {"authorization": "mp_"},
        {"x-api-key": ""},
        {"x-api-key": "x" * 10_000},
        {"x-api-key": b"\xff\xfe"},
        {"authorization": b"Bearer \xe9"},
    ],
)
def test_a_wrong_key_is_refused_even_where_none_is_needed(client: TestClient, headers: dict) -> None:
    assert client.get("/api/v1/models", headers=headers).status_code == 401


def test_pages_of_other_sites_are_not_answered(client: TestClient) -> None:
    assert client.post("/api/v1/gc", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/api/v1/gc", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.post("/api/v1/gc", headers={"sec-fetch-site": "cross-site", **AS_OWNER}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "a b"}, {"name": "x", "role": "god"}, {"name": "x", "days": 0},
     {"name": "x", "days": 1e9},
     {"name": "x", "project": "../x"}, {"name": "x", "secret": "mine"}, {"name": "x\n"}, {"name": None}, [], "x"],
)  # fmt: skip
def test_bad_keys_are_refused(client: TestClient, body: object) -> None:
    answer = client.post(KEYS, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("body")
    assert client.get(KEYS).json() == {"items": []}


def test_the_audit_comes_in_pages(client: TestClient) -> None:
    for index in range(3):
        client.post(KEYS, json={"name": f"k{index}"}, headers={**AS_OWNER, "x-request-id": f"r{index}"})
    first = client.get("/api/v1/audit?limit=2", headers=AS_OWNER).json()["items"]
    rest = client.get(f"/api/v1/audit?after={first[-1]['id']}", headers=AS_OWNER).json()["items"]
    assert [row["request_id"] for row in first + rest] == ["r2", "r1", "r0"]
    assert {row["actor"] for row in first} == {"owner"}
