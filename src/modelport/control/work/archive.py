"""Job ``archive``: a dataset version's files move to a place that the operator allows; whoever needs them brings them
back. A file that has arrived is not moved again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.schemas.datasets import ArchiveParams

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Archive:
    """The work of the kind."""

    Params = ArchiveParams

    def check(self, services: Services, actor: Actor, params: ArchiveParams) -> None:
        services.datasets.check_archive(params.to)
        services.datasets.resolve(actor, params.dataset)

    def run(self, run: JobRun, params: ArchiveParams) -> dict[str, Any]:
        datasets = run.services.datasets
        datasets.check_archive(params.to)
        note = run.folder / "version"  # the same at every attempt, whatever ``latest`` means by then
        if not note.exists():
            note.write_text(str(datasets.resolve(run.actor, params.dataset)[0].version))
        name = params.dataset.partition(":")[0]

        def told(done: int, total: int) -> None:
            run.progress(done, total, f"moving {name}:{number}", "bytes")

        number = int(note.read_text())
        found = datasets.archive(run.actor, name, number, params.to, told)
        return {"dataset": f"{name}:{number}", "version": number, "archived": found.archived, "bytes": found.size}
