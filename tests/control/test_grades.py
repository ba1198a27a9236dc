"""The record of grades: newest of a machine, price, class and place by what is known now; on both databases."""

from __future__ import annotations

import pytest

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.evaluations import Evaluations
from modelport.control.grades import Grades
from modelport.control.registry import Registry
from modelport.errors import NotFound
from modelport.schemas.evaluation import Evaluation
from modelport.schemas.grades import Latency, Measured, Throughput
from modelport.settings import ClassRule, GradeSettings
from modelport.storage.database import Database
from tests.control.conftest import Push
from tests.control.test_evaluations import rows


@pytest.fixture
def grades(database: Database) -> Grades:
    return Grades(database, GradeSettings())


def measured(p50: float = 1.0, rate: float = 1000.0, peak: float = 100.0, **more: object) -> Measured:
    latency = Latency(batch=1, p50_ms=p50, p99_ms=2 * p50, model_ms=p50 / 2, calls=300)
    facts = {"machine": "one", "threads": 1, "served_bytes": 5_000_000, "total_bytes": 6_000_000, **more}
    throughput = [Throughput(batch=32, rows_per_s=rate, calls=99)]
    return Measured(model="m:1", latency=latency, throughput=throughput, memory_mb=peak, peak_mb=peak, **facts)


def judge(database: Database, actor: Actor, part: str, model: str, version: int, **figures: float) -> None:
    record, job = Evaluations(database), f"job-{part}-{model}-{version}-{sum(figures.values())}"
    record.open(actor, rows(), part, "evaluate", job, f"{model}:{version}")
    report = Evaluation(task="classification", rows=9, main=next(iter(figures)), figures=figures)
    record.record(
        actor, rows(), part, job, f"{model}:{version}", model=model, version=version, figures=figures, report=report
    )


def test_the_newest_of_each_machine_is_kept(grades: Grades, push: Push, actor: Actor, stranger: Actor) -> None:
    version = push("m")
    first = grades.record(actor, version, measured(p50=9), "job-1")
    grades.record(actor, version, measured(machine="two"), "job-2")
    again = grades.record(actor, version, measured(p50=3), "job-3")
    assert again.id > first.id
    assert [(one.measured.machine, one.job) for one in grades.list(actor, "m")] == [("one", "job-3"), ("two", "job-2")]
    assert [one.id for one in grades.list(actor, "m", 1, limit=1)] == [again.id]
    assert [one.measured.machine for one in grades.list(actor, after=again.id)] == ["two"]
    assert grades.made_by(actor, "job-1") == [] and len(grades.made_by(actor, "job-3")) == 1
    assert grades.list(stranger) == [] and grades.list(actor, "m", 2) == grades.list(actor, "other") == []
    with pytest.raises(NotFound):
        grades.family(stranger, "m")
    with pytest.raises(NotFound):
        grades.record(stranger, version, measured(), "job-4")


def test_an_audit_row_says_who_graded(grades: Grades, database: Database, push: Push, actor: Actor) -> None:
    grades.record(actor, push("m"), measured(), "job-1")
    newest = audit.rows(database, actor, limit=1)[0]
    assert (newest.action, newest.object) == ("version.grade", "m:1")
    assert newest.detail == {"machine": "one", "grade": "light", "job": "job-1"}


def test_a_grade_goes_with_its_version(grades: Grades, registry: Registry, push: Push, actor: Actor) -> None:
    grades.record(actor, push("m"), measured(), "job-1")
    registry.delete_model(actor, "m")
    push("m")
    assert grades.list(actor) == []


def test_the_price_of_a_million_rows(database: Database, push: Push, actor: Actor) -> None:
    settings = GradeSettings(core_hour=0.9, gb_hour=9, utilization=0.25, currency="EUR")
    found = Grades(database, settings).record(actor, push("m"), measured(rate=1000, peak=200, threads=2), "job-1")
    assert found.cost_per_million == pytest.approx((2 * 0.9 + 0.2 * 9) / 3600 * 1e6 / (1000 * 0.25))  # 4 EUR
    assert found.currency == "EUR"
    assert Grades(database, GradeSettings(core_hour=0)).list(actor)[0].cost_per_million < 0.01, "by prices of now"


@pytest.mark.parametrize(
    ("facts", "grade"),
    [
        ({}, "light"),
        ({"p50": 11}, "general"),
        ({"served_bytes": 26_000_000}, "general"),
        ({"peak": 151}, "general"),
        ({"peak": 2001}, "enterprise"),
        ({"p50": 101}, "enterprise"),
    ],
)
def test_the_classes_that_come_along(grades: Grades, push: Push, actor: Actor, facts: dict, grade: str) -> None:
    assert grades.record(actor, push("m"), measured(**facts), "job-1").grade == grade


