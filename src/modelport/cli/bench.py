"""``modelport bench NAME``: what to send and how, as a person types it; the figures as a table, bars, JSON or a page.

``modelport bench llm`` is of ``bench_llm``; an endpoint that is called llm is ``modelport bench -- llm``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from modelport.cli import bench_llm
from modelport.cli.options import AsJson, Endpoint, Key, Url

if TYPE_CHECKING:
    from modelport.bench.plan import Plan, Report
    from modelport.sdk.client import Client
    from modelport.tensors import Array

_INTERRUPTED = 130

Rate = Annotated[
    str | None,
    typer.Option("--rate", metavar="R,R,…|auto", help="Requests per second, one step each; auto by default."),
]
Callers = Annotated[str | None, typer.Option("--callers", metavar="N,N,…", help="Instead: callers in a closed loop.")]
Replay = Annotated[
    Path | None, typer.Option("--replay", metavar="LOG", help="Instead: JSON lines with time, and maybe path and body.")
]
Speed = Annotated[float, typer.Option("--speed", help="How many times as fast to replay.")]
Duration = Annotated[float | None, typer.Option("--duration", help="Seconds measured per step: 10, or a whole log.")]
Warmup = Annotated[float, typer.Option("--warmup", min=0, help="Seconds before each step that are not measured.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the random arrivals.")]
Input = Annotated[
    str | None, typer.Option("--input", metavar="DATA", help="What to send, as predict takes it; else made up.")
]
Protocol = Annotated[
    Literal["predict", "v2", "v2-binary", "v1", "grpc"], typer.Option("--protocol", help="How to ask.")
]
Grpc = Annotated[str | None, typer.Option("--grpc", metavar="HOST:PORT", help="Where gRPC is, if it is not found.")]
Limit = Annotated[
    str | None, typer.Option("--slo-p99", metavar="50ms", help="Tell the greatest load whose p99 is within this.")
]
Connections = Annotated[int, typer.Option("--connections", min=1, help="Connections at most.")]
GiveUp = Annotated[float, typer.Option("--timeout", help="Seconds after which an answer is given up.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with charts.")]


def bench(
    model: Endpoint,
    rate: Rate = None,
    callers: Callers = None,
    replay: Replay = None,
    speed: Speed = 1.0,
    duration: Duration = None,
    warmup: Warmup = 1.0,
    seed: Seed = 0,
    given: Input = None,
    protocol: Protocol = "v2-binary",
    grpc: Grpc = None,
    slo_p99: Limit = None,
    connections: Connections = 1000,
    timeout: GiveUp = 10.0,
    html: Html = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Measure how long a deployed model's answers take under load.

    Requests arrive at random moments, whatever the server does (an open loop, Poisson), and their time counts from
    when they were due: a stall shows. By default the load goes from 10 to 110 % of what the server can do.
    For language models there is `modelport bench llm`.

    Example: modelport bench digits --rate 100,200,400 --slo-p99 50ms

    Example: modelport bench digits --callers 1,16,64 --input digit.npy --html digits.html

    Example: modelport bench digits --replay requests.jsonl --speed 2
    """
    from modelport.bench.plan import Report, carry_out
    from modelport.bench.session import Options, Session
    from modelport.bench.shots import shot_of
    from modelport.cli import load_picture, render
    from modelport.sdk.client import Client
    from modelport.sdk.endpoint import choose

    plan = plan_of(rate, callers, replay, speed, duration, grpc=protocol == "grpc")
    limit = milliseconds(slo_p99)
    options = Options(above_0(duration or 10.0, "--duration"), warmup, above_0(timeout, "--timeout"), connections, seed)
    with Client(url, key) as client:
        if client.chat.task(model) == "chat/completions":
            note = f"{model} writes texts: tokens and their times are measured by `modelport bench llm {model}`"
            render.console(stderr=True).print(note, soft_wrap=True, markup=False)
        shot = shot_of(protocol, model, _inputs(client, model, given))
        address = _grpc_address(client, grpc) if protocol == "grpc" else None
        report = Report(model, client.url, protocol, plan.mode, seed, limit)
    with render.changing_line() as show:
        progress = load_picture.Progress(show)
        with Session(choose(url, key), model, shot, options, address, progress.watch) as session:
            carry_out(session, plan, report, progress.note)
    if html is not None:
        from modelport.bench.page import page

        html.write_text(page(report), encoding="utf-8")
    render.as_json(report.to_json()) if as_json else _print(report, html)
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)


class BenchGroup(TyperGroup):
    """``bench NAME`` is a command without a name of its own: that of any other first word."""

    default = "model"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


group = typer.Typer(cls=BenchGroup, help="Measure a deployed model, or a language model, under load.")
group.command(BenchGroup.default)(bench)
group.command("llm")(bench_llm.bench_llm)


