"""The record of what was judged by which rows, on both databases."""

from __future__ import annotations

import pytest

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.evaluations import Evaluations, told_of
from modelport.errors import NotFound
from modelport.schemas.datasets import DatasetManifest, DatasetVersion
from modelport.schemas.evaluation import Evaluation
from modelport.storage import tables
from modelport.storage.database import Database


def rows(name: str = "digits", version: int = 1, digest: str = "a" * 64) -> DatasetVersion:
    now = tables.now()
    manifest = DatasetManifest(
        dataset=name,
        version=version,
        digest=digest,
        rows=9,
        columns=[],
        files=[],
        size=0,
        created_at=now,
        created_by="me",
    )
    return DatasetVersion(
        dataset=name, version=version, digest=digest, rows=9, size=0, created_at=now, created_by="me", manifest=manifest
    )


@pytest.fixture
def record(database: Database) -> Evaluations:
    return Evaluations(database)


def found(record: Evaluations, actor: Actor, job: str, data: DatasetVersion, part: str | None, model: str) -> int:
    record.open(actor, data, part, "evaluate", job, f"{model}:1")
    report = Evaluation(task="regression", rows=9, main="mae", figures={"mae": 0.5})
    made = record.record(
        actor, data, part, job, f"{model}:1", model=model, version=1, figures={"mae": 0.5}, report=report
    )
    return made.id


def test_openings_are_counted_by_content_and_job(record: Evaluations, actor: Actor) -> None:
    assert record.open(actor, rows(), "test", "train", "job-1", "digits") == []
    assert record.open(actor, rows(), "test", "train", "job-1", "digits") == [], "again is no second time"
    assert record.open(actor, rows(), "test", "train", "job-1", "other") == [], "nor is another model of the same job"
    copied = record.open(actor, rows("copy", 7), "test", "evaluate", "job-2", "digits:1")
    assert [(one.job, one.purpose, one.model) for one in copied] == [("job-1", "train", "digits, other")]
    assert record.open(actor, rows(), "validation", "tune", "job-3", "digits") == []
    whole = record.open(actor, rows(), None, "evaluate", "job-4", "digits:1")
    assert [one.job for one in whole] == ["job-3", "job-2", "job-1"], "the whole holds all parts"
    assert [one.job for one in record.open(actor, rows(), "test", "tune", "job-5", "x")] == ["job-4", "job-2", "job-1"]
    assert record.open(actor, rows(digest="b" * 64), "test", "evaluate", "job-6", "digits:1") == []
    for number in range(6):
        record.open(actor, rows(), "exam", "tune", "job-7", f"trial-{number}")
    (first, *_) = record.open(actor, rows(), "exam", "evaluate", "job-8", "x")
    assert first.model == "trial-0, trial-1, trial-2 and 3 more"


def test_what_was_found_is_kept_with_its_audit(record: Evaluations, actor: Actor, database: Database) -> None:
    first = found(record, actor, "job-1", rows(), "test", "digits")
    second = found(record, actor, "job-2", rows(), "test", "other")
    assert found(record, actor, "job-2", rows(), "test", "other") == second
    listed = record.list(actor)
    assert [(one.id, one.model, one.data, one.opened_before) for one in listed] == [
        (second, "other", "digits:1/test", 1), (first, "digits", "digits:1/test", 0),
    ]  # fmt: skip
    assert [one.id for one in record.list(actor, after=second)] == [first]
    assert [one.id for one in record.list(actor, limit=1)] == [second]
    assert [one.id for one in record.list(actor, model="digits", version=1)] == [first]
    assert record.list(actor, model="digits", version=2) == []
    shown = record.get(actor, second)
    assert shown.report is not None and shown.report.figures == {"mae": 0.5}
    assert [one.model for one in shown.openings] == ["digits:1"]
    actions = [row.action for row in audit.rows(database, actor, 10)]
    assert actions.count("evaluation.open") == 2 and actions.count("evaluation.record") == 3


def test_data_is_found_by_name_version_and_part(record: Evaluations, actor: Actor) -> None:
    for job, (name, version, part) in enumerate(
        (("a_b", 1, "test"), ("a_b", 2, None), ("aXb", 1, "test"), ("a_b", 11, None))
    ):
        record.open(actor, rows(name, version, str(job) * 64), part, "evaluate", f"job-{job}", "m")
    assert [one.data for one in record.list(actor, data="a_b")] == ["a_b:11", "a_b:2", "a_b:1/test"]
    assert [one.data for one in record.list(actor, data="a_b:1")] == ["a_b:1/test"]
    assert [one.data for one in record.list(actor, data="a_b:1/test")] == ["a_b:1/test"]
    assert record.list(actor, data="a") == []


def test_another_project_sees_nothing(record: Evaluations, actor: Actor, stranger: Actor) -> None:
    number = found(record, actor, "job-1", rows(), "test", "digits")
    assert record.list(stranger) == [] and record.open(stranger, rows(), "test", "evaluate", "job-9", "x") == []
    for bad in (number, 999, 0, -1, 2**40):
        with pytest.raises(NotFound, match="there is no evaluation"):
            record.get(stranger, bad)
    with pytest.raises(NotFound, match="was not opened"):
        record.record(stranger, rows(), "test", "job-1", "digits:1", model="digits", version=1, figures={})


def test_only_rows_that_no_choice_should_see_are_warned_of(record: Evaluations, actor: Actor) -> None:
    record.open(actor, rows(), "test", "train", "job-1", "digits")
    openings = record.open(actor, rows(), "test", "evaluate", "job-2", "digits:1")
    (text,) = told_of("digits:1/test", openings)
    assert text.startswith("digits:1/test was opened once before (train of digits)")
    assert told_of("digits:1/validation", openings) == [] and told_of("digits:1/test", []) == []
