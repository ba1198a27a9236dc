"""Server-sent events as OpenAI's clients read them: ``data:`` lines, an error as an event, ``[DONE]`` at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from modelport.api.answers import to_json
from modelport.api.messages import HttpResponse
from modelport.api.openai.errors import detail
from modelport.errors import ModelportError

DONE = b"data: [DONE]\n\n"


def events(chunks: AsyncGenerator[bytes]) -> HttpResponse:
    """The answer that sends these chunks; what goes wrong after the first is an event as well."""
    headers = [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    return HttpResponse(content_type="text/event-stream; charset=utf-8", headers=headers, stream=_safe(chunks))


async def _safe(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    begun = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                begun = True
    except ModelportError as error:
        if not begun:
            raise
        yield data(to_json({"error": detail(error)}))


def data(value: bytes) -> bytes:
    """One event."""
    return b"data: " + value + b"\n\n"


def event(kind: str, value: bytes) -> bytes:
    """One event with a name."""
    return b"event: " + kind.encode() + b"\ndata: " + value + b"\n\n"


def choice(
    head: bytes, index: int, delta: bytes, usage: bytes = b"", extra: bytes = b"", finish: str | None = None
) -> bytes:
    """A chunk of a chat with one choice; ``head`` is its beginning without the closing brace."""
    reason = b"null" if finish is None else b'"' + finish.encode() + b'"'
    return (
        b"data: " + head + b',"choices":[{"index":%d,"delta":' % index + delta + extra + b',"finish_reason":' + reason
        + b"}]" + usage + b"}\n\n"
    )  # fmt: skip
