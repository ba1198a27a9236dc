"""Job ``split``: a version whose files lie under the names of its parts, each row in exactly one of them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.errors import InvalidInput
from modelport.schemas.datasets import SplitParams

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Split:
    """The work of the kind."""

    Params = SplitParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: SplitParams) -> None:
        made.check_installed()
        version, part = services.datasets.resolve(actor, params.dataset)
        for what in ("stratify", "group", "time"):
            made.check_column(version, getattr(params, what), what)
        if version.manifest.parts and part is None:
            raise InvalidInput(
                f"dataset {params.dataset} is split already, into {', '.join(version.manifest.parts)}; "
                "split the version that it was made from, or one of its parts"
            )
        if version.rows < len(params.ratios):
            raise InvalidInput(f"ratios: {version.rows} rows cannot be split into {len(params.ratios)} parts")

    def inputs(self, services: Services, actor: Actor, params: SplitParams) -> list[str] | None:
        return made.digests(services, actor, [params.dataset])

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: SplitParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, _ = made.begin(run)
        shutil.rmtree(folder, ignore_errors=True)
        version, parts = made.parts_of(run.services, run.actor, params.dataset)
        run.progress(0, version.rows, "splitting")
        counts, report = made.room("split").split(parts, params, folder)
        parents = [f"{version.dataset}:{version.version}"]
        about = {
            "source": params.dataset,
            "report": report,
            "parts": counts,
            "inherited_label": version.manifest.label,
        }
        return made.register(run, params, folder, parents=parents, **about)
