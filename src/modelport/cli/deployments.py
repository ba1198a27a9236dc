"""``modelport deploy``, ``undeploy``, ``logs`` and ``modelport deployments``."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import (
    AsJson,
    Cache,
    Endpoint,
    Engine,
    Env,
    Key,
    Memory,
    NoWait,
    Reference,
    Runtime,
    Timeout,
    Url,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelport.schemas.deployments import Deployment, DeploymentSpec
    from modelport.sdk.client import Client

group = typer.Typer(help="What is served, and how.", no_args_is_help=True, rich_markup_mode=None)
MaxDelay = Annotated[float | None, typer.Option("--max-delay", min=0, help="Milliseconds to wait for company. [0]")]
RunTimeout = Annotated[
    float | None, typer.Option("--timeout", min=0, help="Seconds after which a run counts as hung. [60]")
]
StartTimeout = Annotated[
    float | None, typer.Option("--start-timeout", min=0, help="Seconds that a replica has to load. [120]")
]

Fallback = Annotated[
    str | None, typer.Option("--fallback", metavar="A,B", help="Endpoints that answer when it cannot, in this order.")
]
Cascade = Annotated[
    str | None,
    typer.Option(
        "--cascade",
        metavar="FIRST,TEST=VALUE",
        help="Smaller language model to ask first, and when its answer is kept: mean_logprob, min_logprob, agreement"
        " (with samples), valid_json.",
    ),
]


def cascade_of(text: str) -> dict[str, Any]:
    """``small,mean_logprob=-0.4`` as the fields of a cascade; numbers are checked where all of a wish is."""
    first, *tests = [part.strip() for part in text.split(",")]
    found: dict[str, Any] = {"first": first}
    for test in tests:
        name, equals, value = test.partition("=")
        found[name.strip().replace("-", "_")] = value.strip() if equals else True
    return found


def deploy(
    model: Reference,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Endpoint name; by default the model's.")] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", "-r", min=0, help="Copies of the model. [1]")] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Cores of one replica.")] = None,
    memory: Memory = None,
    gpu: Annotated[int | None, typer.Option("--gpu", min=0, help="GPUs of one replica.")] = None,
    max_batch: Annotated[int | None, typer.Option("--max-batch", min=1, help="Rows in one run at most. [32]")] = None,
    max_delay: MaxDelay = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one replica. [1]")] = None,
    cache: Cache = None,
    run_timeout: RunTimeout = None,
    start_timeout: StartTimeout = None,
    runtime: Runtime = None,
    engine: Engine = None,
    base: Annotated[str | None, typer.Option("--base", help="Deployment that a LoRA adapter runs on.")] = None,
    draft: Annotated[str | None, typer.Option("--draft", help="Small language model that writes ahead.")] = None,
    env: Env = None,
    fallback: Fallback = None,
    cascade: Cascade = None,
    follow: Annotated[bool, typer.Option("--follow", help="Roll on when the alias moves.")] = False,
    no_wait: NoWait = False,
    wait_timeout: Annotated[float, typer.Option("--wait-timeout", min=0, help="Seconds to wait at most.")] = 300,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Serve a version of a model, and wait until it answers.

    Example: modelport deploy digits@champion --replicas 2 --max-batch 64

    Example: modelport deploy qwen --draft qwen-small:3 --engine num_assistant_tokens=4

    Example: modelport deploy large --fallback small,tiny --cascade small,mean_logprob=-0.4
    """
    from modelport.cli import render
    from modelport.cli.inputs import pairs, variables
    from modelport.sdk.client import Client

    fields: dict[str, Any] = {
        "replicas": replicas, "cpu": cpu, "memory": memory, "gpu": gpu, "max_batch": max_batch,
        "max_delay_ms": max_delay, "threads": threads, "cache": cache, "timeout_s": run_timeout,
        "start_timeout_s": start_timeout, "runtime": runtime, "base": base, "draft": draft,
        "engine": pairs(engine, "--engine") or None, "env": variables(env) or None,
        "fallback": [each.strip() for each in fallback.split(",")] if fallback is not None else None,
        "cascade": cascade_of(cascade) if cascade is not None else None,
    }  # fmt: skip
    spec = {field: value for field, value in fields.items() if value is not None}
    with Client(url, key) as client:
        with render.deployment_spinner() as progress:
            made = client.deploy(
                model, endpoint=name, follow=follow, wait=not no_wait, timeout=wait_timeout, progress=progress, **spec
            )
        render.as_json(made) if as_json else _show_deployed(client, made)


def _show_deployed(client: Client, made: Deployment) -> None:
    from modelport.cli.render import counted, facts, say
    from modelport.cli.snippet import snippet_for
    from modelport.errors import InvalidInput

    task = client.chat.task(made.name) if made.replicas_ready else None
    say(f"{made.name} is {made.state}: {made.model}:{made.version}, {counted(made.replicas_ready, 'replica')} ready")
    facts(
        [
            ("url", f"{client.url}/v1/{task}" if task else f"{client.url}/v2/models/{made.name}/infer"),
            ("talk to it", f"modelport chat {made.name}" if task == "chat/completions" else None),
            ("reason", made.reason),
            ("batching", made.batching),
        ]
    )
    if made.replicas_ready:
        with suppress(InvalidInput):  # a data type that JSON cannot carry
            say(f"\n{snippet_for(client, made.name, 'curl')}")


