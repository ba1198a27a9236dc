"""Every row of the table of bad input, at the adapters: refused in clear words, and the next good request answered."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from modelport import errors
from modelport.api import inference_predict, inference_v1, inference_v2
from modelport.api.messages import HttpRoute
from tests.api.asgi import call, whole
from tests.api.bad_input import GOOD, Row, http_rows
from tests.api.plane import LocalPlane, zoo

ROWS = http_rows()


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    return zoo()


@pytest.fixture(scope="module")
def routes(plane: LocalPlane) -> list[HttpRoute]:
    return [*inference_v2.routes(plane), *inference_v1.routes(plane), *inference_predict.routes(plane)]


def check_refusal(row: Row, status: int, body: bytes) -> None:
    """The status, the words, and nothing that a stranger should not read."""
    assert status == row.status, (status, body[:300])
    answer = json.loads(body)
    assert answer.keys() == {"error"}
    message = answer["error"]
    for word in row.words:
        assert word in message, (word, message)
    assert len(message) < 500
    assert message.isprintable()
    assert "Traceback" not in message
    assert ".py" not in message


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_row(row: Row, routes: list[HttpRoute]) -> None:
    response = await call(routes, "POST", row.target, row.body, row.headers)
    check_refusal(row, response.status, whole(response))
    assert errors.BY_CODE[dict(response.headers)["x-modelport-error"]].status == response.status
    good = GOOD[row.name.partition(":")[0]]
    assert (await call(routes, "POST", good.target, good.body, good.headers)).status == 200


def test_the_table_is_long_and_its_names_differ() -> None:
    counts = Counter(row.name for row in ROWS)
    assert [name for name, count in counts.items() if count > 1] == []
    assert len(ROWS) >= 120
