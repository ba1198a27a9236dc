"""Options that every command which trains has: what to learn from, how, and what the version is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_Names = list[str] | None
_Paths = list[Path] | None

Data = Annotated[
    str, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to learn from.", show_default=False)
]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", "-r", help="How it learns; `modelport recipes` lists them.")
]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Model that gets the version. [the data's]")]
Target = Annotated[str | None, typer.Option("--target", help="Column to predict. [the data's label]")]
Set = Annotated[
    _Names, typer.Option("--set", metavar="K=V", help="Option of the recipe; JSON is taken as such; repeatable.")
]
OptionsFile = Annotated[str | None, typer.Option("--options", help="YAML or JSON file with options.")]
Features = Annotated[_Names, typer.Option("--feature", help="Column to learn from; repeatable. [all]")]
Exclude = Annotated[_Names, typer.Option("--exclude", help="Column to leave out; repeatable.")]
Validation = Annotated[
    str | None, typer.Option("--validation", help="Part, or share of the rows, to choose by. [validation, or 0.2]")
]
Test = Annotated[str | None, typer.Option("--test", help="Part that judges at the very end. [test]")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same model.")]
Start = Annotated[str | None, typer.Option("--from", metavar="MODEL[:VERSION|@ALIAS]", help="Version to go on from.")]
Replay = Annotated[
    str | None, typer.Option("--replay", metavar="DATA", help="Older rows to mix in against forgetting.")
]
Code = Annotated[_Paths, typer.Option("--code", help="File or folder to send along: code, weights; repeatable.")]
Module = Annotated[
    str | None, typer.Option("--module", metavar="MODULE:FUNCTION", help="Your own network; see docs/training.md.")
]
Command = Annotated[str | None, typer.Option("--command", help="Your own script, in an environment of its own.")]
Requirements = Annotated[
    _Names, typer.Option("--requirement", help="Package of the --command's environment; repeatable.")
]
Alias = Annotated[str | None, typer.Option("--alias", help="Alias that moves to the version.")]
Labels = Annotated[_Names, typer.Option("--label", metavar="K=V", help="Label of the version; repeatable.")]
Description = Annotated[str | None, typer.Option("--description", help="What the model is for.")]


def recipe_and_options(
    recipe: str | None, module: str | None, command: str | None, requirements: _Names,
    given: Sequence[str] | None, file: str | None,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """The recipe that is meant, and its options with what has an option of its own."""
    from modelport.cli.jobs import read_mapping, read_params
    from modelport.errors import InvalidInput

    options = read_params(list(given or ()), None)
    named = [choice for choice in (recipe, module and "module", command and "command") if choice]
    if len(set(named)) != 1:
        raise InvalidInput("say how to learn: one of --recipe NAME, --module MODULE:FUNCTION and --command 'python …'")
    if module is not None:
        options["build"] = module
    if command is not None:
        options["command"] = command
    if requirements:
        options["requirements"] = requirements
    return named[0], {**read_mapping(file), **options} if file is not None else options


def rest_of(**given: Any) -> dict[str, Any]:
    """What was given, as the job takes it; empty lists and what was left out are not said."""
    from modelport.cli.inputs import pairs
    from modelport.cli.jobs import read_value

    found = {name: value for name, value in given.items() if value not in (None, [])}
    if "labels" in found:
        found["labels"] = pairs(found["labels"], "--label")
    if "validation" in found:
        found["validation"] = read_value(found["validation"])
    if not found.get("seed"):
        found.pop("seed", None)
    return found
