"""Jobs ``join`` and ``concat``: dataset versions beside one another, and behind one another."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.schemas.datasets import ConcatParams, JoinParams

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Join:
    """The work of the kind ``join``."""

    Params = JoinParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: JoinParams) -> None:
        made.check_installed()
        for ref in (params.left, params.right):
            version, _ = services.datasets.resolve(actor, ref)
            for key in params.on:
                made.check_column(version, key, "on")

    def inputs(self, services: Services, actor: Actor, params: JoinParams) -> list[str] | None:
        return made.digests(services, actor, [params.left, params.right])

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: JoinParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, scratch = made.begin(run)
        shutil.rmtree(folder, ignore_errors=True)
        left, left_parts = made.parts_of(run.services, run.actor, params.left)
        right, right_parts = made.parts_of(run.services, run.actor, params.right)
        run.progress(0, None, f"joining {params.left} and {params.right}")
        report = made.room("integrate").join(left_parts, right_parts, params, folder, scratch)
        parents = [f"{version.dataset}:{version.version}" for version in (left, right)]
        about = {
            "source": f"{params.left} and {params.right}",
            "report": report,
            "inherited_label": left.manifest.label,
        }
        return made.register(run, params, folder, parents=parents, **about)


class Concat:
    """The work of the kind ``concat``."""

    Params = ConcatParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: ConcatParams) -> None:
        made.check_installed()
        for ref in params.datasets:
            services.datasets.resolve(actor, ref)

    def inputs(self, services: Services, actor: Actor, params: ConcatParams) -> list[str] | None:
        return made.digests(services, actor, params.datasets)

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: ConcatParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, _ = made.begin(run)
        shutil.rmtree(folder, ignore_errors=True)
        found = [made.parts_of(run.services, run.actor, ref) for ref in params.datasets]
        run.progress(0, None, f"putting {len(found)} versions together")
        tables = [parts for _, parts in found]
        report = made.room("integrate").concat(tables, params.datasets, params.on_schema == "union", folder)
        parents = list(dict.fromkeys(f"{version.dataset}:{version.version}" for version, _ in found))
        about = {
            "source": ", ".join(params.datasets)[:1000],
            "report": report,
            "inherited_label": found[0][0].manifest.label,
        }
        return made.register(run, params, folder, parents=parents, **about)
