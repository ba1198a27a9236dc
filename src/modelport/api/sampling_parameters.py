"""How a language model writes, said in the ``parameters`` of protocols that know tensors: V2's and Triton's.

Names and bounds are those of OpenAI's API here (``max_tokens``, ``temperature``, ``stop``, ``guided_json``…). These
protocols carry numbers, flags and text: a number may come as text, a list or an object as its JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from modelport.api.openai.reading import convert
from modelport.api.openai.sampling import ResponseFormat, Writing, check_engine, format_of, sampling_of
from modelport.engine.routing import Route
from modelport.errors import InvalidInput

_OTHERS = frozenset((
    "timeout", "priority", "stream", "binary_data_output", "sequence_id", "sequence_start", "sequence_end",
    "triton_enable_empty_final_response",
))  # fmt: skip
"""What these protocols know themselves."""
_NO_SAMPLING = frozenset(("model", "n", "stream", "stream_options", "user"))
_JSON = ("stop", "stop_token_ids", "logit_bias", "guided_json", "response_format")


class Parameters(Writing, kw_only=True):
    """Those of one request."""

    model: str = ""
    response_format: ResponseFormat | None = None


NAMES = frozenset(Parameters.__struct_fields__) - _NO_SAMPLING


def read_sampling(route: Route, parameters: dict[str, Any], others: Iterable[str] = _OTHERS) -> dict[str, Any]:
    """Fields of ``generation.Sampling``, none for a model that writes no texts; raises InvalidInput.

    A name that is neither known nor one of ``others`` is refused, and not left out: it was meant.
    """
    if route.language is None:
        return {}
    given = {name: _parsed(name, value) for name, value in parameters.items() if name not in others}
    for name in given:
        if name not in NAMES:
            known = ", ".join(sorted(NAMES))
            raise InvalidInput.of(f"parameters.{name[:80]}", f"parameter {name[:80]!r} is unknown; there are {known}")
    wanted = convert(given, Parameters)
    sampling = sampling_of(wanted, wanted.max_tokens, None, format_of(wanted, wanted.response_format))
    check_engine(sampling, route.language)
    found: dict[str, Any] = msgspec.to_builtins(sampling)
    return found


def _parsed(name: str, value: Any) -> Any:
    """Lists and objects that came as text."""
    if name in _JSON and isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            if name != "stop":  # which may well begin so
                raise InvalidInput.of(f"parameters.{name}", f"parameter {name!r} is no JSON: {error}") from None
        except RecursionError:
            if name != "stop":
                raise InvalidInput.of(f"parameters.{name}", f"parameter {name!r} is nested too deeply") from None
    return value
