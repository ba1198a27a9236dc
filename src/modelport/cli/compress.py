"""``modelport compress`` and ``modelport methods``: a version made smaller and faster, to a budget or by methods."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import training_options as asked
from modelport.cli.jobs import Cores, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from modelport.schemas.compression import MethodInfo

_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024, "mib": 1 << 20, "gib": 1 << 30, "b": 1, "": 1}
_Text = str | None


def compress(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", help="Version to make smaller.")],
    data: Annotated[
        _Text, typer.Option("--data", metavar="NAME[:VERSION]", help="Rows to work with. [what it was trained on]")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", metavar="'NAME K=V ...'", help="Method and its options; repeat for a sequence."),
    ] = None,
    max_drop: Annotated[
        _Text, typer.Option("--max-drop", help="Largest fall of the main figure: 1% of it, or 0.5pt (points).")
    ] = None,
    size: Annotated[
        _Text, typer.Option("--size", help="So many times smaller (4x), or at most so large (10MB).")
    ] = None,
    speed: Annotated[_Text, typer.Option("--speed", help="So many times faster, one row alone (2x).")] = None,
    latency_p99: Annotated[_Text, typer.Option("--latency-p99", help="Of one row alone (10ms).")] = None,
    latency_p50: Annotated[_Text, typer.Option("--latency-p50", help="Of one row alone (5ms).")] = None,
    memory: Annotated[_Text, typer.Option("--memory", help="Of one replica (200MB).")] = None,
    runtime: Annotated[_Text, typer.Option("--for", help="Runtime: onnx, openvino, litert or torch. [its own]")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Method that the search may use; repeatable.")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Candidates to look at. [24]")] = None,
    finalists: Annotated[int | None, typer.Option("--finalists", min=1, help="Of them, to make in full. [6]")] = None,
    proofs: Annotated[int | None, typer.Option("--proofs", min=1, help="Of them, to try on unseen rows. [3]")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of the runtime, as deployed. [1]")] = None,
    name: Annotated[_Text, typer.Option("--name", "-n", help="Model that gets the version. [the same]")] = None,
    target: Annotated[_Text, typer.Option("--target", help="Column that holds the truth. [as trained]")] = None,
    validation: asked.Validation = None,
    test: Annotated[_Text, typer.Option("--test", help="Part that proves the winner. [test]")] = None,
    seed: asked.Seed = 0,
    code: asked.Code = None,
    alias: asked.Alias = None,
    labels: asked.Labels = None,
    description: asked.Description = None,
    html: Annotated[Path | None, typer.Option("--html", help="File to draw the frontier into.")] = None,
    cores: Cores = None,
    memory_mb: MemoryMb = None,
    priority: Priority = None,
    retries: Retries = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a version smaller and faster: to a budget, or by methods one after another.

    The winner is proven on rows that the search never saw. Exit code 1 when nothing keeps to the budget.

    Example: modelport compress digits --max-drop 1% --size 4x --html frontier.html
    """
    budget = {
        **_drop(max_drop), **_size(size), **_ratio("speed_ratio", "--speed", speed),
        **_milliseconds("latency_p99_ms", "--latency-p99", latency_p99),
        **_milliseconds("latency_p50_ms", "--latency-p50", latency_p50),
        **({"memory_mb": _bytes("--memory", memory) / 1e6} if memory is not None else {}),
    }  # fmt: skip
    params = asked.rest_of(
        data=data, runtime=runtime, only=only, trials=trials, finalists=finalists, proofs=proofs, threads=threads,
        name=name, target=target, validation=validation, test=test, seed=seed, alias=alias, labels=labels,
        description=description, cores=cores, memory_mb=memory_mb, priority=priority, retries=retries,
    )  # fmt: skip
    _compress(
        model, budget, [method_step(one) for one in methods or ()], code or [], params, html, detach, as_json, url, key
    )


def _compress(
    model: str, budget: dict[str, float], methods: list[dict[str, Any]], code: list[Path], params: dict[str, Any],
    html: Path | None, detach: bool, as_json: bool, url: str | None, key: str | None,
) -> None:  # fmt: skip
    from modelport.cli import follow, frontier, render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.compression.compress(
                model, budget=budget or None, methods=methods, code=code, wait=False, upload_progress=progress, **params
            )
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        ended = follow.with_table(client, job, frontier.seen)
    found = ended.result or {}
    if html is not None:
        html.write_text(frontier.page(found))
    render.as_json(found) if as_json else _show(found)
    if found.get("met") is False:
        raise typer.Exit(1)


def _show(found: dict[str, Any]) -> None:
    from modelport.cli import frontier, render

    columns, rows = frontier.table(found["candidates"], found.get("main"))
    render.table(columns, rows, "nothing was tried")
    if found.get("model"):
        render.say(f"{found['model']}: {found['original']} by {found['label']}")
        for line in frontier.proof_lines(found):
            render.say(line)
    else:
        render.say("the budget is not met by anything that was tried; nothing was registered. Nearest to it:")
        nearest = [one for one in found["candidates"] if one["number"] in found.get("nearest", [])]
        for one in sorted(nearest, key=lambda one: found["nearest"].index(one["number"])):
            missed = ", ".join(one["misses"]) or one["message"] or "nothing on the rows that chose it"
            render.say(f"  {one['number']}: {frontier.label(one)}: misses {missed}")
    for warning in found.get("warnings", []):
        render.say(f"note: {render.plain(warning)}")


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one's options.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the methods that the server can compress by, or one's options.

    Example: modelport methods quantize
    """
    from modelport.cli import render
    from modelport.cli.train import show_options
    from modelport.errors import NotFound
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found: list[MethodInfo] = client.compression.methods()
    if name is not None:
        found = [method for method in found if method.name == name]
        if not found:
            raise NotFound(f"there is no method {name[:100]!r}; `modelport methods` lists them")
    if as_json:
        render.as_json(found)
    elif name is not None:
        show_options(found[0].name, found[0].summary, found[0].options)
    else:
        rows = [
            (
                one.name,
                one.summary,
                " ".join(one.forms),
                "" if one.available else f"pip install 'modelport[{one.extra}]'",
            )
            for one in found
        ]
        render.table(("METHOD", "WHAT IT DOES", "WORKS ON", "NEEDS"), rows, "no methods")


# What was typed


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