def plan_of(
    rate: str | None,
    callers: str | None,
    replay: Path | None,
    speed: float = 1.0,
    duration: float | None = None,
    *,
    grpc: bool = False,
) -> Plan:
    """The steps that the options mean; raises InvalidInput, and NotFound for a log that is not there."""
    from modelport.bench.arrivals import replayed
    from modelport.bench.plan import Plan
    from modelport.errors import InvalidInput

    if sum(option is not None for option in (rate, callers, replay)) > 1:
        raise InvalidInput("--rate, --callers and --replay exclude each other: give one")
    if callers is not None:
        return Plan(callers=tuple(int(value) for value in _numbers(callers, "--callers", whole=True)))
    if replay is not None:
        log = tuple(replayed(replay, above_0(speed, "--speed"), duration))
        if grpc and any(line.path is not None or line.body is not None for line in log):
            raise InvalidInput(
                f"--replay {replay.name!r} holds paths or bodies, which gRPC cannot send; leave them out"
            )
        return Plan(log=log, speed=speed)
    return Plan(rates=() if rate in (None, "auto") else tuple(_numbers(rate or "", "--rate")))


def _numbers(text: str, option: str, whole: bool = False) -> list[float]:
    from modelport.errors import InvalidInput

    example = "1,16,64" if whole else "100,200,400, or auto"
    try:
        found = [float(int(part) if whole else float(part)) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(f"{option} {text[:100]!r} is not numbers; give some like {example}") from None
    if not all(0 < value <= 1e6 for value in found):
        raise InvalidInput(
            f"{option} {text[:100]!r}: each number is above 0 and at most 1,000,000; give like {example}"
        )
    return found


def above_0(value: float, option: str) -> float:
    """The value; raises InvalidInput."""
    from modelport.errors import InvalidInput

    if not 0 < value < float("inf"):
        raise InvalidInput(f"{option} {value:g} is not above 0; give a number such as 10")
    return value


def milliseconds(text: str | None) -> float | None:
    """``50ms``, ``0.05s`` or ``50`` (ms); raises InvalidInput."""
    from modelport.errors import InvalidInput

    if text is None:
        return None
    number, factor = text.strip().removesuffix("ms"), 1.0
    if number.endswith("s"):
        number, factor = number.removesuffix("s"), 1000.0
    try:
        return above_0(float(number) * factor, "--slo-p99")
    except ValueError:
        raise InvalidInput(f"--slo-p99 {text[:50]!r} is no time; give one like 50ms or 0.05s") from None


def _inputs(client: Client, model: str, given: str | None) -> dict[str, Array]:
    """The tensors to send: those given, else the version's own example or zeros."""
    import numpy as np

    from modelport.cli.inputs import load
    from modelport.cli.snippet import sample_of, tensors_of
    from modelport.sdk.codec import cast
    from modelport.sdk.inference import arrange

    metadata = client.metadata(model)
    if given is not None:
        data = load(given, lambda: metadata)
        return arrange(metadata, [data] if isinstance(data, int | float | str) else data)[0]
    made: dict[str, Array] = {}
    tensors = tensors_of(metadata.inputs, sample_of(client, model))
    for spec, tensor in zip(metadata.inputs, tensors, strict=True):
        is_whole = len(tensor.values) == tensor.count
        value: Any = list(tensor.values) * (1 if is_whole else tensor.count)
        made[spec.name] = cast(spec, np.array(value).reshape(tensor.shape))
    return made


def _grpc_address(client: Client, given: str | None) -> str:
    from urllib.parse import urlsplit

    from modelport.errors import InvalidInput, ModelportError

    if given is not None:
        return given
    try:
        found = client.status().grpc
    except ModelportError as error:
        raise InvalidInput(f"where gRPC is cannot be asked ({error.message}); name it with --grpc HOST:PORT") from None
    if found is None:
        raise InvalidInput("this server speaks no gRPC; `modelport up --grpc-port 8001` does, or use --protocol v2")
    host, _, port = found.rpartition(":")
    return f"{urlsplit(client.url).hostname}:{port}" if host in ("0.0.0.0", "[::]", "::", "") else found  # noqa: S104


# Text


def _print(report: Report, html: Path | None) -> None:
    from modelport.cli import load_picture, render

    if not report.steps:
        render.say("stopped before anything was measured")
        return
    about = f"{report.model} at {report.url}, {report.protocol}, {report.mode}"
    capacity = f"; 64 callers get {report.capacity:,.0f} answers/s" if report.capacity is not None else ""
    render.say(f"{about}{capacity}; times in ms\n")
    render.table(*load_picture.table(report.steps), "nothing was measured")
    render.say("")
    for line in load_picture.bars(report.steps, render.console().width):
        render.say(line)
    for step in report.steps:
        for text, count in step.errors.items():
            render.say(f"{step.load}: {count:,} x {render.plain(text)}")
        if step.unsent:
            render.say(f"{step.load}: {step.unsent:,} requests were due and not sent when the time was over")
    if report.slo_p99_ms is not None:
        best = report.best
        found = "no load that was tried keeps it" if best is None else f"kept up to {best.load}"
        render.say(f"p99 within {report.slo_p99_ms:g} ms (a refused or failed request counts as endless): {found}")
    for text in report.all_warnings:
        render.say(f"warning: {text}")
    if report.interrupted:
        render.say("stopped by Ctrl-C: the last step is what was measured until then")
    if html is not None:
        render.say(f"charts: {html}")
