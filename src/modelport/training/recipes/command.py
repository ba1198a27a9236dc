"""Recipe ``command``: the caller's own script, of any framework, in a managed virtual environment.

It finds rows and settings by environment variables, and what it leaves in MODELPORT_OUTPUT becomes the version. Knows
no framework; that the version gives good answers is judged as for every recipe.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from modelport.engine.formats.requirements import read_requirements
from modelport.engine.placement.process import replica_environment, thread_variables
from modelport.errors import ArtifactRefused, InvalidInput, RunFailed
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.tabular import target_has_classes

_LARGEST_PARAMS = 100_000
_MOST_WORDS = 1500
_LISTED = (
    'import json, importlib.metadata as m; print(json.dumps([f"{d.name}=={d.version}" for d in m.distributions()]))'
)
_KEPT = "MODELPORT_JOB_ID"
"""By which whatever the script starts can be found when its job was killed."""
_log = logging.getLogger(__name__)


class CommandOptions(recipe.Options):
    """What is run, in what, on what."""

    command: Annotated[str, Field(min_length=1, max_length=10_000)]
    """The program and its arguments, such as ``python train.py --fast``; ``python`` is the environment's."""
    requirements: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=2000)] | None = None
    """What pip installs in the environment; numpy is always there. [``requirements.txt`` among the files]"""
    format: Literal["parquet", "csv", "jsonl", "images"] = "parquet"
    """How the rows lie there: folders of Parquet files, one CSV or JSON-lines file, folders of images by label."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Settings of the script's own: JSON in MODELPORT_PARAMS."""
    task: Task | None = None
    """What the model is for. [classification or regression, by the target]"""
    timeout_s: Annotated[float, Field(gt=0, le=30 * 86_400)] | None = None
    """Time that an attempt may take, seconds. [no limit]"""

    @field_validator("command")
    @classmethod
    def _command(cls, value: str) -> str:
        try:
            if not shlex.split(value):
                raise ValueError("it is empty")
        except ValueError as error:
            raise ValueError(f"it cannot be read as a command line: {str(error).lower()}") from None
        return value

    @field_validator("requirements")
    @classmethod
    def _requirements(cls, value: list[str] | None) -> list[str] | None:
        try:
            return value if value is None else read_requirements("\n".join(value), "requirements")
        except ArtifactRefused as error:
            raise ValueError(error.message) from None

    @field_validator("params")
    @classmethod
    def _params(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(value, default=str)) > _LARGEST_PARAMS:
            raise ValueError(f"more than {_LARGEST_PARAMS} characters; put them into a file")
        return value


class Command:
    """The recipe."""

    summary = "Your own script, in an environment of its own."
    extra = "data"
    needs = ("pyarrow",)
    code = True
    Options = CommandOptions

    def task(self, data: TrainingData, options: CommandOptions) -> Task:
        if options.task is not None:
            return options.task
        if data.target is None:
            return "other"
        return "classification" if target_has_classes(data) else "regression"

    def check(self, data: TrainingData, options: CommandOptions) -> list[str]:
        if options.format == "images":
            if data.target is None:
                raise InvalidInput("options.format: images lie in folders by label, so a target has to be named")
            _image_column(data)
        return []

    def train(self, run: TrainingRun, data: TrainingData, options: CommandOptions) -> Trained:
        scripts = {name: import_module(f"modelport.training.scripts.{name}") for name in ("mount", "process", "output")}
        began = time.monotonic()
        work = _work(run)
        argv = shlex.split(options.command)
        requirements = _requirements(work, options)
        python, variables = run.environment(requirements)
        run.progress(0, None, "laying out the rows", "")
        image = _image_column(data) if options.format == "images" else None
        rows = scripts["mount"].mount(data, options.format, image, run.folder / "data")
        env = _environment(run, data, options, variables, rows)
        _check_program(argv, work, env)
        run.progress(0, None, "running", "")
        heard = scripts["process"].Heard(run.metric, lambda done, total, say: run.progress(done, total, say, ""))
        ended = scripts["process"].run_script(argv, work, env, heard, options.timeout_s)
        _check_end(ended.code, _readable(ended.words, run, python), options.timeout_s)
        told = scripts["output"].take(run.out)
        warnings = list(told.warnings)
        if heard.odd is not None:
            warnings.append(f"a line was not understood: {heard.odd!r}; the form is 'metric NAME=NUMBER step=NUMBER'")
        seconds = time.monotonic() - began
        _log.info("the script ended well after %.1f s", seconds)
        return Trained(
            task=told.task or self.task(data, options),
            preprocessing=[step.model_dump() for step in told.preprocessing],
            class_labels=told.class_labels,
            sample=told.sample,
            inputs=told.inputs,
            metrics={**_finite(heard.last), **told.metrics, "train_seconds": seconds},
            warnings=warnings,
            report={
                "command": options.command,
                "params": options.params,
                "packages": _packages(python, variables),
            },
        )