def test_classes_of_your_own(database: Database, push: Push, actor: Actor) -> None:
    classes = {"edge": ClassRule(max_p99_ms=5, min_rows_per_s=900), "good": ClassRule(min_quality=0.9)}
    own = Grades(database, GradeSettings(classes=classes))
    version = push("m")
    assert own.record(actor, version, measured(p50=2.5, rate=900), "job-1").grade == "edge"
    assert own.record(actor, version, measured(p50=2.6, rate=900), "job-1").grade is None, "was never judged"
    judge(database, actor, "test", "m", 1, accuracy=0.9)
    assert own.list(actor)[0].grade == "good"


def test_what_no_runtime_serves_has_no_class(grades: Grades, push: Push, actor: Actor) -> None:
    kept = Measured(model="m:1", machine="one", threads=1, reason="GGUF", served_bytes=9, total_bytes=9)
    found = grades.record(actor, push("m"), kept, "job-1")
    assert (found.grade, found.cost_per_million, found.measured.reason) == (None, None, "GGUF")


def test_quality_is_of_the_fairest_rows(grades: Grades, database: Database, push: Push, actor: Actor) -> None:
    told = {"validation_accuracy": 0.99, "validation_f1": 0.5}
    version = push("m", task="classification", metrics=told)
    quality = grades.record(actor, version, measured(), "job-1").quality
    assert (quality.figure, quality.value, quality.flattered) == ("accuracy", 0.99, True)
    judge(database, actor, "validation", "m", 1, log_loss=0.4)
    quality = grades.list(actor)[0].quality
    assert (quality.figure, quality.less_is_better, quality.flattered) == ("log_loss", True, True)
    judge(database, actor, "test", "m", 1, accuracy=0.8)
    judge(database, actor, "validation", "m", 1, accuracy=0.95)
    quality = grades.list(actor)[0].quality
    assert (quality.value, quality.data, quality.flattered) == (0.8, "digits:1/test", False)
    assert quality.evaluation is not None
    tested = push("m", task="classification", metrics={**told, "test_accuracy": 0.7})
    quality = grades.record(actor, tested, measured(), "job-2").quality
    assert (quality.value, quality.data, quality.evaluation) == (0.7, "test rows of its training", None)


def test_a_family_has_kin_and_a_front(grades: Grades, database: Database, push: Push, actor: Actor) -> None:
    teacher = push("teacher", metrics={"test_accuracy": 0.99})
    student = push("student", parents=["teacher:1", "dataset:digits:1"], metrics={"test_accuracy": 0.95})
    smaller = push("student", metrics={"test_accuracy": 0.95})
    tiny = push("tiny", parents=["student:2"], metrics={"test_accuracy": 0.97})
    other = push("tiny", metrics={"test_accuracy": 1.0})
    stray = push("stray", parents=["dataset:digits:1"], metrics={"test_accuracy": 1.0})
    for version, rate in ((teacher, 10), (student, 100), (smaller, 200), (tiny, 50), (other, 1), (stray, 1)):
        grades.record(actor, version, measured(rate=rate), "job-1")
    family = grades.family(actor, "student")
    assert [(one.model, one.version, one.best) for one in family.relatives] == [
        ("student", 2, True), ("student", 1, False), ("tiny", 1, True), ("teacher", 1, True)
    ]  # fmt: skip
    assert (family.figure, family.less_is_better, family.machine, family.warnings) == ("accuracy", False, "one", [])
    assert {one.model for one in grades.family(actor, "tiny").relatives} == {"student", "tiny"}
    judge(database, actor, "test", "teacher", 1, accuracy=0.99)
    assert "judge all by the same" in grades.family(actor, "student").warnings[0]
    grades.record(actor, smaller, measured(machine="two"), "job-2")
    elsewhere = grades.family(actor, "student")
    assert elsewhere.machine == "two" and elsewhere.machines == ["two", "one"]
    assert [one.grade is None for one in elsewhere.relatives] == [False, True, True, True]
    assert grades.family(actor, "student", "one").machine == "one"


def test_less_may_be_better(grades: Grades, push: Push, actor: Actor) -> None:
    for loss, rate in ((2.0, 100), (1.0, 50), (1.5, 20)):
        version = push("lm", task="language", metrics={"test_perplexity": loss})
        grades.record(actor, version, measured(rate=rate), "job-1")
    family = grades.family(actor, "lm")
    assert family.less_is_better
    assert [(one.version, one.best) for one in family.relatives] == [(1, True), (2, True), (3, False)]
