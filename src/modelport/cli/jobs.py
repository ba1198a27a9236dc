"""``modelport jobs``: long work that survives a crash: submit, look, follow, cancel, schedule."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelport.schemas.jobs import Job, JobState

group = typer.Typer(help="Long work that survives a crash.", no_args_is_help=True, rich_markup_mode=None)

#: What a result's reader looks for first.
_TOLD = ("dataset", "model", "to", "deployment", "rows", "new_rows", "failed_rows", "evaluation", "verdict")
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, as `jobs list` shows it.", show_default=False)]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="What is to be done.", show_default=False)]
Params = Annotated[
    list[str] | None,
    typer.Argument(metavar="[K=V]...", help="What the kind takes; a value that is JSON is taken as such."),
]
ParamsFile = Annotated[str | None, typer.Option("--params", help="YAML or JSON file with what the kind takes.")]
Cores = Annotated[float | None, typer.Option("--cores", min=0, help="Cores that are kept free for it. [1]")]
MemoryMb = Annotated[
    int | None, typer.Option("--memory-mb", min=64, help="Most memory, MB. [its cores' share of the machine's]")
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs that it has alone. [0]")]
Priority = Annotated[int | None, typer.Option("--priority", help="The highest begins first. [0]")]
Retries = Annotated[int | None, typer.Option("--retries", min=0, help="Attempts after the first one failed. [2]")]


@group.command()
def submit(
    kind: Kind,
    params: Params = None,
    params_file: ParamsFile = None,
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
    """Have work done, and follow it until it ends.

    Example: modelport jobs submit deploy model=digits@champion
    """
    from modelport.cli import follow, render
    from modelport.sdk.client import Client

    taken = read_params(params, params_file)
    with Client(url, key) as client:
        made = client.jobs.submit(
            kind, taken, cores=cores, memory_mb=memory_mb, gpus=gpus, priority=priority, retries=retries
        )
        if not detach:
            made = follow.follow(client, made.id)
    if as_json:
        render.as_json(made)
    elif detach:
        follow.detached(made)
    else:
        show_job(made)


@group.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option("--state", help="Only queued, running, succeeded, failed or cancelled ones.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only those of this kind.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only the stages of this pipeline run.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many of the newest.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the jobs, newest first.

    Example: modelport jobs list --state running
    """
    from modelport.cli import render
    from modelport.cli.follow import count_text
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.jobs.list(state=checked_state(state), kind=kind, run=run, limit=limit)
    if as_json:
        render.as_json(found)
        return
    rows = [(j.id, j.kind, j.state, count_text(j) or None, j.attempt, j.created_by, j.created_at) for j in found]
    render.table(("ID", "KIND", "STATE", "PROGRESS", "ATTEMPT", "BY", "CREATED"), rows, "no jobs")


@group.command()
def show(id: JobId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show one job; of a pipeline run also its stages.

    Example: modelport jobs show 01KAN4ZV9MJ3R8W6S2YQ5T7XBC
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.jobs.get(id)
        stages = client.jobs.list(run=id, limit=1000) if found.kind == "pipeline" else []
    if as_json:
        render.as_json(found)
        return
    show_job(found)
    if stages:
        show_stages(stages)


@group.command()
def logs(
    id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, max=10_000, help="Lines to begin with.")] = 1000,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what a job writes.

    Example: modelport jobs logs 01KAN4ZV9MJ3R8W6S2YQ5T7XBC -f
    """
    from modelport.cli.render import plain, say
    from modelport.sdk.client import Client

    with Client(url, key) as client, suppress(*(KeyboardInterrupt,) if follow else ()):
        for line in client.jobs.logs(id, follow=follow, tail=tail):
            say(plain(line))


@group.command()
def metrics(
    id: JobId,
    name: Annotated[str | None, typer.Option("--name", help="Only this figure.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="So many of the last.")] = 1000,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the figures that a job told, step by step.

    Example: modelport jobs metrics 01KAN4ZV9MJ3R8W6S2YQ5T7XBC --name loss
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.jobs.metrics(id, name, limit=limit)
    if as_json:
        render.as_json(found)
        return
    render.table(("NAME", "STEP", "VALUE"), [(m.name, m.step, m.value) for m in found], "it told no figures")


@group.command()
def cancel(id: JobId, url: Url = None, key: Key = None) -> None:
    """Have a job end, and wait until it has.

    Example: modelport jobs cancel 01KAN4ZV9MJ3R8W6S2YQ5T7XBC
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client, render.working(f"{id} ends"):
        client.jobs.cancel(id)
        ended = client.jobs.wait(id, timeout=60, raises=False)
    render.say(f"{id} is {ended.state}")


