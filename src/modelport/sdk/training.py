"""Training: have a recipe learn from a dataset; what recipes there are. Training is a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput
from modelport.schemas.jobs import Job
from modelport.schemas.training import RecipeInfo
from modelport.sdk.datasets import submitted
from modelport.sdk.files import Progress, hash_files, ignore_progress, scan
from modelport.sdk.flows import D_co, Flow, Operations, Work, operation, send_json
from modelport.sdk.jobs import JobWatch, ignore_job
from modelport.sdk.models import API, upload

RecipeList = list[RecipeInfo]


class Training(Operations[D_co]):
    """``client.training``."""

    @operation
    def recipes(self) -> Flow[RecipeList]:
        """The ways to learn that the server has, with their options."""
        found = yield from send_json("GET", f"{API}/recipes")
        return [RecipeInfo.model_validate(item) for item in found["items"]]

    @operation
    def train(
        self,
        /,
        recipe: str,
        data: str,
        options: Mapping[str, Any] | None = None,
        *,
        code: Sequence[str | Path] = (),
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Have ``recipe`` learn from ``NAME[:VERSION][/PART]``; the result names the model version and its figures.

        ``options`` are the recipe's own. ``code`` are files and folders of this machine that the recipe is given: a
        module, a script, weights. ``params`` are further fields of ``TrainParams``, and ``cores``, ``memory_mb``,
        ``gpus``, ``priority``, ``retries`` of the job.
        """
        asked = {"recipe": recipe, "data": data, "options": dict(options or {}) or None, **params}
        if code:
            asked["files"] = yield from sent(code, upload_progress)
        return (yield from submitted("train", asked, wait, watch))

    @operation
    def tune(
        self,
        /,
        recipe: str,
        data: str,
        space: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        *,
        code: Sequence[str | Path] = (),
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Try options of a recipe; the result is as that of ``train`` for the best, and says of every trial.

        ``space`` says what to try by the option's name: ``"1e-4..1e-1:log"``, ``"2..8"``, ``["forest", "boosting"]``.
        ``params`` are further fields of ``TuneParams``, and what ``train`` takes. The job holds a core for each worker
        unless ``cores`` says otherwise.
        """
        asked = {"recipe": recipe, "data": data, "space": dict(space), "options": dict(options or {}) or None, **params}
        asked.setdefault("cores", params.get("workers"))
        if code:
            asked["files"] = yield from sent(code, upload_progress)
        return (yield from submitted("tune", asked, wait, watch))


def sent(paths: Sequence[str | Path], progress: Progress) -> Flow[list[dict[str, Any]]]:
    """Files and folders of this machine, uploaded; what a job's parameters say of them."""
    files: dict[str, Path] = {}
    for path in paths:
        for inside, file in scan(Path(path).expanduser()):
            if "__pycache__" in Path(inside).parts:
                continue
            if inside in files:
                raise InvalidInput(f"{inside!r} is among the files twice: {files[inside]} and {file}; rename one")
            files[inside] = file
    found = list(files.items())
    entries: list[Any] = []
    yield Work(lambda: entries.extend(hash_files(found, progress)))
    named = zip(entries, found, strict=True)
    yield from upload({entry.sha256: (file, entry.size) for entry, (_, file) in named}, progress)
    return [entry.model_dump() for entry in entries]
