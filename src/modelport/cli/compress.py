"""``modelport compress`` and ``modelport methods``: a version made smaller and faster, to a budget or by methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli import compression_options as wishes
from modelport.cli import training_options as asked
from modelport.cli.jobs import Cores, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url


def compress(
    model: wishes.Model,
    data: wishes.Data = None,
    methods: wishes.Methods = None,
    max_drop: wishes.MaxDrop = None,
    size: wishes.Size = None,
    speed: wishes.Speed = None,
    latency_p99: wishes.LatencyP99 = None,
    latency_p50: wishes.LatencyP50 = None,
    memory: wishes.Memory = None,
    runtime: wishes.Runtime = None,
    only: wishes.Only = None,
    trials: wishes.Trials = None,
    finalists: wishes.Finalists = None,
    proofs: wishes.Proofs = None,
    threads: wishes.Threads = None,
    name: wishes.Name = None,
    target: wishes.Target = None,
    validation: asked.Validation = None,
    test: wishes.Test = None,
    seed: asked.Seed = 0,
    code: asked.Code = None,
    alias: asked.Alias = None,
    labels: asked.Labels = None,
    description: asked.Description = None,
    html: wishes.Html = None,
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
    budget = wishes.budget(max_drop, size, speed, latency_p99, latency_p50, memory)
    params = asked.rest_of(
        data=data, runtime=runtime, only=only, trials=trials, finalists=finalists, proofs=proofs, threads=threads,
        name=name, target=target, validation=validation, test=test, seed=seed, alias=alias, labels=labels,
        description=description, cores=cores, memory_mb=memory_mb, priority=priority, retries=retries,
    )  # fmt: skip
    _compress(
        model,
        budget,
        [wishes.method_step(one) for one in methods or ()],
        code or [],
        params,
        html,
        detach,
        as_json,
        url,
        key,
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
            render.say(f"  {one['number']}: {one['label']}: misses {missed}")
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
    from modelport.cli import catalogue
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.compression.methods()
    columns = ("METHOD", "WHAT IT DOES", "WORKS ON", "NEEDS")
    catalogue.show(found, name, "method", as_json, columns, lambda one: (one.name, one.summary, " ".join(one.forms)))
