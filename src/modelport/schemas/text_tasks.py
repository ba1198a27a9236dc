"""What a model does with texts, as OpenAI's API has it: the task names a path below ``/v1`` and what is asked there."""

from __future__ import annotations

from typing import Any, Literal

TextTask = Literal["chat/completions", "completions", "embeddings"]

_EXAMPLES: dict[TextTask, dict[str, Any]] = {
    "chat/completions": {
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "max_tokens": 200,
        "temperature": 0.3,
    },
    "completions": {"prompt": "The sky is blue because", "max_tokens": 200, "temperature": 0.3},
    "embeddings": {"input": ["Why is the sky blue?", "What do cats eat?"]},
}


def example(task: TextTask, model: str) -> dict[str, Any]:
    """The body of a request that anybody can begin with."""
    return {"model": model, **_EXAMPLES[task]}