def undeploy(name: Endpoint, no_wait: NoWait = False, url: Url = None, key: Key = None) -> None:
    """Remove a deployment; its model stays in the registry.

    Example: modelport undeploy digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client, render.working(f"{name} answers the requests that it holds"):
        client.undeploy(name, wait=not no_wait)
    render.say(f"{name} is no longer deployed")


def logs(
    name: Endpoint,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Lines to begin with.")] = 100,
    replica: Annotated[str | None, typer.Option("--replica", help="Only this replica, as `status` names it.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what the replicas of a deployment write.

    Example: modelport logs digits -f
    """
    from modelport.cli.render import plain, say
    from modelport.sdk.client import Client

    with Client(url, key) as client, suppress(*(KeyboardInterrupt,) if follow else ()):
        for line in client.deployments.logs(name, follow=follow, tail=tail, replica=replica):
            say(plain(line))


def deployment_rows(found: Sequence[Deployment]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns and rows of a table of deployments."""
    rows: list[tuple[Any, ...]] = []
    for one in found:
        wished = f"{one.model}:{one.version}" + (f" (@{one.alias})" if one.alias else "")
        ready = f"{one.replicas_ready}/{one.spec.replicas}"
        rows.append((one.name, wished, one.serving_version, one.state, ready, one.revision, one.updated_at))
    columns = ("NAME", "MODEL", "SERVING", "STATE", "READY", "REVISION", "UPDATED")
    if not any(one.spec.fallback or one.spec.cascade for one in found):
        return columns, rows
    others = [(one.spec.fallback or None, one.spec.cascade.first if one.spec.cascade else None) for one in found]
    return (*columns, "FALLBACK", "CASCADE"), [(*row, *other) for row, other in zip(rows, others, strict=True)]


def spec_text(spec: DeploymentSpec) -> str:
    """What was wished, without what was not: ``replicas=1, cascade.first=small, fallback=small,tiny``."""
    return ", ".join(_told(spec.model_dump(mode="json", exclude_none=True)))


def _told(fields: dict[str, Any], where: str = "") -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _told(value, f"{where}{name}.")
        elif value != []:
            text = ",".join(map(str, value)) if isinstance(value, list) else json.dumps(value)
            yield f"{where}{name}={text if not isinstance(value, str) else value}"


@group.command("list")
def list_deployments(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the deployments.

    Example: modelport deployments list
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.deployments.list()
    if as_json:
        render.as_json(found)
        return
    columns, rows = deployment_rows(found)
    render.table(columns, rows, "nothing is deployed; `modelport deploy NAME` serves a pushed model")


@group.command()
def show(name: Endpoint, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show one deployment and its replicas.

    Example: modelport deployments show digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.deployments.get(name)
    if as_json:
        render.as_json(found)
        return
    render.facts(
        [
            ("name", found.name),
            ("model", f"{found.model}:{found.version}" + (f" (@{found.alias})" if found.alias else "")),
            ("follows", f"@{found.alias}" if found.follow else None),
            ("serving", f"{found.model}:{found.serving_version}" if found.serving_version else "nothing"),
            ("state", found.state),
            ("reason", found.reason),
            ("revision", found.revision),
            ("batching", found.batching),
            ("spec", spec_text(found.spec)),
            ("updated", found.updated_at),
        ]
    )
    rows = [
        (r.id, r.state, r.revision, r.pid, r.restarts, r.memory_mb, render.seconds_text(r.uptime_s))
        for r in found.replicas
    ]
    render.say("")
    render.table(("REPLICA", "STATE", "REVISION", "PID", "RESTARTS", "MB", "UPTIME"), rows, "no replicas run")
    for line in found.log_tail:
        render.say(f"  | {render.plain(line)}")


@group.command()
def stop(name: Endpoint, url: Url = None, key: Key = None) -> None:
    """End the replicas, keep the deployment.

    Example: modelport deployments stop digits
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        client.deployments.stop(name)
    say(f"{name} is stopped; `modelport deployments start {name}` serves it again")


@group.command()
def start(name: Endpoint, no_wait: NoWait = False, timeout: Timeout = 300, url: Url = None, key: Key = None) -> None:
    """Serve a stopped deployment again.

    Example: modelport deployments start digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client, render.deployment_spinner() as progress:
        made = client.deployments.start(name, wait=not no_wait, timeout=timeout, progress=progress)
    render.say(f"{name} is {made.state}")


@group.command()
def rollback(name: Endpoint, no_wait: NoWait = False, timeout: Timeout = 300, url: Url = None, key: Key = None) -> None:
    """Go back to the revision before.

    Example: modelport deployments rollback digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client, render.deployment_spinner() as progress:
        made = client.deployments.rollback(name, wait=not no_wait, timeout=timeout, progress=progress)
    render.say(f"{name} is {made.state}: {made.model}:{made.version} as revision {made.revision}")
