"""OpenAI's API, as its own clients speak it: one file for each of its nouns, over one data plane."""

from __future__ import annotations

from modelport.api.messages import HttpRoute
from modelport.api.openai import chat, completions, embeddings, rerank, responses
from modelport.engine.dataplane import DataPlane


def routes(plane: DataPlane) -> list[HttpRoute]:
    """Every path."""
    return [route for room in (chat, completions, embeddings, rerank, responses) for route in room.routes(plane)]
