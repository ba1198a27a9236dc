"""Answers that are sent while they are made: server-sent events, and the watch on a caller who goes away.

Knows chunks of bytes and the server's ``receive``; knows no protocol and no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from modelport.api.answers import to_json
from modelport.api.bodies import Receive
from modelport.api.messages import HttpResponse
from modelport.errors import Cancelled, ModelportError


def events(values: AsyncGenerator[Any]) -> HttpResponse:
    """Server-sent events, one with each value as JSON; an error after the first is an event as well."""
    headers = [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    return HttpResponse(content_type="text/event-stream; charset=utf-8", headers=headers, stream=_events(values))


async def _events(values: AsyncGenerator[Any]) -> AsyncGenerator[bytes]:
    begun = False
    try:
        async with aclosing(values):
            async for value in values:
                yield b"data: " + to_json(value) + b"\n\n"
                begun = True
    except ModelportError as error:
        if not begun:
            raise
        yield b"data: " + to_json({"error": error.message}) + b"\n\n"


async def until_gone(chunks: AsyncGenerator[bytes], receive: Receive) -> AsyncGenerator[bytes]:
    """The chunks as they come; raises Cancelled, and closes their source, when the caller has gone away.

    The request's body has been read before, so that all ``receive`` can tell is the caller's end.
    """
    gone = asyncio.ensure_future(receive())
    following: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait((following, gone), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise Cancelled("the caller went away")
            chunk = following.result()
            if chunk is None:
                return
            yield chunk
    finally:
        gone.cancel()
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait((following,))
        await chunks.aclose()
