"""OpenAI's API, as its own clients speak it: one file for each of its nouns, over one data plane."""

from __future__ import annotations

from modelport.api.messages import HttpRoute
from modelport.api.openai import chat, completions, embeddings, rerank, responses, tokens
from modelport.engine.dataplane import DataPlane

_ROOMS = (chat, completions, responses, embeddings, rerank, tokens)


def routes(plane: DataPlane) -> list[HttpRoute]:
    """Every path."""
    return [route for room in _ROOMS for route in room.routes(plane)]
