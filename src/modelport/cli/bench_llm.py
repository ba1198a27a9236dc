"""``modelport bench llm``: how a language model's answers come under load, of this server or of any that speaks
OpenAI's protocol; as tables, JSON or a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.options import AsJson, Key

if TYPE_CHECKING:
    from modelport.bench.language.prompts import Mix
    from modelport.bench.language.session import Asking, LanguageReport
    from modelport.bench.plan import Plan
    from modelport.bench.session import Options

_INTERRUPTED = 130
_CALLERS = "1,8,32"

Model = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="Its endpoint; else the only one.", show_default=False)
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="MODELPORT_URL", help="Server, any that has /v1/chat/completions; else this machine's."
    ),
]
Rate = Annotated[
    str | None, typer.Option("--rate", metavar="R,R,…", help="Requests per second (Poisson), a step each.")
]
Callers = Annotated[
    str | None,
    typer.Option("--callers", "--concurrency", metavar="N,N,…", help="Callers in a closed loop; 1,8,32 by default."),
]
Duration = Annotated[float, typer.Option("--duration", help="Seconds measured per step.")]
Warmup = Annotated[float, typer.Option("--warmup", min=0, help="Seconds before each step that are not measured.")]
Text = Annotated[
    Path | None, typer.Option("--text", metavar="FILE", help="Ask its paragraphs, or the prompts of JSON lines.")
]
Words = Annotated[int, typer.Option("--words", min=1, max=100_000, help="Median words of a question that is made up.")]
Tokens = Annotated[int, typer.Option("--tokens", min=1, max=1_000_000, help="Median bound of an answer.")]
Same = Annotated[bool, typer.Option("--same-length", help="Every question and bound of the median length.")]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Answers go on to their bound, where the server can.")]
PrefixShare = Annotated[
    float, typer.Option("--prefix-share", min=0, max=1, help="Share of questions behind a shared system message.")
]
Prefixes = Annotated[int, typer.Option("--prefixes", min=1, max=10_000, help="How many such messages there are.")]
PrefixWords = Annotated[int, typer.Option("--prefix-words", min=1, max=100_000, help="Words of such a message.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token always.")]
Ttft = Annotated[float | None, typer.Option("--ttft-ms", min=0.001, help="A good answer begins within this.")]
Itl = Annotated[float | None, typer.Option("--itl-ms", min=0.001, help="And has its further tokens within this each.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of questions and arrivals.")]
Connections = Annotated[int, typer.Option("--connections", min=1, help="Connections at most.")]
GiveUp = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds after which an answer is given up.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with charts.")]


def bench_llm(
    model: Model = None,
    rate: Rate = None,
    callers: Callers = None,
    duration: Duration = 20.0,
    warmup: Warmup = 2.0,
    text: Text = None,
    words: Words = 60,
    tokens: Tokens = 64,
    same_length: Same = False,
    ignore_eos: IgnoreEos = False,
    prefix_share: PrefixShare = 0.0,
    prefixes: Prefixes = 4,
    prefix_words: PrefixWords = 200,
    temperature: Temperature = 0.0,
    ttft_ms: Ttft = None,
    itl_ms: Itl = None,
    seed: Seed = 0,
    connections: Connections = 1000,
    timeout: GiveUp = 120.0,
    html: Html = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Measure a language model under load: first text, tokens, good answers.

    With --rate requests arrive at random moments, whatever the server does, and their times count from when they were
    due. Every question is another one, unless --text has too few.

    Example: modelport bench llm smollm --callers 1,8,32

    Example: modelport bench llm smollm --rate 0.5,1,2,4 --ttft-ms 500 --itl-ms 100 --html smollm.html

    Example: modelport bench llm --url http://127.0.0.1:9000/v1 --text questions.jsonl --prefix-share 0.5
    """
    from modelport.bench.language.record import Promise
    from modelport.bench.language.session import Asking, LanguageReport
    from modelport.bench.session import Options
    from modelport.cli import render
    from modelport.cli.bench import above_0

    plan = _plan(rate, callers)
    options = Options(above_0(duration, "--duration"), warmup, timeout, connections, seed)
    mix = _mix(text, words, tokens, same_length, prefix_share, prefixes, prefix_words)
    report = LanguageReport("", "", "chat", plan.mode, seed, promise=Promise(ttft_ms, itl_ms))
    asking = Asking(mix, seed, temperature, {"ignore_eos": True} if ignore_eos else {}, report.promise)
    _measure(model, url, key, plan, asking, options, report)
    if html is not None:
        from modelport.bench.language.page import page

        html.write_text(page(report), encoding="utf-8")
    render.as_json(report.to_json()) if as_json else _print(report, html)
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _plan(rate: str | None, callers: str | None) -> Plan:
    from modelport.cli.bench import plan_of
    from modelport.errors import InvalidInput

    if rate == "auto":
        raise InvalidInput("--rate 'auto' is for models without a stream; give rates such as 0.5,1,2")

    return plan_of(rate, callers or (None if rate else _CALLERS), None)


def _mix(
    text: Path | None, words: int, tokens: int, same_length: bool, share: float, prefixes: int, prefix_words: int
) -> Mix:
    from modelport.bench.language.prompts import Mix, read_texts

    texts = read_texts(text) if text is not None else ()
    return Mix(words, tokens, same_length, share, prefixes, prefix_words, texts)


def _measure(
    model: str | None,
    url: str | None,
    key: str | None,
    plan: Plan,
    asking: Asking,
    options: Options,
    report: LanguageReport,
) -> None:
    """Put the figures into the report."""
    from dataclasses import replace

    from modelport.bench.language.session import LanguageSession
    from modelport.bench.plan import carry_out
    from modelport.cli import load_picture, render
    from modelport.cli.language_models import only_one
    from modelport.sdk.client import Client
    from modelport.sdk.endpoint import choose

    target = choose(url, key)
    target = replace(target, url=target.url.rstrip("/").removesuffix("/v1"))  # as OpenAI's clients write it
    with Client(target.url, target.key) as client:
        report.model, report.url = model or only_one(client), client.url
    with render.changing_line() as show:
        progress = load_picture.Progress(show)
        with LanguageSession(target, report.model, asking, options, progress.watch) as session:
            carry_out(session, plan, report, progress.note)
            report.warnings += session.remarks()


# Text


def _print(report: LanguageReport, html: Path | None) -> None:
    from modelport.bench.language.page import promised
    from modelport.cli import language_picture, render

    steps = report.language_steps
    if not steps:
        render.say("stopped before anything was measured")
        return
    render.say(f"{report.model} at {report.url}, {report.mode}; times in ms\n")
    render.table(*language_picture.loads(steps), "nothing was measured")
    render.say("")
    render.table(*language_picture.times(steps), "nothing was measured")
    render.say("")
    for line in language_picture.picture(steps, render.console().width):
        render.say(line)
    for step in steps:
        for text, count in step.errors.items():
            render.say(f"{step.load}: {count:,} x {render.plain(text)}")
        if step.unsent:
            render.say(f"{step.load}: {step.unsent:,} requests were due and not sent when the time was over")
    if report.promise.is_given:
        render.say(promised(report))
    for text in report.all_warnings:
        render.say(f"warning: {text}")
    if report.interrupted:
        render.say("stopped by Ctrl-C: the last step is what was measured until then")
    if html is not None:
        render.say(f"charts: {html}")
