"""Anthropic's Messages API, as its own clients speak it, over the pieces of OpenAI's."""

from __future__ import annotations

from modelport.api.anthropic.messages import routes

__all__ = ["routes"]
