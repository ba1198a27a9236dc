"""Routes of datasets: versions, lineage, files, first rows. What makes or archives a version is a job."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from modelport.api.native.context import (
    AfterName,
    AfterNumber,
    Developer,
    Here,
    Limit,
    Page,
    PathName,
    PathRef,
    Viewer,
)
from modelport.api.native.errors import responses
from modelport.api.native.files import FILE, FilePath, IfRange, Range, file_answer
from modelport.schemas.datasets import Dataset, DatasetLineage, DatasetVersion, Head

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def list_datasets(here: Here, actor: Viewer, limit: Limit = 100, after: AfterName = None) -> Page[Dataset]:
    """The project's datasets, by name."""
    return Page(items=list(here.datasets.list(actor, limit, after)))


@router.get("/{name}", responses=responses(404))
def get_dataset(here: Here, actor: Viewer, name: PathName) -> Dataset:
    """One dataset: its newest version."""
    return here.datasets.get(actor, name)


@router.delete("/{name}", status_code=204, responses=responses(404))
def delete_dataset(here: Here, actor: Developer, name: PathName) -> None:
    """Delete a dataset with all its versions; what was made from them stays."""
    here.datasets.delete(actor, name)


@router.get("/{name}/versions", responses=responses(404))
def list_dataset_versions(
    here: Here, actor: Viewer, name: PathName, limit: Limit = 100, after: AfterNumber = None
) -> Page[DatasetVersion]:
    """A dataset's versions, newest first."""
    return Page(items=list(here.datasets.versions(actor, name, limit, after)))


@router.get("/{name}/versions/{ref}", responses=responses(404))
def get_dataset_version(here: Here, actor: Viewer, name: PathName, ref: PathRef) -> DatasetVersion:
    """One version: schema, statistics, class balance, lineage, files."""
    return here.datasets.version(actor, name, ref)


@router.delete("/{name}/versions/{ref}", status_code=204, responses=responses(404))
def delete_dataset_version(here: Here, actor: Developer, name: PathName, ref: PathRef) -> None:
    """Delete a version; what was made from it stays."""
    here.datasets.delete(actor, name, ref)


@router.get("/{name}/versions/{ref}/lineage", responses=responses(404))
def get_dataset_lineage(here: Here, actor: Viewer, name: PathName, ref: PathRef) -> DatasetLineage:
    """What a version was made from, and which versions and models were made from it."""
    return here.datasets.lineage(actor, name, ref)


@router.get("/{name}/versions/{ref}/head", responses=responses(404))
async def get_dataset_head(
    here: Here,
    actor: Viewer,
    name: PathName,
    ref: PathRef,
    rows: Annotated[int, Query(ge=1, le=1000, description="How many.")] = 10,
    part: Annotated[str, Query(max_length=50, description="Of a split, such as `train`.")] = "",
) -> Head:
    """The first rows. Bytes are shown as their length, long texts are cut."""
    return await to_thread.run_sync(here.datasets.head, actor, name, ref, rows, part)


@router.get(
    "/{name}/versions/{ref}/files/{path:path}", response_class=StreamingResponse, responses={**FILE, **responses(404)}
)
def get_dataset_file(
    here: Here, actor: Viewer, name: PathName, ref: PathRef, path: FilePath, range_: Range = "", if_range: IfRange = ""
) -> StreamingResponse:
    """One Parquet file of a version, or the rest of one, as `/models` gives them."""
    entry = here.datasets.find_file(actor, name, ref, path)
    return file_answer(entry, partial(here.datasets.iterate_file, actor, entry), range_, if_range)
