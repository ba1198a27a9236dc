"""A process that tries options: ``python -m modelport.control.work.trial FD PARENT MEMORY_MB`` trains and judges.

One trial after another, each in a folder of its own, told over FD. After every epoch it tells its figure and asks
whether it may go on. It dies with PARENT, the job's process, which alone has the study.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

from modelport.control.actors import Actor
from modelport.control.assembly import Services, build_services
from modelport.control.jobs.run import JobRun
from modelport.control.work import judging, train, training
from modelport.control.work.channel import Channel
from modelport.engine.placement.process import die_with_parent
from modelport.errors import ModelportError
from modelport.schemas.tuning import TuneParams
from modelport.settings import Settings
from modelport.telemetry import configure
from modelport.training.recipe import TrainingData

_PROGRESS_EVERY_S = 0.5
_log = logging.getLogger(__name__)


class Stop(BaseException):
    """The trial does too badly to go on."""


class Trainer:
    """Trains what it is told, in one process."""

    def __init__(self, channel: Channel, told: dict[str, Any], memory_mb: int) -> None:
        self._channel, self._told, self._memory_mb = channel, told, memory_mb
        self._services: Services = build_services(
            Settings(**told["settings"]), owner_token=None, keys_required=True, migrate=False
        )
        self._params = TuneParams.model_validate(told["params"])
        self._data: TrainingData | None = None
        self._told_at = 0.0

    def run(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One trial; the last message about it."""
        began = time.monotonic()
        return {**self._ended(asked), "seconds": time.monotonic() - began}

    def _ended(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"done": self._try(asked)}
        except Stop:
            return {"pruned": True}
        except ModelportError as error:
            return _error(error.message, error.status >= 500 and error.status != 501)
        except MemoryError:
            limit = f"it needs more than its {self._memory_mb} MB of memory"
            return _error(f"{limit}: fewer workers, or a job with more (`--memory-mb`)", False)
        except Exception as error:
            _log.exception("trial %d failed", asked["number"])
            return _error(f"it failed with {type(error).__name__}; the job's log shows where", True)

    def _try(self, asked: dict[str, Any]) -> dict[str, Any]:
        folder = Path(asked["folder"])
        params = self._params.model_copy(update={"options": asked["options"]})
        run = self._run(folder, asked["attempt"])
        planned, _ = training.plan(self._services, run.actor, params)
        if self._data is None:  # the same rows for every trial
            self._data, _, _ = train.lay_out(self._run(Path(self._told["folder"]), 1), planned, params)
        trained, out = training.learn(run, folder / "model", planned, params, self._data, self._tell)
        _, draft = training.offer(run, planned, params, trained, out, keep=False)
        judge = judging.Judge(run, planned, trained, "tune", out, resamples=0)
        judged = judge.rows(draft, self._data.validation, "validation")
        os.chdir(self._told["folder"])  # the trial's folder may go
        return {"figures": {**trained.metrics, **judged.figures}}

    def _run(self, folder: Path, attempt: int) -> JobRun:
        folder.mkdir(parents=True, exist_ok=True)
        told = self._told
        return JobRun(
            told["id"], Actor(**told["actor"]), attempt, folder, self._services, self._report, told["threads"]
        )

    def _tell(self, name: str, value: float, step: int | None) -> None:
        """One figure of the recipe's own: the one that decides is asked about after every epoch."""
        metric = self._told["metric"]
        if step is None or name not in (metric, f"validation_{metric}"):
            return
        self._channel.send({"step": step, "value": value})
        answer = self._channel.receive()
        if answer is None:
            os._exit(1)
        if not answer["go"]:
            raise Stop

    def _report(self, message: dict[str, Any]) -> None:
        if "progress" in message and time.monotonic() - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = time.monotonic()
            self._channel.send(message)


def _error(message: str, again: bool) -> dict[str, Any]:
    return {"error": {"message": message, "again": again}}


def main() -> None:
    """Entry of the process."""
    fd, parent, memory_mb = (int(argument) for argument in sys.argv[1:])
    die_with_parent(parent)
    if memory_mb:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    channel = Channel(socket.socket(fileno=fd))
    told = channel.receive()
    assert told is not None
    configure(told["settings"]["log"]["level"])
    trainer = Trainer(channel, told, memory_mb)
    while (asked := channel.receive()) is not None:
        channel.send(trainer.run(asked))
    os._exit(0)  # a library's threads cannot hold it up


if __name__ == "__main__":
    main()