def _image_column(data: TrainingData) -> str:
    """The column whose bytes are images."""
    found = [name for name, kind in data.features.items() if kind in ("binary", "large_binary")]
    if not found or (len(found) > 1 and "image" not in found):
        raise InvalidInput(
            "options.format: images need one column of bytes among the features, or one that is called 'image'; "
            f"there {'is none' if not found else 'are ' + ', '.join(found)[:300]}"
        )
    return "image" if "image" in found else found[0]


def _work(run: TrainingRun) -> Path:
    """The folder that the script works in: a fresh copy of its files; what it keeps lies beside it."""
    work = run.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    if run.code is not None:
        shutil.copytree(run.code, work)
    work.mkdir(exist_ok=True)
    for path in (work, *work.rglob("*")):
        path.chmod(path.stat().st_mode | 0o600)
    for name in ("checkpoints", "home", "tmp"):
        (run.folder / name).mkdir(exist_ok=True)
    return work


def _requirements(work: Path, options: CommandOptions) -> list[str]:
    if options.requirements is not None:
        return options.requirements
    file = work / "requirements.txt"
    try:
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    except UnicodeDecodeError:
        raise InvalidInput("requirements.txt is not UTF-8 text") from None
    return read_requirements(text, file.name)


def _environment(
    run: TrainingRun,
    data: TrainingData,
    options: CommandOptions,
    variables: Mapping[str, str],
    rows: Mapping[str, Path],
) -> dict[str, str]:
    """All that the script's process knows: none of the server's own variables."""
    env = {name: value for name, value in replica_environment().items() if name not in ("PYTHONPATH", "USER")}
    env |= {name: value for name, value in variables.items() if name != "PYTHONPATH"}
    env |= thread_variables(run.threads)
    env |= {
        "HOME": str(run.folder / "home"),
        "TMPDIR": str(run.folder / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": str(run.seed),
        "MODELPORT_OUTPUT": str(run.out),
        "MODELPORT_CHECKPOINTS": str(run.folder / "checkpoints"),
        "MODELPORT_PARAMS": json.dumps(options.params, default=str),
        "MODELPORT_SEED": str(run.seed),
        "MODELPORT_THREADS": str(run.threads),
        "MODELPORT_ATTEMPT": str(run.attempt),
        "MODELPORT_FEATURES": json.dumps(list(data.features)),
    }
    env |= {f"MODELPORT_{name.upper()}": str(place) for name, place in rows.items()}
    if data.target is not None:
        env["MODELPORT_TARGET"] = data.target
    if run.start is not None:
        env["MODELPORT_START"] = str(run.start.folder)
    if _KEPT in os.environ:
        env[_KEPT] = os.environ[_KEPT]
    return env


def _check_program(argv: Sequence[str], work: Path, env: Mapping[str, str]) -> None:
    """Raise InvalidInput for a program, or a Python script, that is not there."""
    program = argv[0]
    files = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    have = f"the files given are {', '.join(files)[:500]}" if files else "no files were given (`--code FOLDER`)"
    found = (work / program).is_file() if "/" in program else shutil.which(program, path=env.get("PATH"))
    if not found:
        raise InvalidInput(f"command: there is no program {program[:200]!r}; {have}")
    script = next((word for word in argv[1:] if not word.startswith("-")), "")
    if Path(program).name.startswith("python") and script.endswith(".py") and not (work / script).is_file():
        raise InvalidInput(f"command: there is no file {script[:200]!r}; {have}")


def _check_end(code: int | None, words: str, timeout_s: float | None) -> None:
    """Raise what a script's bad end means: InvalidInput for its own, RunFailed (another attempt) for a kill."""
    if code == 0:
        return
    said = f"; its last words:\n{words}" if words else "; it said nothing"
    if code is None:
        raise InvalidInput(f"the script did not end within {timeout_s:g} s (options.timeout_s){said}")
    if code < 0:
        raise RunFailed(f"the script died ({_signal(-code)}){said}")
    raise InvalidInput(f"the script ended with code {code}{said}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _readable(words: str, run: TrainingRun, python: str) -> str:
    """The last lines, with paths as the script's author knows them and none of the server's."""
    places = [run.folder / "work", run.out, run.folder, Path(python).parents[1]]
    for place in places:
        for known in {str(place), str(place.resolve())}:
            words = words.replace(f"{known}/", "")
    words = re.sub(r"(?<![\w./])/(?:[^\s'\":/]+/)+", "…/", words)
    words = "".join(letter for letter in words if letter.isprintable() or letter in "\n\t")
    return words[-_MOST_WORDS:].strip()


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if abs(value) < float("inf")}


def _packages(python: str, variables: Mapping[str, str]) -> list[str]:
    """What the environment holds, ``name==1.2``."""
    argv = [python, "-I", "-c", _LISTED]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    return sorted(json.loads(done.stdout)) if done.returncode == 0 else []
