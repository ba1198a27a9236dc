"""Job ``features``: columns made from columns by a recipe, as a new version."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.errors import MissingExtra
from modelport.schemas.datasets import FeatureParams
from modelport.schemas.features import Aggregate, check_steps, parse_features

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Features:
    """The work of the kind."""

    Params = FeatureParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: FeatureParams) -> None:
        made.check_installed()
        recipe = parse_features(params.recipe)
        version, _ = services.datasets.resolve(actor, params.dataset)
        made.check_column(version, params.label, "label")
        columns = {column.name: column.type for column in version.manifest.columns}
        check_steps(recipe, columns, params.label or version.manifest.label, params.dataset)
        for ref in _others(recipe):
            services.datasets.resolve(actor, ref)

    def inputs(self, services: Services, actor: Actor, params: FeatureParams) -> list[str] | None:
        return made.digests(services, actor, [params.dataset, *_others(parse_features(params.recipe))])

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: FeatureParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, _ = made.begin(run)
        shutil.rmtree(folder, ignore_errors=True)
        recipe = parse_features(params.recipe)
        version, parts = made.parts_of(run.services, run.actor, params.dataset)
        label = params.label or version.manifest.label
        others, parents = {}, [f"{version.dataset}:{version.version}"]
        for ref in _others(recipe):
            other, others[ref] = made.parts_of(run.services, run.actor, ref)
            parents.append(f"{other.dataset}:{other.version}")

        def told(index: int, count: int, step: str) -> None:
            run.progress(index, count, step, "steps")

        try:
            room = made.room("features")
        except MissingExtra:
            raise MissingExtra("features", "making features") from None
        report = room.make_features(recipe, parts, label, others, folder, told)
        about = {"source": params.dataset, "report": report, "inherited_label": label}
        return made.register(run, params, folder, parents=list(dict.fromkeys(parents)), **about)


def _others(recipe: Any) -> list[str]:
    return [step.dataset for step in recipe.steps if isinstance(step, Aggregate)]
