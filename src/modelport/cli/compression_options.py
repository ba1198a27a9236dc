"""Options of ``modelport compress``, and what is typed there: ``1%``, ``4x``, ``10ms``, ``quantize mode=static``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024, "mib": 1 << 20, "gib": 1 << 30, "b": 1, "": 1}
_Text = str | None

Model = Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", help="Version to make smaller.")]
Data = Annotated[
    _Text, typer.Option("--data", metavar="NAME[:VERSION]", help="Rows to work with. [what it was trained on]")
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", metavar="'NAME K=V ...'", help="Method and its options; repeat for a sequence."),
]
MaxDrop = Annotated[
    _Text, typer.Option("--max-drop", help="Largest fall of the main figure: 1% of it, or 0.5pt (points).")
]
Size = Annotated[_Text, typer.Option("--size", help="So many times smaller (4x), or at most so large (10MB).")]
Speed = Annotated[_Text, typer.Option("--speed", help="So many times faster, one row alone (2x).")]
LatencyP99 = Annotated[_Text, typer.Option("--latency-p99", help="Of one row alone (10ms).")]
LatencyP50 = Annotated[_Text, typer.Option("--latency-p50", help="Of one row alone (5ms).")]
Memory = Annotated[_Text, typer.Option("--memory", help="Of one replica (200MB).")]
Runtime = Annotated[_Text, typer.Option("--for", help="Runtime: onnx, openvino, litert or torch. [its own]")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Method that the search may use; repeatable.")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Candidates to look at. [24]")]
Finalists = Annotated[int | None, typer.Option("--finalists", min=1, help="Of them, to make in full. [6]")]
Proofs = Annotated[int | None, typer.Option("--proofs", min=1, help="Of them, to try on unseen rows. [3]")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Of the runtime, as deployed. [1]")]
Name = Annotated[_Text, typer.Option("--name", "-n", help="Model that gets the version. [the same]")]
Target = Annotated[_Text, typer.Option("--target", help="Column that holds the truth. [as trained]")]
Test = Annotated[_Text, typer.Option("--test", help="Part that proves the winner. [test]")]
Html = Annotated[Path | None, typer.Option("--html", help="File to draw the frontier into.")]


def budget(
    max_drop: _Text, size: _Text, speed: _Text, latency_p99: _Text, latency_p50: _Text, memory: _Text
) -> dict[str, float]:
    """What was typed, as the job takes it; raises InvalidInput."""
    return {
        **_drop(max_drop), **_size(size), **_ratio("speed_ratio", "--speed", speed),
        **_milliseconds("latency_p99_ms", "--latency-p99", latency_p99),
        **_milliseconds("latency_p50_ms", "--latency-p50", latency_p50),
        **({"memory_mb": _bytes("--memory", memory) / 1e6} if memory is not None else {}),
    }  # fmt: skip


def method_step(text: str) -> dict[str, Any]:
    """``quantize mode=static bits=8``; raises InvalidInput."""
    from modelport.cli.jobs import read_params
    from modelport.errors import InvalidInput

    try:
        name, *options = shlex.split(text)
    except ValueError:
        raise InvalidInput(f"--method: {text[:100]!r} is not like 'NAME K=V ...'") from None
    return {"method": name, "options": read_params(options, None)}


def _drop(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    bare = text.strip().lower()
    if bare.endswith("%"):
        return {"max_drop": _number("--max-drop", bare[:-1], text) / 100}
    for unit in ("points", "point", "pts", "pt", "pp"):
        if bare.endswith(unit):
            return {"max_drop_points": _number("--max-drop", bare.removesuffix(unit), text)}
    return {"max_drop": _number("--max-drop", bare, text)}


def _size(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    if text.strip().lower().endswith("x"):
        return _ratio("size_ratio", "--size", text)
    return {"size_bytes": _bytes("--size", text)}


def _ratio(field: str, option: str, text: str | None) -> dict[str, float]:
    return {} if text is None else {field: _number(option, text.strip().lower().removesuffix("x"), text)}


def _milliseconds(field: str, option: str, text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    bare = text.strip().lower()
    for unit, factor in (("ms", 1.0), ("us", 1e-3), ("µs", 1e-3), ("s", 1e3), ("", 1.0)):
        if bare.endswith(unit):
            return {field: _number(option, bare.removesuffix(unit), text) * factor}
    raise AssertionError


def _bytes(option: str, text: str) -> float:
    bare = text.strip().lower()
    digits = bare.rstrip("bgikm ")
    unit = bare[len(digits) :].strip()
    if unit not in _UNITS:
        from modelport.errors import InvalidInput

        raise InvalidInput(f"{option}: {text[:50]!r}: say bytes, kB, MB or GB, such as 10MB")
    return _number(option, digits, text) * _UNITS[unit]


def _number(option: str, digits: str, text: str) -> float:
    from modelport.errors import InvalidInput

    try:
        return float(digits)
    except ValueError:
        raise InvalidInput(f"{option}: {text[:50]!r} is no number with a unit; --help shows how it looks") from None
