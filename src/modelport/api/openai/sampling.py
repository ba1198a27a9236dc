"""How a text is to be written, as chat, completions and responses say it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelport.api.openai import structured
from modelport.engine.generation import MOST_TOKENS, Asked, Facts, Format, Sampling
from modelport.engine.language.json_grammar import any_object, grammar_of
from modelport.errors import InvalidInput

_STOPS = 16
_LONGEST_STOP = 1000
MOST_CHOICES = 128
_PLAIN = Sampling()

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False
    continuous_usage_stats: bool = False


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A named schema."""

    name: Annotated[str, Meta(max_length=64)] = "schema"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """``text``, ``json_object``, ``json_schema``, or vLLM's ``regex`` and ``grammar``."""

    type: str
    json_schema: JsonSchema | None = None


class Choosing(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of all. Those that mean nothing to a model of one's own are taken and left alone."""

    model: str
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    user: str | None = None
    # vLLM's and others' own
    top_k: Annotated[int, Meta(ge=-1, lt=MOST_TOKENS)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, lt=MOST_TOKENS)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Annotated[int, Meta(ge=0, lt=MOST_TOKENS)]], Meta(max_length=_STOPS)] | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class Writing(Choosing, kw_only=True):
    """What chat and completions have beside them."""

    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: Positive | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None


def stops_of(given: str | list[str] | None, field: str = "stop") -> tuple[str, ...]:
    """Raises InvalidInput for too many and too long ones."""
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stops) > _STOPS:
        raise InvalidInput.of(field, f"{field!r} holds at most {_STOPS} texts, not {len(stops)}")
    if any(not stop or len(stop) > _LONGEST_STOP for stop in stops):
        raise InvalidInput.of(field, f"a text of {field!r} has 1 to {_LONGEST_STOP} characters")
    return stops


def sampling_of(wanted: Choosing, most: int | None, logprobs: int | None, form: Format | None) -> Sampling:
    """Raises InvalidInput; ``most`` are tokens."""
    if wanted.stream_options is not None and not wanted.stream:
        raise InvalidInput.of("stream_options", "'stream_options' is for 'stream': true")
    if most is not None and (wanted.min_tokens or 0) > most:
        raise InvalidInput.of("min_tokens", f"'min_tokens' is {wanted.min_tokens}, and the answer has at most {most}")
    return Sampling(
        max_tokens=most,
        min_tokens=wanted.min_tokens or 0,
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        top_k=max(0, wanted.top_k or 0),
        min_p=wanted.min_p or 0.0,
        seed=wanted.seed,
        presence_penalty=wanted.presence_penalty or 0.0,
        frequency_penalty=wanted.frequency_penalty or 0.0,
        repetition_penalty=wanted.repetition_penalty or 1.0,
        logit_bias=_bias_of(wanted.logit_bias),
        logprobs=logprobs,
        stop=stops_of(wanted.stop),
        stop_token_ids=tuple(wanted.stop_token_ids or ()),
        ignore_eos=bool(wanted.ignore_eos),
        format=form,
    )


def check_engine(sampling: Sampling, facts: Facts, alternatives: str = "top_logprobs") -> None:
    """Raises InvalidInput for what the model's engine does not know, and for tokens that the model has not;
    ``alternatives`` is the field that asks for the likeliest tokens beside the chosen one."""
    strange = next((token for token in sampling.stop_token_ids if facts.words and token >= facts.words), None)
    if strange is not None:
        raise InvalidInput.of(
            "stop_token_ids",
            f"{strange} in 'stop_token_ids' is no token of this model: they are 0 to {facts.words - 1}",
        )
    for name in facts.lacks:
        if name == "alternatives" and sampling.logprobs:
            raise InvalidInput.of(
                alternatives, f"this model's engine tells chosen tokens only: {alternatives!r} can be 0"
            )
        if name != "alternatives" and getattr(sampling, name) != getattr(_PLAIN, name):
            raise InvalidInput.of(name, f"this model's engine does not know {name!r}")


def _bias_of(given: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in (given or {}).items()}
    except ValueError:
        raise InvalidInput.of("logit_bias", "'logit_bias' has tokens' numbers as keys") from None


def format_of(wanted: Writing, response_format: ResponseFormat | None) -> Format | None:
    """What the text has to be; raises InvalidInput for what cannot be promised."""
    guided = [name for name in ("guided_json", "guided_regex", "guided_grammar") if getattr(wanted, name) is not None]
    if len(guided) + (response_format is not None and response_format.type != "text") > 1:
        raise InvalidInput.of("response_format", "only one of 'response_format' and 'guided_...' can be asked for")
    if wanted.guided_json is not None:
        return Format(grammar=grammar_of(wanted.guided_json, "guided_json"))
    if wanted.guided_regex is not None:
        return Format(grammar=structured.checked_regex(wanted.guided_regex, "guided_regex"))
    if wanted.guided_grammar is not None:
        return Format(grammar=structured.checked_grammar(wanted.guided_grammar, "guided_grammar"))
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return Format(grammar=any_object())
    if response_format.type != "json_schema":
        raise InvalidInput.of(
            "response_format.type", "'response_format.type' is one of 'text', 'json_object' and 'json_schema'"
        )
    named = response_format.json_schema
    if named is None or named.schema is None:
        raise InvalidInput.of("response_format.json_schema", "'response_format.json_schema.schema' is missing")
    return Format(grammar=grammar_of(named.schema, "response_format.json_schema.schema"))


def choices_of(asked: Asked, n: int) -> list[Asked]:
    """The same request so many times; with a seed, each has one of its own that follows from it."""
    seed = asked.sampling.seed
    if n == 1 or seed is None:
        return [asked] * n
    return [
        msgspec.structs.replace(asked, sampling=msgspec.structs.replace(asked.sampling, seed=seed + index))
        for index in range(n)
    ]
