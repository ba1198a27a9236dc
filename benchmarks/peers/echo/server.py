"""No model at all: reads the body and answers what the model would have, always. The most that a server can do here.

``asgi`` is for uvicorn (on uvloop and httptools), ``rsgi`` for Granian's own interface.
"""

import os
from pathlib import Path

ANSWER = Path(os.environ["BENCH_ANSWER"]).read_bytes()
HEADERS = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(ANSWER)).encode())]


async def asgi(scope, receive, send):
    """An ASGI application."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


class Rsgi:
    """An RSGI application."""

    async def __rsgi__(self, scope, protocol):
        await protocol()
        protocol.response_bytes(200, [("content-type", "application/octet-stream")], ANSWER)


rsgi = Rsgi()
