"""``modelport train`` and ``modelport recipes``: a model version from a dataset, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.jobs import Cores, Gpus, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from modelport.schemas.training import RecipeInfo

_Names = list[str] | None


def train(
    data: Annotated[
        str, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to learn from.", show_default=False)
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="How it learns; `modelport recipes` lists them.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Model that gets the version. [the data's]")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Column to predict. [the data's label]")] = None,
    options: Annotated[
        _Names, typer.Option("--set", metavar="K=V", help="Option of the recipe; JSON is taken as such; repeatable.")
    ] = None,
    options_file: Annotated[str | None, typer.Option("--options", help="YAML or JSON file with options.")] = None,
    features: Annotated[_Names, typer.Option("--feature", help="Column to learn from; repeatable. [all]")] = None,
    exclude: Annotated[_Names, typer.Option("--exclude", help="Column to leave out; repeatable.")] = None,
    validation: Annotated[
        str | None, typer.Option("--validation", help="Part, or share of the rows, to choose by. [validation, or 0.2]")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Part that judges at the very end. [test]")] = None,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Also cross-validate on so many folds.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same model.")] = 0,
    start: Annotated[
        str | None, typer.Option("--from", metavar="MODEL[:VERSION|@ALIAS]", help="Version to go on from.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option("--replay", metavar="DATA", help="Older rows to mix in against forgetting.")
    ] = None,
    max_forgotten: Annotated[
        float | None, typer.Option("--max-forgotten", help="Largest fall of the figure on --replay.")
    ] = None,
    code: Annotated[
        list[Path] | None, typer.Option("--code", help="File or folder to send along: code, weights; repeatable.")
    ] = None,
    module: Annotated[
        str | None, typer.Option("--module", metavar="MODULE:FUNCTION", help="Your own network; see docs/training.md.")
    ] = None,
    command: Annotated[
        str | None, typer.Option("--command", help="Your own script, in an environment of its own.")
    ] = None,
    requirements: Annotated[
        _Names, typer.Option("--requirement", help="Package of the --command's environment; repeatable.")
    ] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Alias that moves to the version.")] = None,
    labels: Annotated[_Names, typer.Option("--label", metavar="K=V", help="Label of the version; repeatable.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What the model is for.")] = None,
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
    """Train a model: its version is judged as it is served, and registered with its figures.

    A killed job goes on from its last checkpoint. Rows that were learnt from never judge.

    Example: modelport train --recipe tabular --data wine --target class --set model=boosting
    """
    from modelport.cli import curves, follow, render
    from modelport.cli.inputs import pairs
    from modelport.cli.jobs import read_mapping, read_params, read_value
    from modelport.sdk.client import Client

    given = read_params(options, None)
    recipe, given = _recipe(recipe, module, command, requirements, given)
    if options_file is not None:
        given = {**read_mapping(options_file), **given}
    params: dict[str, Any] = {
        "name": name, "target": target, "features": features or None, "exclude": exclude or None,
        "validation": None if validation is None else read_value(validation), "test": test, "folds": folds,
        "seed": seed or None, "start": start, "replay": replay, "max_forgotten": max_forgotten, "alias": alias,
        "labels": pairs(labels or [], "--label") or None, "description": description, "cores": cores,
        "memory_mb": memory_mb, "gpus": gpus, "priority": priority, "retries": retries,
    }  # fmt: skip
    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.training.train(
                recipe, data, given, code=code or (), wait=False, upload_progress=progress, **params
            )
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        ended = follow.follow(client, job.id)
        if html is not None:
            curves.write(html, ended, client.jobs.metrics(job.id, limit=100_000))
    made = ended.result or {}
    render.as_json(made) if as_json else show_made(made)


def _recipe(
    recipe: str | None, module: str | None, command: str | None, requirements: _Names, given: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The recipe that is meant, and its options with what has an option of its own."""
    from modelport.errors import InvalidInput

    named = [choice for choice in (recipe, module and "module", command and "command") if choice]
    if len(set(named)) != 1:
        raise InvalidInput("say how to learn: one of --recipe NAME, --module MODULE:FUNCTION and --command 'python …'")
    if module is not None:
        given["build"] = module
    if command is not None:
        given["command"] = command
    if requirements:
        given["requirements"] = requirements
    return named[0], given


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
    from modelport.cli import render
    from modelport.errors import NotFound
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.training.recipes()
    if name is not None:
        found = [recipe for recipe in found if recipe.name == name]
        if not found:
            raise NotFound(f"there is no recipe {name[:100]!r}; `modelport recipes` lists them")
    if as_json:
        render.as_json(found)
    elif name is not None:
        _show(found[0])
    else:
        rows = [
            (r.name, r.summary, "" if r.available else f"pip install 'modelport[{r.extra}]'")
            for r in found
        ]  # fmt: skip
        render.table(("RECIPE", "LEARNS", "NEEDS"), rows, "no recipes")


def _show(recipe: RecipeInfo) -> None:
    from modelport.cli import render

    render.say(f"{recipe.name}: {recipe.summary}\n")
    rows = []
    for option, about in recipe.options.get("properties", {}).items():
        kinds = about.get("enum") or [part.get("type", part.get("const", "")) for part in about.get("anyOf", [about])]
        text = " ".join(str(about.get("description", "")).split())
        rows.append((option, "|".join(str(kind) for kind in kinds if kind != "null"), about.get("default"), text))
    render.table(("OPTION", "VALUE", "DEFAULT", "WHAT IT DOES"), rows, "it takes no options")
