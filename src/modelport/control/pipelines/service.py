"""The work of kind ``pipeline``: each stage is a job of its own, begun when what it needs has ended.

A run keeps nothing in memory that its stages' rows do not say: their ids are the run's and the stage's name, so a run
that is begun again finds what it had. Stages whose turn it is run side by side, as the gate has room.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from modelport.control.actors import Actor
from modelport.control.assembly import Services
from modelport.control.jobs.gate import Capacity
from modelport.control.jobs.records import change_state
from modelport.control.jobs.run import (
    Conducted,
    ConductedRun,
    Repeatable,
    fingerprint_of,
    kind_of,
    least_memory_mb,
    params_of,
)
from modelport.control.jobs.service import shown
from modelport.control.pipelines.graph import Graph, Node, Values, check_pipeline
from modelport.errors import Cancelled, Conflict, InvalidInput, ModelportError, NotFound
from modelport.schemas.jobs import ENDED, Job, JobSubmit
from modelport.schemas.pipelines import PipelinePlan, PipelineRun, PlannedStage
from modelport.storage import tables

KIND = "pipeline"
_LOOK_S = 0.2


@dataclass(slots=True)
class _State:
    """What has become of the stages."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    """One sentence for each stage that failed."""

    def has_ended(self, name: str) -> bool:
        return name in self.results or name in self.skipped


class PipelineWork:
    """Conducted: it only waits for its stages."""

    Params = PipelineRun

    def check(self, services: Services, actor: Actor, params: PipelineRun) -> None:
        """Everything that can be known before a stage begins; raises InvalidInput naming the stage."""
        check_run(services, actor, params)

    async def conduct(self, run: ConductedRun, params: PipelineRun) -> dict[str, Any]:
        """Begin what can begin, until all have ended or one has failed; those under way are waited for."""
        graph = check_pipeline(params.pipeline, params.parameters)
        while True:
            state = await asyncio.to_thread(_look, run, graph)
            if not state.failures:
                await asyncio.to_thread(_begin, run, graph, params, state)
            done = len(state.results) + len(state.skipped)
            run.progress(done, len(graph.nodes), ", ".join(sorted(state.running)), "stages")
            if not state.running:
                if state.failures:
                    raise InvalidInput(
                        f"{'; '.join(state.failures)}; put it right and go on with `modelport run --resume {run.id}`"
                    )
                if done == len(graph.nodes):
                    return {"stages": state.results, "skipped": sorted(state.skipped)}
                continue
            await asyncio.sleep(_LOOK_S)


def check_run(services: Services, actor: Actor, params: PipelineRun) -> Graph:
    """The graph of a run in which every stage can begin, as far as that can be known."""
    graph = check_pipeline(params.pipeline, params.parameters)
    settings = services.settings.jobs
    capacity = Capacity.of(settings.cores, settings.memory_mb)
    values = Values(graph.parameters, {})
    for name, node in graph.nodes.items():
        try:
            if node.stage.kind == KIND:
                raise InvalidInput("kind: a stage cannot be a pipeline; write its stages here")
            kind = kind_of(node.stage.kind)
            capacity.grant(node.stage.resources, least_memory_mb(kind))
            if node.uses_results:
                unknown = sorted(node.stage.params.keys() - kind.Params.model_fields.keys())
                if unknown:
                    known = ", ".join(kind.Params.model_fields)
                    raise InvalidInput(f"params.{unknown[0][:100]}: {node.stage.kind} takes {known or 'none'}")
                continue
            checked = params_of(kind, values.resolve(node.stage.params))
            if not node.needs:  # else what it works on may not be there yet
                kind.check(services, actor, checked)
        except ModelportError as error:
            raise type(error)(f"stage {name!r}: {error.message}") from None
    if params.resume is not None:
        _earlier_run(services, actor, params.resume)
    return graph


def plan_run(services: Services, actor: Actor, params: PipelineRun) -> PipelinePlan:
    """What a run would do, stage by stage, without doing it."""
    graph = check_run(services, actor, params)
    results: dict[str, dict[str, Any]] = {}
    skipped: set[str] = set()
    plan = PipelinePlan(name=graph.name, parameters=graph.parameters, stages=[])
    for name, node in graph.nodes.items():
        taken: Job | None = None
        values = Values(graph.parameters, results)
        are_known = all(need in results or need in skipped for need in node.needs)
        if are_known or node.is_decided or any(need in skipped for need in node.needs):
            if _is_left_out(node, values, skipped):
                skipped.add(name)
            elif are_known:
                taken, _ = _find_earlier(services, actor, params, node, values.resolve(node.stage.params))
        if taken is not None and taken.result is not None:
            results[name] = taken.result
        plan.stages.append(
            PlannedStage(
                name=name, kind=node.stage.kind, needs=node.needs, when=node.when and node.when.text,
                require=[condition.text for condition in node.require], taken_from=taken and taken.id,
                skipped=name in skipped,
            )
        )  # fmt: skip
    return plan


def _look(run: ConductedRun, graph: Graph) -> _State:
    """What the stages' rows say."""
    state = _State()
    stages = {job.stage: job for job in run.jobs.all(run.actor, run=run.id)}
    for name, node in graph.nodes.items():
        values = Values(graph.parameters, state.results)
        job = stages.get(name)
        if job is None:
            if all(state.has_ended(need) for need in node.needs) and _is_left_out(node, values, state.skipped):
                state.skipped.add(name)
        elif job.state == "succeeded":
            state.results[name] = job.result or {}
            if broken := _broken(node, values):
                state.failures.append(broken)
        elif job.state in ENDED:
            why = job.error.message if job.error is not None else "it was cancelled"
            state.failures.append(f"stage {name!r} {job.state}: {why}")
        else:
            state.running.add(name)
    return state