@group.command()
def schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", show_default=False)],
    kind: Kind,
    cron: Annotated[str, typer.Option("--cron", help="Such as '0 3 * * *': every day at three.", show_default=False)],
    params: Params = None,
    params_file: ParamsFile = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Time zone of the cron.")] = "UTC",
    cores: Cores = None,
    memory_mb: MemoryMb = None,
    gpus: Gpus = None,
    priority: Priority = None,
    retries: Retries = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit a job at every tick of a cron; the same NAME again changes it.

    Ticks that passed while the server was down count as one; while the last one's job runs, a tick is skipped.

    Example: modelport jobs schedule nightly deploy --cron '0 3 * * *' model=digits@champion
    """
    from modelport.cli import render
    from modelport.sdk.client import Client
    from modelport.sdk.jobs import wish_of

    fields = {"cores": cores, "memory_mb": memory_mb, "gpus": gpus, "priority": priority, "retries": retries}
    wish = wish_of(kind, read_params(params, params_file), dict(fields))
    with Client(url, key) as client:
        made = client.schedules.put(name, cron, wish, timezone=timezone)
    render.say(f"{made.name} submits {made.kind} next at {render.plain(made.next_at)} UTC")


@group.command()
def schedules(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the schedules.

    Example: modelport jobs schedules
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.schedules.list()
    if as_json:
        render.as_json(found)
        return
    rows = [(s.name, s.cron, s.timezone, s.kind, s.next_at, s.last_at, s.last_job, s.note) for s in found]
    columns = ("NAME", "CRON", "ZONE", "KIND", "NEXT", "LAST", "JOB", "NOTE")
    render.table(columns, rows, "no schedules; `modelport jobs schedule NAME KIND --cron …` makes one")


@group.command()
def unschedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", show_default=False)],
    url: Url = None,
    key: Key = None,
) -> None:
    """Remove a schedule; jobs that it has submitted go on.

    Example: modelport jobs unschedule nightly
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        client.schedules.delete(name)
    say(f"{name} submits nothing more")


def show_job(job: Job) -> None:
    """One job as names and values."""
    from modelport.cli import render
    from modelport.cli.follow import count_text

    held = job.resources
    render.facts(
        [
            ("id", job.id),
            ("kind", job.kind),
            ("state", job.state + (", told to end" if job.cancelling and not job.has_ended else "")),
            ("message", None if job.error is not None and job.error.message == job.message else job.message),
            ("error", job.error.message if job.error is not None else None),
            ("result", None if job.kind == "pipeline" else result_text(job.result or {})),
            ("progress", count_text(job)),
            ("attempt", f"{job.attempt} of at most {job.retries + 1}" if job.attempt else None),
            ("holds", f"{held.cores:g} cores, {held.memory_mb} MB, {held.gpus} GPUs" if held.cores else None),
            ("priority", job.priority or None),
            ("schedule", job.schedule),
            ("run", job.run),
            ("created", f"{render.plain(job.created_at)} by {job.created_by}"),
            ("ended", job.ended_at),
        ]
    )


def result_text(result: dict[str, Any]) -> str:
    """What a job made, in one line: names and counts, and the one figure that tells most; ``--json`` shows it all."""
    from modelport.cli.render import plain

    main = result.get("main")
    told = {name: result[name] for name in _TOLD if result.get(name) is not None}
    if isinstance(main, str) and main in result:
        told[main] = result[main]
    if not told:
        told = {name: value for name, value in result.items() if not isinstance(value, dict | list)}
    return ", ".join(
        f"{name} {f'{value:.4g}' if isinstance(value, float) else plain(value)}" for name, value in told.items()
    )


def show_stages(stages: Sequence[Job]) -> None:
    """The stages of a pipeline's run, in the order in which they began."""
    from modelport.cli import render

    rows = [
        (s.stage, s.kind, s.state, s.error.message if s.error else result_text(s.result or {}) or s.message)
        for s in sorted(stages, key=lambda stage: stage.created_at)
    ]
    render.say("")
    render.table(("STAGE", "KIND", "STATE", "MADE"), rows, "no stage began")


def checked_state(state: str | None) -> JobState | None:
    """Raises InvalidInput for a word that is no state."""
    from typing import get_args

    from modelport.errors import InvalidInput
    from modelport.schemas.jobs import JobState

    for known in get_args(JobState):
        if state == known:
            found: JobState = known
            return found
    if state is not None:
        raise InvalidInput(f"--state {state!r} is none; there are {', '.join(get_args(JobState))}")
    return None


def read_params(pairs: list[str] | None, file: str | None) -> dict[str, Any]:
    """What a kind takes, from a file and from K=V, of which the latter win; raises InvalidInput."""
    from modelport.errors import InvalidInput

    found = read_mapping(file) if file is not None else {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{pair[:100]!r} is not like K=V")
        found[name] = read_value(value)
    return found


def read_value(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def read_mapping(file: str) -> dict[str, Any]:
    """A YAML (or JSON) file that holds a mapping; raises InvalidInput."""
    import sys
    from pathlib import Path

    import yaml

    from modelport.errors import InvalidInput, NotFound

    if file != "-" and not Path(file).is_file():
        raise NotFound(f"{file!r} is no file; name a YAML file, or - to read it from a pipe")
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        found = yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{file} is not YAML: {' '.join(str(error).split())[:500]}; correct that place") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"{file} has to hold names and values")
    return found
