"""What a server imports to judge a job on data: nothing that works on tables."""

from __future__ import annotations

from tests.test_structure import loaded_by

HEAVY = {"daft", "pyarrow", "skrub", "pyspark", "pandas"}
KINDS = ("clean", "collect", "features", "integrate", "split")


def test_judging_a_job_loads_no_library_of_tables() -> None:
    modules = ", ".join(f"modelport.control.work.{name}" for name in KINDS)
    assert loaded_by(f"import modelport.api.control, {modules}").isdisjoint(HEAVY)
