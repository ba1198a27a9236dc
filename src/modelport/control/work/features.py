"""Job ``features``: columns made from columns by a recipe, as a new version.

Which versions of datasets and models the recipe means is settled by the first attempt.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.control.work.embed import check_embed, embed
from modelport.errors import MissingExtra
from modelport.schemas.datasets import FeatureParams
from modelport.schemas.features import Aggregate, AnyStep, Embed, FeatureRecipe, check_steps, parse_features

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
        known: dict[str, str] | None = columns
        for index, step in enumerate(recipe.steps):
            if isinstance(step, Embed):
                added = check_embed(services, actor, index, step, known)
                known = None if known is None else known | added
            else:
                known = None  # what it makes shows when it has been made

    def inputs(self, services: Services, actor: Actor, params: FeatureParams) -> list[str] | None:
        recipe = parse_features(params.recipe)
        found = made.digests(services, actor, [params.dataset, *_others(recipe)])
        models = [made.model_of(services, actor, ref) for ref in _models(recipe)]
        return None if found is None else [*found, *(f"{m.model}:{m.version} {m.digest}" for m in models)]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: FeatureParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, _ = made.begin(run)
        shutil.rmtree(folder, ignore_errors=True)
        recipe = parse_features(params.recipe)
        pinned = _pin(run, params, recipe)
        version, parts = made.parts_of(run.services, run.actor, pinned.datasets[params.dataset])
        before = made.room("writing").schema_of(parts)
        label = params.label or version.manifest.label
        report = _make(run, recipe, pinned, parts, label, folder)
        after = made.room("writing").schema_of(made.room("writing").parts_in(folder))
        report = {"columns_before": len(before), "columns_after": len(after), **report}
        about = {"source": params.dataset, "report": report, "inherited_label": label if label in after.names else None}
        datasets = [ref.partition("/")[0] for ref in pinned.datasets.values()]
        parents = list(dict.fromkeys([*datasets, *(f"model:{ref}" for ref in pinned.models.values())]))
        return made.register(run, params, folder, parents=parents, **about)


@dataclass(slots=True)
class _Pinned:
    """What the references of the recipe meant when the job began, and mean at every attempt."""

    datasets: dict[str, str]
    models: dict[str, str]


def _pin(run: JobRun, params: FeatureParams, recipe: FeatureRecipe) -> _Pinned:
    datasets, models = (params.dataset, *_others(recipe)), _models(recipe)
    found = made.settled(
        run,
        lambda: {
            "datasets": {ref: made.rows_meant(run, ref) for ref in datasets},
            "models": {ref: made.model_meant(run, ref) for ref in models},
        },
    )
    return _Pinned(**found)


def _make(
    run: JobRun, recipe: FeatureRecipe, pinned: _Pinned, parts: list[Path], label: str | None, folder: Path
) -> dict[str, Any]:
    """Run the steps, those in memory together and each ``embed`` by itself, the last of them into ``folder``."""
    groups = _groups(recipe)
    in_memory = [at for at, group in enumerate(groups) if not _is_embed(group)]
    others = {ref: made.parts_of(run.services, run.actor, pinned.datasets[ref])[1] for ref in _others(recipe)}
    report: dict[str, Any] = {}

    def told(index: int, step: str) -> None:
        run.progress(index, len(recipe.steps) + 1, step, "steps")

    for at, group in enumerate(groups):
        into = folder if at == len(groups) - 1 else run.folder / f"steps-{at}"
        if _is_embed(group):
            ((index, step),) = group.items()
            assert isinstance(step, Embed)
            version = made.model_of(run.services, run.actor, pinned.models[step.model])
            found = embed(run, index, step, version, parts, run.folder / f"embed-{index}", into)
            report.setdefault("embeddings", []).append(found)
        else:
            shutil.rmtree(into, ignore_errors=True)
            last = at == in_memory[-1]
            select = recipe.select if last else None
            try:
                room = made.room("features")
            except MissingExtra:
                raise MissingExtra("features", "making features") from None
            report |= room.make_features(group, select, parts, label, others, into, told, weigh=last)
        parts = made.room("writing").parts_in(into)
    return report


def _groups(recipe: FeatureRecipe) -> list[dict[int, AnyStep]]:
    """The steps by their number: what runs together. A choice among the columns comes last, in memory."""
    groups: list[dict[int, AnyStep]] = []
    for index, step in enumerate(recipe.steps):
        if isinstance(step, Embed) or not groups or _is_embed(groups[-1]):
            groups.append({})
        groups[-1][index] = step
    if not groups or (recipe.select is not None and _is_embed(groups[-1])):
        groups.append({})
    return groups


def _is_embed(group: dict[int, AnyStep]) -> bool:
    return any(isinstance(step, Embed) for step in group.values())


def _others(recipe: FeatureRecipe) -> list[str]:
    return [step.dataset for step in recipe.steps if isinstance(step, Aggregate)]


def _models(recipe: FeatureRecipe) -> list[str]:
    return [step.model for step in recipe.steps if isinstance(step, Embed)]
