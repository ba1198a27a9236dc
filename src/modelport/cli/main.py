"""``modelport``: the commands, and what becomes of an error.

Commands import what they need when they run, so that ``--help`` is quick. They are thin: arguments to a call of the
SDK, its result to text.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from modelport import __version__
from modelport.cli import (
    apply,
    bench,
    build,
    bundle,
    chat,
    compress,
    convert,
    data,
    deployments,
    doctor,
    evaluate,
    explain_error,
    grade,
    jobs,
    keys,
    models,
    predict,
    predict_batch,
    run,
    serve,
    snippet,
    status,
    train,
    tune,
    up,
)
from modelport.cli.render import fail, say
from modelport.errors import ModelportError, NotAuthenticated

app = typer.Typer(
    name="modelport",
    help="Push models, deploy them, predict.\n\nmodelport up --detach; modelport push digits.onnx --name digits; "
    "modelport deploy digits",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"modelport {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def version() -> None:
    """Print the version.

    Example: modelport version
    """
    _print_version(True)


app.command()(up.up)
app.command()(up.down)
app.command()(serve.serve)
app.command()(status.status)
app.command()(models.push)
app.command()(deployments.deploy)
app.command()(deployments.undeploy)
app.command()(predict.predict)
app.command()(predict_batch.predict_batch)
app.command()(chat.chat)
app.command()(train.train)
app.command()(train.recipes)
app.command()(evaluate.evaluate)
app.command()(grade.grade)
app.command()(grade.grades)
app.command()(tune.tune)
app.command()(tune.trials)
app.command()(compress.compress)
app.command()(compress.methods)
app.command()(convert.convert)
app.command()(bundle.bundle)
app.command()(run.run)
app.command()(deployments.logs)
app.command()(apply.apply)
app.command()(build.build)
app.command()(snippet.snippet)
app.command()(explain_error.explain_error)
app.command()(doctor.doctor)
app.add_typer(bench.group, name="bench")
app.add_typer(models.group, name="models")
app.add_typer(data.group, name="data")
app.add_typer(evaluate.group, name="evaluations")
app.add_typer(deployments.group, name="deployments")
app.add_typer(jobs.group, name="jobs")
app.add_typer(keys.group, name="keys")


def _next_step(error: ModelportError) -> str:
    if isinstance(error, NotAuthenticated):
        return "; give a key with --key or MODELPORT_KEY"
    return ""


def main() -> None:
    """Run the command line; exit code 1 for an error, 2 for wrong usage."""
    debug = os.environ.get("MODELPORT_DEBUG", "") not in {"", "0"}
    try:
        app(prog_name="modelport")
    except ModelportError as error:
        if debug:
            raise
        first, newline, rest = error.message.partition("\n")
        fail(first + _next_step(error) + newline + rest)
    except OSError as error:
        if debug:
            raise
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except Exception as error:
        if debug:
            raise
        fail(f"{type(error).__name__}: {error}; this is a defect: MODELPORT_DEBUG=1 shows where")
    sys.exit(1)


if __name__ == "__main__":
    main()
