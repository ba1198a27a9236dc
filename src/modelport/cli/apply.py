"""``modelport apply``: bring deployments to what a YAML file says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import Key, NoWait, Timeout, Url

if TYPE_CHECKING:
    from modelport.schemas.deployments import DeploymentDocument


def apply(
    file: Annotated[str | None, typer.Option("--file", "-f", help="YAML file, or - to read it.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a document, for editors.")] = False,
    no_wait: NoWait = False,
    timeout: Timeout = 300,
    url: Url = None,
    key: Key = None,
) -> None:
    """Bring deployments to what a YAML file says.

    The same file again changes nothing. It may hold several documents, split by ---.

    Example: modelport apply -f digits.yaml
    """
    from modelport.cli import render
    from modelport.errors import InvalidInput
    from modelport.schemas.deployments import DeploymentApply
    from modelport.sdk.client import Client

    if schema:
        render.as_json(document_schema())
        return
    if file is None:
        raise InvalidInput("give a file: modelport apply -f FILE (or --schema to see what goes in)")
    documents = read_documents(file)
    with Client(url, key) as client:
        for document in documents:
            wish = DeploymentApply.model_validate(document.model_dump(exclude={"name"}))
            with render.deployment_spinner() as progress:
                made = client.deployments.apply(
                    document.name or document.model, wish, wait=not no_wait, timeout=timeout, progress=progress
                )
            render.say(f"{made.name} is {made.state}: {made.model}:{made.version} as revision {made.revision}")


def document_schema() -> dict[str, Any]:
    """The JSON Schema of one document."""
    from modelport.schemas.deployments import DeploymentDocument

    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**dialect, **DeploymentDocument.model_json_schema()}


def read_documents(file: str) -> list[DeploymentDocument]:
    """The documents of a file, checked before any of them is applied; raises InvalidInput naming document and field."""
    from pathlib import Path

    import yaml
    from pydantic import ValidationError

    from modelport.errors import InvalidInput, NotFound
    from modelport.schemas.deployments import DeploymentDocument
    from modelport.schemas.problems import told

    if file != "-" and not Path(file).is_file():
        raise NotFound(f"{file!r} is no file; name a YAML file, or - to read it from a pipe")
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        found = [document for document in yaml.safe_load_all(raw) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidInput(f"{file} is not YAML: {' '.join(str(error).split())}; correct that place") from None
    documents = []
    for number, document in enumerate(found, start=1):
        try:
            documents.append(DeploymentDocument.model_validate(document))
        except ValidationError as error:
            what = told(error.errors()[0], DeploymentDocument)
            raise InvalidInput(
                f"{file}, document {number}: {what}; `modelport apply --schema` shows what goes in"
            ) from None
    if not documents:
        raise InvalidInput(f"{file} holds no document; `modelport apply --schema` shows what goes in")
    return documents
