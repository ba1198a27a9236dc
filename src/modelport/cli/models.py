"""``modelport push`` and ``modelport models``: the registry from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import AsJson, Key, ModelName, Reference, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelport.schemas.grades import Grade
    from modelport.schemas.models import ModelVersion
    from modelport.schemas.preprocessing import ImageStep, TextStep
    from modelport.tensors import TensorSpec

group = typer.Typer(help="Models and their versions.", no_args_is_help=True, rich_markup_mode=None)
Version = Annotated[int, typer.Argument(help="Version number.", show_default=False)]


def push(
    source: Annotated[str, typer.Argument(help="File, folder or s3/gs/abfs/https/hf URL.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Model name; by default as the source calls it.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="K=V", help="Label; repeatable.")] = None,
    alias: Annotated[str | None, typer.Option("--alias", "-a", help="Alias to move to the new version.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", metavar="K=V", help="Metric; repeatable.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B,C|FILE", help="Names of the classes, or a file of lines.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option("--sample", help="Example inputs: .npz by input name, .npy, or .json.")
    ] = None,
    preprocessing: Annotated[
        Path | None,
        typer.Option("--preprocessing", metavar="FILE", help="YAML: how image files or texts become its inputs."),
    ] = None,
    description: Annotated[str, typer.Option("--description", help="What the model is for.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Such as Apache-2.0.")] = "",
    on_server: Annotated[
        bool, typer.Option("--on-server", help="Let the server read SOURCE, with its own credentials.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Register a model from a file, a folder or a URL.

    It becomes the next version of the model NAME. MLflow's and BentoML's folders are taken as they are; a Triton
    repository gives a version for each of its own.

    Example: modelport push digits.onnx --name digits --alias champion --label team=vision
    """
    from modelport.cli.inputs import class_names, numbers, pairs, sample_inputs, steps
    from modelport.cli.render import as_json as print_json
    from modelport.cli.sources import import_on_server, push_parts
    from modelport.sdk.client import Client

    arguments: dict[str, Any] = {
        "labels": pairs(label, "--label"),
        "alias": alias,
        "metrics": numbers(metric, "--metric"),
        "class_labels": class_names(classes) if classes is not None else None,
        "sample": sample_inputs(sample) if sample is not None else None,
        "preprocessing": steps(preprocessing) if preprocessing is not None else (),
        "description": description,
        "licence": licence,
    }
    with Client(url, key) as client:
        register = import_on_server if on_server else push_parts
        made = register(client, source, name, arguments)
    if as_json:
        print_json(made[0] if len(made) == 1 else made)
        return
    for version in made:
        _show(version, [])


def _has_own(found: ModelVersion) -> bool:
    """Whether the version runs with packages of its own."""
    return "requirements" in found.manifest.details


def _show(found: ModelVersion, packages: list[str], graded: Sequence[Grade] = ()) -> None:
    from modelport.cli.grade import line
    from modelport.cli.render import bytes_text, counted, facts, say

    manifest = found.manifest
    alone, figures = _by_rows(manifest.metrics)
    say(f"{found.model}:{found.version}")
    facts(
        [
            ("format", found.format),
            ("inputs", "; ".join(_spec_text(spec) for spec in manifest.signature.inputs)),
            ("outputs", "; ".join(_spec_text(spec) for spec in manifest.signature.outputs)),
            ("made of", "; ".join(_step_text(step) for step in manifest.preprocessing)),
            ("classes", "; ".join(f"{output}: {_brief(names)}" for output, names in manifest.labels.items())),
            ("aliases", found.aliases),
            ("labels", found.labels),
            ("metrics", alone),
            ("grade", "; ".join(line(one) for one in graded)),
            ("parents", manifest.parents),
            ("deployed in", found.deployed_in),
            ("requires", manifest.details.get("requirements")),
            ("runs with", packages),
            ("size", f"{bytes_text(found.size)} in {counted(len(manifest.files), 'file')}"),
            ("digest", found.digest),
            ("created", f"{found.created_at:%Y-%m-%d %H:%M:%S} by {found.created_by}"),
            ("licence", manifest.licence),
            ("about", manifest.description),
        ]
    )
    if figures:
        _show_figures(figures)


#: What `train` and `tune` put before the names of figures: which rows they are from.
_PARTS = ("validation", "test", "cv", "cv_std", "replay_before", "replay")


