"""Every error has an explanation, in the command, in the page, and under each of its names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelport.api.answers import NoSuchPath
from modelport.api.anthropic import errors as anthropic
from modelport.api.openai import errors as openai
from modelport.cli.main import app
from modelport.engine import proof
from modelport.errors import BY_CODE, NotFound, from_wire
from modelport.errors_explained import EXPLAINED, SPOKEN

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()


def explain(text: str) -> str:
    done = CliRunner().invoke(app, ["explain-error", text], catch_exceptions=False)
    return done.output


def test_every_code_is_explained() -> None:
    own = {code for code, cls in BY_CODE.items() if cls.__module__ == "modelport.errors"}
    assert set(EXPLAINED) == own | {proof.ProofFailed.code}


@pytest.mark.parametrize("code", sorted(EXPLAINED))
def test_an_explanation_says_causes_and_steps(code: str) -> None:
    text, known = explain(code), EXPLAINED[code]
    assert text.startswith(code) and known.causes
    for cause, step in known.causes:
        assert cause in text and step in text and cause in PAGE
    assert f"\n## {code}\n" in PAGE


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("429", ["overloaded"]),
        ("400", ["invalid_input", "model_rejected_input", "context_length_exceeded"]),
        ("unavailable", ["unavailable"]),
        ("NOT_FOUND", ["not_found"]),
        ("RESOURCE_EXHAUSTED", ["too_large", "overloaded"]),
        ("model_not_found", ["not_found"]),
        ("invalid_api_key", ["not_authenticated"]),
        ("rate_limit_exceeded", ["overloaded"]),
        ("overloaded_error", ["unavailable"]),
        ("api_error", ["internal", "run_failed"]),
    ],
)
def test_other_names_of_an_error(text: str, codes: list[str]) -> None:
    found = explain(text)
    assert [code for code in EXPLAINED if f"{code} (HTTP" in found] == codes


def test_what_other_apis_clients_are_told_is_explained() -> None:
    """For each of our errors, whatever of it OpenAI's and Anthropic's clients see."""
    for code in EXPLAINED:
        cls = BY_CODE.get(code)
        if cls is None or code in ("cancelled", "missing_extra"):  # nobody sees the one, the other is not said there
            continue
        error = from_wire(code, "")
        theirs = openai.detail(error)
        for told in (theirs["type"], theirs["code"], anthropic.body(error)["error"]["type"]):
            assert code in (SPOKEN.get(told) or [told]), f"{told} of {code}"
    assert openai.detail(NoSuchPath(""))["code"] in SPOKEN


def test_what_is_no_error() -> None:
    with pytest.raises(NotFound, match="'299'; give an HTTP or gRPC status, or one of internal, invalid_input"):
        explain("299")
