"""``modelport train`` and ``modelport recipes``: a model version from a dataset, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli import training_options as asked
from modelport.cli.jobs import Cores, Gpus, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url


def train(
    data: asked.Data,
    recipe: asked.RecipeName = None,
    name: asked.Name = None,
    target: asked.Target = None,
    options: asked.Set = None,
    options_file: asked.OptionsFile = None,
    features: asked.Features = None,
    exclude: asked.Exclude = None,
    validation: asked.Validation = None,
    test: asked.Test = None,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Also cross-validate on so many folds.")] = None,
    seed: asked.Seed = 0,
    start: asked.Start = None,
    replay: asked.Replay = None,
    max_forgotten: Annotated[
        float | None, typer.Option("--max-forgotten", help="Largest fall of the figure on --replay.")
    ] = None,
    code: asked.Code = None,
    module: asked.Module = None,
    command: asked.Command = None,
    requirements: asked.Requirements = None,
    alias: asked.Alias = None,
    labels: asked.Labels = None,
    description: asked.Description = None,
    html: Annotated[Path | None, typer.Option("--html", help="File to draw the curves into.")] = None,
    cores: Cores = None,
    memory_mb: MemoryMb = None,
    gpus: Gpus = None,
    priority: Priority = None,
    retries: Retries = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Train a model; its version is judged as it is served.

    A killed job goes on from its last checkpoint. Rows that were learnt from never judge.

    Example: modelport train --recipe tabular --data wine --target class --set model=boosting
    """
    how = asked.recipe_and_options(recipe, module, command, requirements, options, options_file)
    params = asked.rest_of(
        name=name, target=target, features=features, exclude=exclude, validation=validation, test=test, folds=folds,
        seed=seed, start=start, replay=replay, max_forgotten=max_forgotten, alias=alias, labels=labels,
        description=description, cores=cores, memory_mb=memory_mb, gpus=gpus, priority=priority, retries=retries,
    )  # fmt: skip
    _train(how, data, code or [], params, html, detach, as_json, url, key)


def _train(
    how: tuple[str, dict[str, Any]], data: str, code: list[Path], params: dict[str, Any], html: Path | None,
    detach: bool, as_json: bool, url: str | None, key: str | None,
) -> None:  # fmt: skip
    from modelport.cli import curves, follow, render
    from modelport.sdk.client import Client

    recipe, options = how
    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.training.train(
                recipe, data, options, code=code, wait=False, upload_progress=progress, **params
            )
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        ended = follow.follow(client, job.id)
        if html is not None:
            curves.write(html, ended, client.jobs.metrics(job.id, limit=100_000))
    made = ended.result or {}
    render.as_json(made) if as_json else show_made(made)


def show_made(made: dict[str, Any]) -> None:
    """What training made: the version, its figures by the rows that gave them, and what to know."""
    from modelport.cli import render

    render.say(f"{made['model']} trained on {made['data']}")
    parts = made.get("figures", {})
    names = list(dict.fromkeys(name for figures in parts.values() for name in figures))
    rows = [[name, *(_number(figures.get(name)) for figures in parts.values())] for name in names]
    if rows:
        render.table(["FIGURE", *(part.upper() for part in parts)], rows, "")
    for warning in made.get("warnings", []):
        render.say(f"note: {render.plain(warning)}")


def _number(value: Any) -> str | None:
    return f"{value:.4g}" if isinstance(value, int | float) else None


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one's options.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the recipes that the server can train by, or one's options.

    Example: modelport recipes image
    """
    from modelport.cli import catalogue
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.training.recipes()
    catalogue.show(found, name, "recipe", as_json, ("RECIPE", "LEARNS", "NEEDS"), lambda one: (one.name, one.summary))
