"""Rows that Spark reads: ``spark:FORMAT:URL`` becomes Parquet in a scratch folder, from where they are collected.

The session is the one of this process: local, unless SPARK_REMOTE or spark-defaults name a cluster. The one file that
imports pyspark.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from modelport.data.sources import SourceFile, local_files
from modelport.errors import InvalidInput, MissingExtra, Unavailable

_SOURCE = re.compile(r"spark:(?P<format>[A-Za-z0-9_.-]{1,100}):(?P<url>.+)")


def parse(source: str) -> tuple[str, str]:
    """Format and URL; raises InvalidInput."""
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise InvalidInput(f"source {source[:100]!r}: give spark:FORMAT:URL, such as spark:orc:file:///srv/data/orders")
    return found["format"], found["url"]


def spark_files(source: str, scratch: Path) -> list[SourceFile]:
    """Have Spark write what it reads; once, however often the job is begun again."""
    kind, url = parse(source)
    folder, part = scratch / "spark", scratch / "spark.part"
    if not folder.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        session = _session()
        try:
            reader = session.read.format(kind)
            if kind in ("csv",):
                reader = reader.option("header", True).option("inferSchema", True)
            reader.load(url).write.parquet(part.as_uri())
        except Exception as error:  # a Java exception, whose text names what Spark missed
            line = str(error).strip().split("\n")[0][:300]
            if type(error).__name__ == "AnalysisException":
                raise InvalidInput(f"source {source[:200]!r}: Spark refuses it: {line}") from None
            raise Unavailable(f"source {source[:200]!r}: Spark failed: {line}") from None
        finally:
            session.stop()
        part.rename(folder)
    return [file for file in local_files(folder) if file.name.endswith(".parquet")]


def _session() -> Any:
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415  (a JVM starts with it)
    except ImportError:
        raise MissingExtra("spark", "a spark: source") from None
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ and "SPARK_REMOTE" not in os.environ:
        raise Unavailable("a spark: source needs Java 17 or newer on the server; the operator installs it")
    return (
        SparkSession.builder.appName("modelport")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
