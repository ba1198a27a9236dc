"""Job ``clean``: a recipe over one dataset version makes a new one, and a report of what each rule did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.data.recipe import check_columns, parse_recipe
from modelport.schemas.datasets import CleanParams

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Clean:
    """The work of the kind."""

    Params = CleanParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: CleanParams) -> None:
        made.check_installed()
        recipe = parse_recipe(params.recipe)
        version, _ = services.datasets.resolve(actor, params.dataset)
        check_columns(recipe, {column.name: column.type for column in version.manifest.columns}, params.dataset)

    def inputs(self, services: Services, actor: Actor, params: CleanParams) -> list[str] | None:
        return made.digests(services, actor, [params.dataset])

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: CleanParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        folder, scratch = made.begin(run)
        version, parts = made.parts_of(run.services, run.actor, params.dataset)

        def told(index: int, count: int, rule: str) -> None:
            run.progress(index, count, rule, "rules")

        report = made.room("clean").clean(parse_recipe(params.recipe), parts, folder, scratch, told)
        about = {
            "source": params.dataset,
            "report": {"rows_before": report[0]["before"], "rows_after": report[-1]["after"], "rules": report},
            "inherited_label": _label_left(version.manifest.label, parse_recipe(params.recipe)),
        }
        return made.register(run, params, folder, parents=[f"{version.dataset}:{version.version}"], **about)


def _label_left(label: str | None, recipe: Any) -> str | None:
    """The label, unless a rule takes that column away."""
    for rule in recipe.rules:
        if rule.rule == "columns" and label is not None and (label in rule.columns) != (rule.action == "keep"):
            return None
    return label
