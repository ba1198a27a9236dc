"""Durable execution alone, on SQLite and PostgreSQL: told once, done once; interrupted, done again; no pickle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from modelport.control.jobs.durable import engine_url

# One process, as control is: attempts of jobs are written to a file; the first at "die…" kills the process once those
# that end are known to have ended, the first two at "again…" want another attempt soon.
PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from sqlalchemy import create_engine, text
from modelport.control.jobs.durable import Durable

url, trace, *jobs = sys.argv[1:]

def seen(job):
    return Path(trace).read_text().split().count(job) if Path(trace).exists() else 0

def ended():
    table = "workflow_status" if url.startswith("sqlite") else "dbos.workflow_status"
    with create_engine(url).connect() as connection:
        rows = connection.execute(text(f"SELECT workflow_uuid FROM {table} WHERE status = 'SUCCESS'"))
        return {row[0] for row in rows}

async def attempt(job):
    with open(trace, "a") as out:
        out.write(job + "\\n")
    if job.startswith("die") and seen(job) == 1:
        while not ended() >= {"one", "again", "forget"}:
            await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.startswith("wait"):
        await asyncio.Future()
    return 0.05 if job.startswith("again") and seen(job) < 3 else None

async def main():
    durable = Durable(url, "server", attempt)
    await asyncio.gather(*(durable.tell([job]) for job in jobs), durable.tell(jobs))
    wanted = {job: 3 if job.startswith("again") else 2 if job.startswith("die") else 1 for job in jobs}
    while any(seen(job) < count for job, count in wanted.items()):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    await durable.forget([job for job in jobs if job.startswith("forget")])
    await durable.close()
    await asyncio.sleep(0.3)

asyncio.run(main())
"""


def run(url: str, trace: Path, *jobs: str) -> int:
    argv = [sys.executable, "-c", PROGRAM, url, str(trace), *jobs]
    return subprocess.run(argv, timeout=90, check=False).returncode


def test_what_was_told_is_done(database_url: str, tmp_path: Path) -> None:
    url, trace = engine_url(database_url, f"sqlite:///{tmp_path / 'jobs.sqlite'}"), tmp_path / "trace"
    jobs = ["one", "again", "wait", "forget"]
    assert run(url, trace, *jobs, "die") == -9
    assert run(url, trace, *jobs, "die") == 0
    done = trace.read_text().split()
    assert {job: done.count(job) for job in ("one", "again", "die", "forget")} == {
        "one": 1, "again": 3, "die": 2, "forget": 1,
    }  # fmt: skip
    assert done.count("wait") == 2, "what was under way is begun again, also after an orderly end"
    table = "workflow_status" if url.startswith("sqlite") else "dbos.workflow_status"
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT workflow_uuid, status, serialization FROM {table}")).all()
    engine.dispose()
    assert {(row[0], row[1]) for row in rows} == {
        ("one", "SUCCESS"), ("again", "SUCCESS"), ("die", "SUCCESS"), ("wait", "PENDING"),
    }  # fmt: skip
    assert {row[2] for row in rows} == {"modelport_json"}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("sqlite:////x/modelport.db", "sqlite:////home/jobs.sqlite"),
        ("postgresql://u:p%40ss@h/db?host=/run", "postgresql+psycopg://u:p%40ss@h/db?host=%2Frun"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
    ],
)
def test_where_it_keeps_its_own(url: str, kept: str) -> None:
    assert engine_url(url, "sqlite:////home/jobs.sqlite") == kept


def test_control_does_not_import_it_before_it_is_needed() -> None:
    code = "import sys, modelport.api.control\nprint('dbos' in sys.modules, 'daft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False False\n", done.stderr
