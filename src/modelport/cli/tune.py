"""``modelport tune`` and ``modelport trials``: look for the options with which a recipe learns best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import training_options as asked
from modelport.cli.jobs import Cores, Gpus, JobId, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelport.cli.study import Seen
    from modelport.schemas.jobs import Job, JobMetric
    from modelport.sdk.client import Client

_SHOWN = 10
_MOST_FIGURES = 100_000
Html = Annotated[Path | None, typer.Option("--html", help="File to draw the study into: history, options, importance.")]


def tune(
    data: asked.Data,
    space: Annotated[
        list[str],
        typer.Option("--space", metavar="K=VALUES", help="What to try: 1e-4..1e-1:log, 2..8, a|b; repeatable."),
    ],
    recipe: asked.RecipeName = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="How many models to train. [50]")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Trials that run at once.")] = 1,
    metric: Annotated[str | None, typer.Option("--metric", help="Figure that decides. [the task's main one]")] = None,
    direction: Annotated[str | None, typer.Option("--direction", help="maximize or minimize. [by the figure]")] = None,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, random or grid.")] = "tpe",
    pruner: Annotated[str, typer.Option("--pruner", help="What stops bad trials: asha, median or none.")] = "asha",
    warm_up: Annotated[int, typer.Option("--warm-up", min=1, help="Epochs that every trial may have.")] = 1,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds after which no trial begins.")] = None,
    name: asked.Name = None,
    target: asked.Target = None,
    options: asked.Set = None,
    options_file: asked.OptionsFile = None,
    features: asked.Features = None,
    exclude: asked.Exclude = None,
    validation: asked.Validation = None,
    test: asked.Test = None,
    seed: asked.Seed = 0,
    start: asked.Start = None,
    code: asked.Code = None,
    module: asked.Module = None,
    command: asked.Command = None,
    requirements: asked.Requirements = None,
    alias: asked.Alias = None,
    labels: asked.Labels = None,
    html: Html = None,
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
    """Train many models with different options; the best becomes a version.

    Each is judged by the validation rows as it is served; the test part is opened once, for the best.

    Example: modelport tune -r tabular --data wine --target class --space 'model=forest|boosting' --trials 20
    """
    how = asked.recipe_and_options(recipe, module, command, requirements, options, options_file)
    params = asked.rest_of(
        name=name, target=target, features=features, exclude=exclude, validation=validation, test=test, seed=seed,
        start=start, alias=alias, labels=labels, trials=trials, workers=workers, metric=metric, direction=direction,
        sampler=sampler, pruner=pruner, warm_up=warm_up, timeout_s=timeout, cores=cores, memory_mb=memory_mb,
        gpus=gpus, priority=priority, retries=retries,
    )  # fmt: skip
    _tune(how, data, space, code or [], params, html, detach, as_json, url, key)


def _tune(
    how: tuple[str, dict[str, Any]], data: str, space: list[str], code: list[Path], params: dict[str, Any],
    html: Path | None, detach: bool, as_json: bool, url: str | None, key: str | None,
) -> None:  # fmt: skip
    from modelport.cli import follow, render, study
    from modelport.cli.inputs import pairs
    from modelport.cli.train import show_made
    from modelport.sdk.client import Client

    recipe, options = how
    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.training.tune(
                recipe,
                data,
                pairs(space, "--space"),
                options,
                code=code,
                wait=False,
                upload_progress=progress,
                **params,
            )
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        ended = _followed(client, job)
    seen, made = study.seen(ended, []), ended.result or {}
    if html is not None:
        html.write_text(study.page(ended, seen))
    if as_json:
        render.as_json(made)
    else:
        show_made(made)
        _show(seen, _SHOWN)


def trials(
    job_id: JobId,
    html: Html = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show so many.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what a job of tuning tried, the best first; also while it runs.

    Example: modelport trials 01JZ8Q6W3V2N5Y7X9T4R1K0PQM --html study.html
    """
    from modelport.cli import render, study
    from modelport.errors import InvalidInput
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.jobs.get(job_id)
        if job.kind != "tune":
            raise InvalidInput(
                f"job {job_id} is of the kind {job.kind}; `modelport jobs list --kind tune` shows studies"
            )
        seen = study.seen(job, [] if job.result else client.jobs.metrics(job_id, limit=_MOST_FIGURES))
    if html is not None:
        html.write_text(study.page(job, seen))
    render.as_json(seen.trials) if as_json else _show(seen, limit)


def _show(seen: Seen, limit: int) -> None:
    from modelport.cli import render

    columns, rows = seen.table(limit)
    render.table(columns, rows, "no trial has ended yet")
    if len(seen.trials) > limit:
        render.say(f"{len(seen.trials) - limit} more; --limit shows them")
    for name, share in seen.importance.items():
        render.say(f"importance of {name}: {share:.0%}")


def _followed(client: Client, job: Job) -> Job:
    """Wait for its end; on a terminal with a table of the best trials."""
    from modelport.cli import follow, study

    def look(job: Job, metrics: Iterable[JobMetric]) -> tuple[list[str], list[list[Any]]]:
        return study.seen(job, metrics).table(_SHOWN)

    return follow.with_table(client, job, look, f"modelport trials {job.id}")
