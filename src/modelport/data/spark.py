"""Rows that Spark reads: ``spark:FORMAT:URL`` becomes Parquet in a scratch folder, from where they are collected.

Spark runs in a process of its own (``python -m modelport.data.spark FORMAT URL FOLDER``), which ends with the one that
started it: local, unless SPARK_REMOTE or Spark's own configuration names a cluster. The one file that imports pyspark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from modelport.data.addresses import parse_spark
from modelport.data.sources import SourceFile, local_files
from modelport.errors import InvalidInput, MissingExtra, Unavailable

_REFUSED, _FAILED = 3, 4


def spark_files(source: str, scratch: Path) -> list[SourceFile]:
    """Have Spark write what it reads; once, however often the job is begun again."""
    kind, url = parse_spark(source)
    folder, part = scratch / "spark", scratch / "spark.part"
    if not folder.is_dir():
        if find_spec("pyspark") is None:
            raise MissingExtra("spark", "a spark: source")
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ and "SPARK_REMOTE" not in os.environ:
            raise Unavailable("a spark: source needs Java 17 or newer on the server; the operator installs it")
        shutil.rmtree(part, ignore_errors=True)
        child = subprocess.Popen(  # noqa: S603  (no shell; the arguments are Spark's to judge)
            [sys.executable, "-m", "modelport.data.spark", kind, url, str(part)],
            stdin=subprocess.PIPE,  # its end tells the child that we are gone
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            said = child.stdout.read().strip()[-500:]
            code = child.wait()
        if code == _REFUSED:
            raise InvalidInput(f"source {source[:200]!r}: Spark refuses it: {said}")
        if not (part / "_SUCCESS").is_file():
            raise Unavailable(f"source {source[:200]!r}: Spark failed: {said or f'exit code {code}'}")
        part.rename(folder)
    return [file for file in local_files(folder) if file.name.endswith(".parquet")]


def _convert(kind: str, url: str, folder: str) -> int:
    from pyspark.errors import AnalysisException  # noqa: PLC0415  (a JVM starts with it)
    from pyspark.sql import SparkSession  # noqa: PLC0415

    session = (
        SparkSession.builder.appName("modelport")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    reader = session.read.format(kind)
    if kind == "csv":
        reader = reader.option("header", True).option("inferSchema", True)
    try:
        reader.load(url).write.parquet(Path(folder).absolute().as_uri())
    except Exception as error:  # a Java exception, whose first line says what Spark missed
        lines = [line.lstrip(": ") for line in str(error).strip().split("\n") if line]
        line = lines[1] if len(lines) > 1 and lines[0].startswith("An error occurred while calling") else lines[0]
        sys.stdout.write(line[:300])
        return _REFUSED if isinstance(error, AnalysisException) or "NOT_FOUND" in line else _FAILED
    finally:
        session.stop()
    return 0


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(_FAILED)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = _convert(*sys.argv[1:4])
    sys.stdout.flush()
    os._exit(code)  # the libraries' own threads may not end
