"""``modelport run``: a pipeline from a YAML file, stage by stage, and its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelport.schemas.jobs import Job
    from modelport.schemas.pipelines import PipelinePlan, PlannedStage


def run(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="YAML file with the pipeline, or - to read it.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Parameter of the pipeline; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Draw what would be done, and start nothing.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do every stage, whatever earlier runs made.")] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Do what an ended run has left undone.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the file, for editors.")] = False,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run a pipeline: its stages are jobs, and what is unchanged is not done again.

    Example: modelport run digits.yaml --set accuracy=0.97
    """
    from modelport.cli import follow, render
    from modelport.cli.jobs import read_mapping, read_params, show_job, show_stages
    from modelport.errors import InvalidInput
    from modelport.schemas.pipelines import Pipeline
    from modelport.sdk.client import Client

    if schema:
        render.as_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Pipeline.model_json_schema()})
        return
    if (file is None) == (resume is None):
        raise InvalidInput("give a file: modelport run FILE, or a run to go on with: modelport run --resume RUN")
    if resume is not None and (settings or dry_run or no_cache):
        raise InvalidInput("--resume goes on with the run as it was; leave the other options out")
    stages: list[Job] = []
    with Client(url, key) as client:
        if resume is not None:
            made = client.pipelines.resume(resume)
        else:
            pipeline, parameters = read_mapping(file or "-"), read_params(settings, None)
            if dry_run:
                plan = client.pipelines.plan(pipeline, parameters, cache=not no_cache)
                render.as_json(plan) if as_json else draw(plan)
                return
            made = client.pipelines.run(pipeline, parameters, cache=not no_cache)
        if not detach:
            made = follow.follow(client, made.id)
            stages = client.jobs.list(run=made.id, limit=1000)
    if as_json:
        render.as_json(made)
    elif detach:
        follow.detached(made)
    else:
        show_job(made)
        show_stages(stages)


def draw(plan: PipelinePlan) -> None:
    """The graph: a row of boxes for the stages that can run side by side, an arrow to those that come after."""
    from rich.columns import Columns

    from modelport.cli.render import console, facts, say

    facts([("pipeline", plan.name), ("parameters", plan.parameters)])
    screen = console()
    for number, row in enumerate(rows_of(plan.stages)):
        if number:
            say("      │\n      ▼")
        screen.print(Columns([_box(stage) for stage in row], padding=(0, 1)))


def rows_of(stages: list[PlannedStage]) -> list[list[PlannedStage]]:
    """The stages by how many others come before them at least."""
    depth: dict[str, int] = {}
    for stage in stages:  # those that a stage needs stand before it
        depth[stage.name] = max((depth[need] + 1 for need in stage.needs), default=0)
    rows: list[list[PlannedStage]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for stage in stages:
        rows[depth[stage.name]].append(stage)
    return rows


def _box(stage: PlannedStage) -> RenderableType:
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    state = "left out" if stage.skipped else f"taken from {stage.taken_from}" if stage.taken_from else ""
    lines = [
        stage.kind,
        f"after {', '.join(stage.needs)}" if stage.needs else "",
        f"when {stage.when}" if stage.when else "",
        *(f"requires {condition}" for condition in stage.require),
        state,
    ]
    style = "dim" if stage.skipped else "green" if stage.taken_from else ""
    text = Text("\n".join(line for line in lines if line), style=style)
    return Panel(text, title=stage.name, title_align="left", box=box.ROUNDED, expand=False)
