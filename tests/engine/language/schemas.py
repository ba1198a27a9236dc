"""JSON schemas as applications send them, made by a seed: objects, lists, choices, numbers with bounds, references."""

from __future__ import annotations

import random
from typing import Any

_WORDS = (
    "name",
    "city",
    "age",
    "price",
    "tags",
    "items",
    "status",
    "email",
    "notes",
    "größe",
    "décade",
    "when",
    "address",
)


def made(seed: int) -> dict[str, Any]:
    """One; the same for the same seed."""
    rng = random.Random(seed)
    schema = _object(rng, depth=0)
    if rng.random() < 0.2:
        axes = {"x": {"type": "integer"}, "y": {"type": "integer"}}
        point = {"type": "object", "properties": axes, "required": ["x", "y"], "additionalProperties": False}
        schema["$defs"] = {"point": point}
        schema["properties"]["place"] = {"$ref": "#/$defs/point"}
        schema["required"].append("place")
    return schema


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_WORDS, rng.randint(1, 4 if depth == 0 else 2))
    properties = {name: _value(rng, depth + 1) for name in names}
    required = [name for name in names if rng.random() < 0.8] or names[:1]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = ["string", "word", "integer", "range", "number", "boolean", "enum", "const", "null", "date", "pattern"]
    if depth < 3:
        kinds += ["object", "array", "array", "any", "tuple"]
    kind = rng.choice(kinds)
    if kind == "string":
        return {"type": "string", "maxLength": rng.choice((8, 20, 40))}
    if kind == "word":
        return {"type": "string", "minLength": 1, "maxLength": 12}
    if kind == "integer":
        return {"type": "integer"}
    if kind == "range":
        low = rng.randint(-50, 50)
        return {"type": "integer", "minimum": low, "maximum": low + rng.randint(1, 500)}
    if kind == "enum":
        return {"enum": rng.sample(["red", "grün", "çédé", 1, 2, None, True], 3)}
    if kind == "const":
        return {"const": rng.choice(["yes", 7, 'a "quoted" word'])}
    if kind == "date":
        return {"type": "string", "format": "date"}
    if kind == "pattern":
        return {"type": "string", "pattern": rng.choice(("^[A-Z]{2}[0-9]{3}$", "^[a-z]+@[a-z]+\\.com$", "^(yes|no)$"))}
    if kind == "object":
        return _object(rng, depth)
    if kind == "array":
        low = rng.randint(0, 2)
        return {"type": "array", "items": _value(rng, depth + 1), "minItems": low, "maxItems": low + rng.randint(1, 2)}
    if kind == "any":
        return {"anyOf": [_value(rng, depth + 1), {"type": "null"}]}
    if kind == "tuple":
        return {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "boolean"}],
            "minItems": 2,
            "items": False,
        }
    return {"type": kind}
