"""A body becomes a typed request, or an error that names the field. Unknown fields are refused, never left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import msgspec

from modelport.api.messages import HttpRequest
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.generation import Facts
from modelport.errors import InvalidInput, ModelportError, NotFound, Unavailable

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r"^(?P<message>.*?)(?: - at `\$?\.?(?P<field>.*)`)?$", re.DOTALL)
_INDEX = re.compile(r"\[\d+\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")
DEADLINE_S = 600.0
"""A text may take long; OpenAI's clients wait as long by default."""


@cache
def _decoder(cls: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)


def read(body: bytes | msgspec.Raw, cls: type[T], unsupported: Mapping[str, str] | None = None, where: str = "") -> T:
    """The request, or the part of one that stands ``where``; ``unsupported`` tells of fields that OpenAI knows and this
    server does not, or that take less here (``tools[].type``). Raises InvalidInput."""
    try:
        found: T = _decoder(cls).decode(body)
        return found
    except msgspec.ValidationError as error:
        raise _named(error, unsupported or {}, where) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None


def refuse(wanted: msgspec.Struct, unsupported: Mapping[str, str], neutral: Mapping[str, Any] | None = None) -> None:
    """Raises InvalidInput for fields that are here to be refused, unless they say what is so without them."""
    for name, why in unsupported.items():
        value = getattr(wanted, name)
        if value is not None and value != (neutral or {}).get(name):
            raise InvalidInput.of(name, f"{name!r} is not supported here: {why}")


def convert(given: dict[str, Any], cls: type[T]) -> T:
    """The same of plain values, where numbers may have come as text; raises InvalidInput."""
    try:
        return msgspec.convert(given, cls, strict=False)
    except msgspec.ValidationError as error:
        raise _named(error, {}, "") from None


def _named(error: msgspec.ValidationError, unsupported: Mapping[str, str], where: str) -> InvalidInput:
    found = _AT.match(str(error))
    assert found is not None
    message, at = found["message"], found["field"] or ""
    field = f"{where}{'.' if at and where and not at.startswith('[') else ''}{at}" or None
    unknown = _UNKNOWN.search(message)
    if unknown is not None:
        name = unknown["name"][:80]
        path = f"{field}.{name}" if field else name
        why = unsupported.get(name) if field is None else None
        return InvalidInput.of(path, f"{path!r} is not supported here: {why}" if why else f"{path!r} is unknown here")
    missing = re.search(r"missing required field `(.*)`", message)
    if missing is not None:
        field = f"{field}.{missing[1]}" if field else missing[1]
        return InvalidInput.of(field, f"{field!r} is missing")
    if why := unsupported.get(_INDEX.sub("[]", field or "")):
        message += f"; {why}"
    named = f"{field!r}: " if field else ""
    return InvalidInput.of(field, f"{named}{message[0].lower()}{message[1:300]}") if field else InvalidInput(message)


def endpoint_of(plane: DataPlane, request: HttpRequest, model: str) -> Endpoint:
    """Of that name, in the caller's project; raises NotFound."""
    try:
        return plane.find(request.caller.project, model, only=request.caller.models)
    except NotFound:
        raise NotFound(
            f"the model {model[:80]!r} does not exist or you do not have access to it; GET /v1/models lists yours"
        ) from None


def language_endpoint(plane: DataPlane, request: HttpRequest, model: str) -> Endpoint:
    """The same, and it writes texts; raises InvalidInput when it does not."""
    endpoint = endpoint_of(plane, request, model)
    if endpoint.route.language is None:
        if endpoint.route.platform:
            raise InvalidInput.of("model", f"the model {model!r} writes no texts; ask it at /v2/models/{model}/infer")
        for name in endpoint.route.fallback:
            with suppress(ModelportError):
                return language_endpoint(plane, request, name)
        raise Unavailable(
            f"the model {model!r} is {'stopped' if endpoint.route.stopped else 'being started; try again'}"
        )
    return endpoint


def facts_of(endpoint: Endpoint) -> Facts:
    """What its model says of itself."""
    assert endpoint.route.language is not None
    return endpoint.route.language
