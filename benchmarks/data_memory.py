"""Collects more data than memory is given: N GB of Parquet, made here, through the job `collect`; prints what it took.

    python benchmarks/data_memory.py --gb 5

The job runs in a process of its own, as on a server; its peak of resident memory is the operating system's figure.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.control.jobs.run import JobRun
from modelport.control.work.collect import Collect
from modelport.schemas.datasets import CollectParams
from modelport.settings import Settings

_ROWS = 1_000_000


def make(folder: Path, size: int) -> None:
    """Write random rows, which hardly compress, until ``size`` bytes are there."""
    folder.mkdir(parents=True)
    random, written, rows = np.random.default_rng(0), 0, 0
    while written < size:
        table = pa.table(
            {
                "id": np.arange(rows, rows + _ROWS),
                **{f"x{i}": random.normal(size=_ROWS) for i in range(8)},
                "text": pa.array(random.integers(0, 1 << 62, _ROWS)).cast(pa.string()),
                "label": pa.array(random.choice(["a", "b", "c"], _ROWS)),
            }
        )
        file = folder / f"{rows // _ROWS:05}.parquet"
        pq.write_table(table, file, compression="zstd", row_group_size=250_000)
        written, rows = written + file.stat().st_size, rows + _ROWS


def collect(folder: Path, home: Path) -> None:
    """The job, in this process."""
    services = build_services(
        Settings(home=home, data={"allow": [folder.as_uri()]}), owner_token=None, keys_required=False
    )
    (home / "job").mkdir()
    run = JobRun("bench", Actor(1, "default", "bench", "admin"), 1, home / "job", services, lambda message: None)
    made = Collect().run(run, CollectParams(name="big", source=folder.as_uri()))
    services.database.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"collected {made['rows']:,} rows into {made['bytes'] / 1e9:.2f} GB; peak RSS {peak:.2f} GB", flush=True)


def main() -> None:
    """Make the data, collect it in a child, remove everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=5)
    parser.add_argument("--folder", help="Where to work; needs three times the size.")
    parser.add_argument("--source", help="Folder of Parquet that is made when it is not there, and kept.")
    parser.add_argument("--make-only", action="store_true", help="Make the source, and no more.")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        collect(Path(asked.child[0]), Path(asked.child[1]))
        return
    work = Path(tempfile.mkdtemp(prefix="modelport-bench-", dir=asked.folder))
    try:
        source = Path(asked.source).absolute() if asked.source else work / "source"
        if not source.exists():
            make(source, int(asked.gb * 1e9))
        size = sum(file.stat().st_size for file in source.iterdir())
        print(f"source: {size / 1e9:.2f} GB of Parquet", flush=True)
        if asked.make_only:
            return
        began = time.monotonic()
        child = subprocess.run([sys.executable, __file__, "--child", str(source), str(work / "home")])
        seconds = time.monotonic() - began
        print(f"{seconds:.0f} s, {size / 1e6 / seconds:.0f} MB/s")
        sys.exit(child.returncode)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
