"""A language model behind protocols that know tensors: texts in as BYTES, texts out as BYTES.

Each row of ``text_input`` is a prompt; the answers come back in ``text_output``, whole or in parts. How they are
written is said in the request's ``sampling``. Knows the data plane's ``generate``; knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from modelport.engine.generation import Asked, Sampling
from modelport.engine.requests import InferRequest, InferResult
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec, check_inputs

if TYPE_CHECKING:
    from modelport.engine.dataplane import DataPlane, Endpoint

TEXT_IN, TEXT_OUT = "text_input", "text_output"
SIGNATURE = Signature((TensorSpec(TEXT_IN, "BYTES", (-1,)),), (TensorSpec(TEXT_OUT, "BYTES", (-1,)),))
"""Of every language model; the names are those of Triton's vLLM backend."""
_DEFAULT_TOKENS = 16
"""As in OpenAI's completions and in vLLM."""
_MOST_ROWS = 256


def _asked(endpoint: Endpoint, request: InferRequest) -> list[Asked]:
    check_inputs(endpoint.route.signature, request.inputs)
    rows = request.inputs[TEXT_IN].tolist()
    if not rows or len(rows) > _MOST_ROWS:
        raise InvalidInput(f"a request has 1 to {_MOST_ROWS} prompts; this one has {len(rows)}")
    try:
        prompts = [row.decode() for row in rows]
    except UnicodeDecodeError:
        raise InvalidInput(f"input {TEXT_IN!r} is no UTF-8 text") from None
    try:
        sampling = msgspec.convert({"max_tokens": _DEFAULT_TOKENS, **request.sampling}, Sampling)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a parameter of the generation is wrong: {error}") from None
    return [Asked(sampling, prompt=prompt, caller=request.caller) for prompt in prompts]


async def infer(plane: DataPlane, endpoint: Endpoint, request: InferRequest) -> InferResult:
    """All rows at once, each to its end."""

    async def whole(asked: Asked) -> bytes:
        async with aclosing(plane.generate(endpoint, asked, request)) as parts:
            return "".join([part.text async for part in parts]).encode()

    tasks = [asyncio.ensure_future(whole(asked)) for asked in _asked(endpoint, request)]
    try:
        return InferResult({TEXT_OUT: _tensor(await asyncio.gather(*tasks))}, run_rows=len(tasks))
    finally:
        for task in tasks:
            task.cancel()


async def stream(plane: DataPlane, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
    """One row, a part at a time."""
    asked = _asked(endpoint, request)
    if len(asked) != 1:
        raise InvalidInput(f"a stream has one prompt; this request has {len(asked)}")
    async with aclosing(plane.generate(endpoint, asked[0], request)) as parts:
        async for part in parts:
            if part.text:
                yield InferResult({TEXT_OUT: _tensor([part.text.encode()])}, run_rows=1)


def _tensor(texts: list[bytes]) -> Array:
    made = np.empty(len(texts), object)
    made[:] = texts
    return made