def _is_left_out(node: Node, values: Values, skipped: set[str]) -> bool:
    """Whether a stage is not done, because its condition does not hold or one that it needs is not done."""
    if any(need in skipped for need in node.needs):
        return True
    return node.when is not None and not node.when.holds(values.lookup)


def _broken(node: Node, values: Values) -> str | None:
    """What does not hold of a stage's result."""
    lookup = values.of_stage(node.stage.name)
    for condition in node.require:
        try:
            if not condition.holds(lookup):
                seen = condition.shown(lookup)
                return f"stage {node.stage.name!r} does not pass: it requires {condition.text}, and {seen}"
        except InvalidInput as error:
            return f"stage {node.stage.name!r} does not pass: {error.message}"
    return None


def _begin(run: ConductedRun, graph: Graph, params: PipelineRun, state: _State) -> None:
    """Begin every stage whose turn it is."""
    for name, node in graph.nodes.items():
        if name in state.running or state.has_ended(name) or not all(state.has_ended(need) for need in node.needs):
            continue
        try:
            _begin_stage(run, params, node, Values(graph.parameters, state.results))
        except Cancelled:
            raise
        except ModelportError as error:
            if error.status >= 500:
                raise
            state.failures.append(f"stage {name!r} cannot begin: {error.message}")
            return
        state.running.add(name)


def _begin_stage(run: ConductedRun, params: PipelineRun, node: Node, values: Values) -> None:
    """Make the stage's row, unless it is there: a finished one, when an earlier run has done the same."""
    jobs, stage, actor = run.jobs, node.stage, run.actor
    resolved = values.resolve(stage.params)
    earlier, fingerprint = _find_earlier(jobs.services, actor, params, node, resolved)
    wish = JobSubmit(kind=stage.kind, params=resolved, resources=stage.resources, retries=stage.retries)
    resources = jobs.check(actor, wish)
    job_id = f"{run.id}.{stage.name}"
    with jobs.services.database.session() as session:
        parent = session.get_one(tables.Job, run.id, with_for_update=True)
        if parent.cancelling:
            raise Cancelled("it was cancelled")
        if session.get(tables.Job, job_id) is not None:
            return
        wish.priority = parent.priority
        row = jobs.insert(
            session, actor, wish, resources, id=job_id, run=run.id, stage=stage.name, fingerprint=fingerprint
        )
        if earlier is not None:
            row.result = earlier.result
            change_state(session, row, "succeeded", f"taken from {earlier.id}")
    if earlier is None:
        jobs.tell(job_id, wish.priority)


def _find_earlier(
    services: Services, actor: Actor, params: PipelineRun, node: Node, resolved: dict[str, Any]
) -> tuple[Job | None, str | None]:
    """A succeeded job that has done what a stage would do, and the stage's fingerprint."""
    kind = kind_of(node.stage.kind)
    if isinstance(kind, Conducted):  # what it did is not a thing that lasts
        return None, None
    checked = params_of(kind, resolved)
    try:
        fingerprint = fingerprint_of(services, actor, node.stage.kind, resolved)
    except NotFound:  # what it reads is not there (yet); its own check says so when it begins
        fingerprint = None
    row = tables.Job
    mine = (row.project_id == actor.project_id, row.state == "succeeded", row.kind == node.stage.kind)
    found: list[tables.Job] = []
    with services.database.reading() as session:
        if params.resume is not None:
            same = session.scalars(select(row).where(*mine, row.id == f"{params.resume}.{node.stage.name}"))
            found += [one for one in same if params_of(kind, one.params) == checked]
        if params.cache and fingerprint is not None:
            newest = select(row).where(*mine, row.fingerprint == fingerprint).order_by(row.id.desc())
            found += session.scalars(newest.limit(1))
    for one in found:
        result = one.result or {}
        if not isinstance(kind, Repeatable) or kind.still_there(services, actor, result):
            return shown(one), fingerprint
    return None, fingerprint


def _earlier_run(services: Services, actor: Actor, run_id: str) -> None:
    """Raises NotFound, and Conflict for what is no run that has ended."""
    with services.database.reading() as session:
        row = session.get(tables.Job, run_id)
        if row is None or row.project_id != actor.project_id or row.kind != KIND:
            raise NotFound(f"there is no pipeline run {run_id!r}; `modelport jobs list --kind pipeline` shows them")
        if row.state not in ENDED:
            raise Conflict(f"run {run_id} is {row.state}; it goes on by itself, or cancel it first")
