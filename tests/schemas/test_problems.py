"""How a wrong wish is told: the path, the cause, and the names that there are at that place."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from modelport.schemas.problems import told


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 0
    kind: Literal["a", "b"] = "a"

    @field_validator("size")
    @classmethod
    def _small(cls, size: int) -> int:
        if size > 9:
            raise ValueError("up to 9")
        return size


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    leaf: Leaf | None = None
    leaves: list[Leaf] = []
    named: dict[str, Leaf] = {}
    either: Leaf | Other | None = None


NAMES = "; it takes size, kind"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"foo": 1}, "foo: Extra inputs are not permitted; it takes leaf, leaves, named, either"),
        ({"leaf": {"foo": 1}}, f"leaf.foo: Extra inputs are not permitted{NAMES}"),
        ({"leaves": [{}, {"foo": 1}]}, f"leaves.1.foo: Extra inputs are not permitted{NAMES}"),
        ({"named": {"size": {"foo": 1}}}, f"named.size.foo: Extra inputs are not permitted{NAMES}"),
        ({"either": {"foo": 1}}, "either.Leaf.foo: Extra inputs are not permitted"),
        ({"leaf": {"size": 10}}, "leaf.size: up to 9"),
        ({"leaf": {"kind": "c"}}, "leaf.kind: Input should be 'a' or 'b'; given 'c'"),
        ([], "Input should be a valid dictionary or instance of Tree"),
    ],
)
def test_the_first_problem_is_told_with_its_place(given: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate(given)
    assert told(caught.value.errors()[0], Tree) == expected
