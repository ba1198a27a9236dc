"""The pieces of a streamed chat completion as bytes of HTTP, for a fake server to send."""

from __future__ import annotations

import json

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def event(value: object) -> bytes:
    """One piece of a stream, as a chunk of HTTP."""
    text = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(text), text)


def said(text: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(tokens_in: int, tokens_out: int, cached: int = 0) -> bytes:
    details = {"cached_tokens": cached}
    return event(
        {
            "choices": [],
            "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "prompt_tokens_details": details},
        }
    )