def _by_rows(metrics: dict[str, float]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What is told once, and by the name of a figure what it is on which rows."""
    alone: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for full, value in metrics.items():
        part = max((part for part in _PARTS if full.startswith(f"{part}_")), key=len, default=None)
        if part is None:
            alone[full] = f"{value:.6g}"
        else:
            found.setdefault(full.removeprefix(f"{part}_"), {})[part] = f"{value:.4g}"
    return alone, found


def _show_figures(found: dict[str, dict[str, str]]) -> None:
    """One below another, those of the same name on different rows side by side."""
    from modelport.cli.render import say, table

    parts = [part for part in _PARTS if any(part in figures for figures in found.values())]
    say("")
    rows = [[name, *(figures.get(part) for part in parts)] for name, figures in found.items()]
    table(["FIGURE", *(part.upper() for part in parts)], rows, "")


def _spec_text(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype}{list(spec.shape)}"


def _step_text(step: ImageStep | TextStep) -> str:
    return f"{step.kind} {step.name}"


def _brief(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f", … ({len(names)})" if len(names) > 10 else "")


@group.command("list")
def list_models(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the models.

    Example: modelport models list
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.models.list()
    if as_json:
        render.as_json(found)
        return
    rows = [(m.name, m.latest_version, m.versions, m.aliases, m.created_at) for m in found]
    render.table(("NAME", "LATEST", "VERSIONS", "ALIASES", "CREATED"), rows, "no models; `modelport push` adds one")


@group.command()
def versions(name: ModelName, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the versions of a model.

    Example: modelport models versions digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.models.versions(name)
    if as_json:
        render.as_json(found)
        return
    rows = [
        (v.version, v.format, render.bytes_text(v.size), v.aliases, v.labels, v.deployed_in, v.created_at, v.created_by)
        for v in found
    ]
    columns = ("VERSION", "FORMAT", "SIZE", "ALIASES", "LABELS", "DEPLOYED IN", "CREATED", "BY")
    render.table(columns, rows, f"model {name} has no versions")


@group.command()
def show(model: Reference, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show one version: signature, classes, metrics, files.

    Example: modelport models show digits@champion
    """
    from modelport.cli.render import as_json as print_json
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    with Client(url, key) as client:
        found = client.models.version(reference.name, reference.ref)
        packages = client.models.lineage(found.model, found.version).packages if _has_own(found) else []
        graded = [] if as_json else client.grades.list(found.model, found.version)
    print_json(found) if as_json else _show(found, packages, graded)


@group.command()
def alias(
    name: ModelName,
    alias: Annotated[str, typer.Argument(help="Such as champion.", show_default=False)],
    version: Version,
    url: Url = None,
    key: Key = None,
) -> None:
    """Point an alias at a version.

    Example: modelport models alias digits champion 3
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        client.models.alias(name, alias, version)
    say(f"{name}@{alias} is now {name}:{version}")


@group.command()
def unalias(
    name: ModelName,
    alias: Annotated[str, typer.Argument(help="Such as champion.", show_default=False)],
    url: Url = None,
    key: Key = None,
) -> None:
    """Remove an alias; its version stays.

    Example: modelport models unalias digits champion
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        client.models.unalias(name, alias)
    say(f"removed {name}@{alias}")


@group.command()
def tag(
    model: Reference,
    labels: Annotated[list[str], typer.Argument(metavar="K=V...", help="Labels.", show_default=False)],
    url: Url = None,
    key: Key = None,
) -> None:
    """Put labels on a version.

    Example: modelport models tag digits:3 stage=tested
    """
    from modelport.cli.inputs import pairs
    from modelport.cli.render import say
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    with Client(url, key) as client:
        for name, value in pairs(labels, "label").items():
            client.models.tag(reference.name, reference.ref, name, value)
    say(f"tagged {model}")


@group.command()
def untag(
    model: Reference,
    labels: Annotated[list[str], typer.Argument(metavar="KEY...", help="Label keys.", show_default=False)],
    url: Url = None,
    key: Key = None,
) -> None:
    """Remove labels from a version.

    Example: modelport models untag digits:3 stage
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    with Client(url, key) as client:
        for name in labels:
            client.models.untag(reference.name, reference.ref, name)
    say(f"untagged {model}")


@group.command()
def delete(
    model: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="Model or version.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete a version, or a model with all of them.

    Refused while it is deployed.

    Example: modelport models delete digits:2
    """
    from modelport.cli.render import say
    from modelport.errors import InvalidInput
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    if reference.alias is not None:
        raise InvalidInput(
            f"delete takes a version number, for an alias may move meanwhile; `modelport models show {model}` tells it"
        )
    whole = reference.version is None
    if whole and not yes:
        typer.confirm(f"Delete model {model} with all its versions?", abort=True)
    with Client(url, key) as client:
        client.models.delete(reference.name, reference.version)
    say(f"deleted {model}")


@group.command()
def pull(
    model: Reference,
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the files.", show_default=False)],
    url: Url = None,
    key: Key = None,
) -> None:
    """Bring the files of a version here, verified.

    Example: modelport models pull digits@champion ./digits
    """
    from modelport.cli import render
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    with Client(url, key) as client, render.transfer_bar() as progress:
        found = client.models.pull(reference.name, reference.ref, folder, progress=progress)
    files = render.counted(len(found.manifest.files), "file")
    render.say(f"{found.model}:{found.version} is in {folder} ({files}, {render.bytes_text(found.size)}, verified)")


@group.command()
def lineage(model: Reference, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show what a version was made from and what uses it.

    Example: modelport models lineage digits:3
    """
    from modelport.cli import render
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    with Client(url, key) as client:
        found = client.models.lineage(reference.name, reference.ref)
    if as_json:
        render.as_json(found)
        return
    render.say(found.version)
    made = [("made from", found.parents), ("source of", found.children), ("deployed in", found.deployments)]
    render.facts([*made, ("runs with", found.packages)])


@group.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Remove stored files that no version uses any more.

    Example: modelport models gc --dry-run
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        report = client.gc(dry_run=dry_run)
    if as_json:
        render.as_json(report)
        return
    verb = "would remove" if report.dry_run else "removed"
    environments = f" and {render.counted(report.environments, 'environment')}" if report.environments else ""
    render.say(f"{verb} {render.counted(report.blobs, 'file')}{environments}, {render.bytes_text(report.bytes)}")
