"""The registry of datasets: once per job, numbers that never mean two things, other projects see nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.blobs import Blobs, Limits
from modelport.control.datasets import Datasets
from modelport.errors import InvalidInput, NotAllowed, NotFound
from modelport.schemas.datasets import Facts
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database

FACTS = Facts(rows=2, columns=[])


@pytest.fixture
def blobs(database: Database, artifacts: Artifacts) -> Blobs:
    return Blobs(database, artifacts, Limits(gc_grace_s=0))


@pytest.fixture
def datasets(database: Database, artifacts: Artifacts, blobs: Blobs, tmp_path: Path) -> Datasets:
    return Datasets(database, artifacts, blobs, tmp_path / "cache", [(tmp_path / "cold").as_uri()])


def staged(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.parquet").write_bytes(content)
    return folder


def test_a_job_makes_one_version_however_often_it_ends(datasets: Datasets, actor: Actor, tmp_path: Path) -> None:
    folder = staged(tmp_path / "a", one=b"1", two=b"2")
    first = datasets.register(actor, "d", folder, FACTS, job_id="j1", parents=["x:1", "y:2"])
    assert datasets.register(actor, "d", folder, FACTS, job_id="j1") == first
    assert [v.version for v in datasets.versions(actor, "d")] == [1]
    second = datasets.register(actor, "d", folder, FACTS, job_id="j2")
    assert (second.version, second.digest) == (2, first.digest)
    assert first.manifest.parents == ["x:1", "y:2"]
    assert sorted(p.name for p in datasets.materialize(actor, first).iterdir()) == ["one.parquet", "two.parquet"]


def test_numbers_go_on_after_a_deletion(datasets: Datasets, actor: Actor, tmp_path: Path) -> None:
    folder = staged(tmp_path / "a", one=b"1")
    datasets.register(actor, "d", folder, FACTS)
    datasets.register(actor, "d", folder, FACTS)
    datasets.delete(actor, "d", 2)
    assert datasets.version(actor, "d").version == 1
    datasets.delete(actor, "d")
    with pytest.raises(NotFound):
        datasets.get(actor, "d")
    assert datasets.register(actor, "d", folder, FACTS).version == 3


def test_another_projects_datasets_are_missing(
    datasets: Datasets, actor: Actor, stranger: Actor, tmp_path: Path
) -> None:
    made = datasets.register(actor, "d", staged(tmp_path / "a", one=b"1"), FACTS, job_id="j1")
    assert list(datasets.list(stranger)) == []
    for ask in (
        lambda: datasets.version(stranger, "d"),
        lambda: datasets.version(stranger, "d", 1),
        lambda: datasets.lineage(stranger, "d", 1),
        lambda: datasets.delete(stranger, "d"),
        lambda: datasets.find_file(stranger, "d", 1, "one.parquet"),
        lambda: datasets.archive(stranger, "d", 1, "file:///x"),
        lambda: datasets.resolve(stranger, "d:1"),
    ):
        with pytest.raises(NotFound, match="there is no dataset 'd'"):
            ask()
    assert datasets.made_by(stranger, "j1") is None
    with pytest.raises(InvalidInput, match="not uploaded"):
        datasets.check_uploaded(stranger, made.manifest.files)


def test_lineage_goes_both_ways(datasets: Datasets, actor: Actor, tmp_path: Path) -> None:
    folder = staged(tmp_path / "a", one=b"1")
    datasets.register(actor, "raw", folder, FACTS.model_copy(update={"source": "https://a.test/x.csv"}))
    datasets.register(actor, "clean", folder, FACTS, parents=["raw:1"])
    assert datasets.lineage(actor, "raw").children == ["clean:1"]
    assert datasets.lineage(actor, "raw").source == "https://a.test/x.csv"
    assert datasets.lineage(actor, "clean").parents == ["raw:1"]


def test_the_collector_spares_what_versions_need(
    datasets: Datasets, blobs: Blobs, actor: Actor, artifacts: Artifacts, tmp_path: Path
) -> None:
    made = datasets.register(actor, "d", staged(tmp_path / "a", one=b"1"), FACTS)
    (entry,) = made.manifest.files
    assert blobs.collect(actor, dry_run=False).blobs == 0
    assert artifacts.exists(actor.project_id, entry.sha256)
    datasets.delete(actor, "d")
    assert blobs.collect(actor, dry_run=False).blobs == 1
    assert not artifacts.exists(actor.project_id, entry.sha256)


def test_an_archived_version_leaves_and_comes_back(
    datasets: Datasets, blobs: Blobs, actor: Actor, artifacts: Artifacts, tmp_path: Path
) -> None:
    made = datasets.register(actor, "d", staged(tmp_path / "a", one=b"1"), FACTS)
    url, (entry,) = (tmp_path / "cold").as_uri(), made.manifest.files
    assert datasets.archive(actor, "d", 1, url).archived == url
    assert datasets.archive(actor, "d", 1, url).archived == url
    assert blobs.collect(actor, dry_run=False).blobs == 1
    assert not artifacts.exists(actor.project_id, entry.sha256)
    assert (datasets.materialize(actor, datasets.version(actor, "d")) / "one.parquet").read_bytes() == b"1"
    assert datasets.version(actor, "d").archived is None
    assert blobs.collect(actor, dry_run=False).blobs == 0
    for place in ("file:///etc", f"{url}x", f"{url}/../up", f"{url}/%2e%2e/up"):
        with pytest.raises(NotAllowed, match="the operator allows"):
            datasets.check_archive(place)


def test_every_change_is_on_record(datasets: Datasets, actor: Actor, database: Database, tmp_path: Path) -> None:
    datasets.register(actor, "d", staged(tmp_path / "a", one=b"1"), FACTS, job_id="j")
    datasets.archive(actor, "d", 1, (tmp_path / "cold").as_uri())
    datasets.restore(actor, "d", 1)
    datasets.delete(actor, "d", 1)
    datasets.delete(actor, "d")
    actions = [row.action for row in audit.rows(database, actor, 10)]
    assert actions == [
        "dataset.delete", "dataset_version.delete", "dataset_version.restore", "dataset_version.archive",
        "dataset_version.register",
    ]  # fmt: skip


@pytest.mark.parametrize("ref", ["0", "01", "-1", "9" * 12, "x", "²", "champion"])
def test_versions_that_cannot_be(datasets: Datasets, actor: Actor, tmp_path: Path, ref: str) -> None:
    datasets.register(actor, "d", staged(tmp_path / "a", one=b"1"), FACTS)
    with pytest.raises(NotFound):
        assert datasets.version(actor, "d", ref).version != 1


def test_a_folder_without_files_is_no_version(datasets: Datasets, actor: Actor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no file to register"):
        datasets.register(actor, "d", tmp_path / "empty", FACTS)
    assert list(datasets.list(actor)) == []
