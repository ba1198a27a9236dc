"""``modelport explain-error``: what an error code means, its usual causes, and what to do about each."""

from __future__ import annotations

from typing import Annotated

import typer


def explain_error(
    code: Annotated[
        str,
        typer.Argument(
            help="Code (ours, OpenAI's or Anthropic's) or HTTP or gRPC status: overloaded, model_not_found, 429.",
            show_default=False,
        ),
    ],
) -> None:
    """Explain an error: what it means, why it happens, what to do.

    Example: modelport explain-error artifact_refused
    """
    from modelport.cli.render import say

    say("\n\n".join(_text(found) for found in _codes(code)))


def _codes(wanted: str) -> list[str]:
    """The codes that are meant; raises NotFound with all of them."""
    from modelport.errors import BY_CODE, NotFound
    from modelport.errors_explained import EXPLAINED, SPOKEN

    text = wanted.strip()
    if text.lower() in EXPLAINED:
        return [text.lower()]
    if text.lower() in SPOKEN:
        return list(SPOKEN[text.lower()])
    found = [code for code, cls in BY_CODE.items() if text == str(cls.status) or text.upper() == cls.grpc_status]
    if not found:
        raise NotFound(
            f"no error is called {wanted[:50]!r}; give an HTTP or gRPC status, or one of {', '.join(EXPLAINED)}"
        )
    return found


def _text(code: str) -> str:
    from modelport.errors import BY_CODE
    from modelport.errors_explained import EXPLAINED

    cls, known = BY_CODE.get(code), EXPLAINED[code]
    where = f" (HTTP {cls.status}, gRPC {cls.grpc_status})" if cls is not None else " (in a deployment's status)"
    causes = "\n".join(f"  - {cause}\n      {step}" for cause, step in known.causes)
    return f"{code}{where}\n{known.meaning}\n\n{causes}\n\nTry again? {known.retry}"
