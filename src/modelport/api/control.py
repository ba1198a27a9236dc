"""The control process: joins registry, identity, deployments and reconciler, and answers the management API.

The supervisor starts it with FD (``modelport.starting``), the conversation with it. It listens on a Unix socket
only; callers come through the gateways.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Response

from modelport.api import metrics
from modelport.api.app import create_app
from modelport.api.hub import Hub
from modelport.api.native import deployments as deployment_routes
from modelport.api.native import jobs as job_routes
from modelport.api.native import pipelines as pipeline_routes
from modelport.api.native import schedules as schedule_routes
from modelport.api.native import server as server_routes
from modelport.api.native.context import Context, Here, Tree, Viewer
from modelport.api.native.errors import EVERYWHERE_OPENAI
from modelport.api.openai import batches as batch_routes
from modelport.api.openai import files as file_routes
from modelport.api.proxy import SOCKET
from modelport.api.text_metrics import Watched
from modelport.control.actors import DEFAULT_PROJECT
from modelport.control.assembly import Services, build_services, trust_of
from modelport.control.collector import Collector
from modelport.control.deployments import Deployments, Observation, Wishes
from modelport.control.engines import Engines
from modelport.control.environments import Environments
from modelport.control.imports import Imports
from modelport.control.jobs.runner import JobRunner
from modelport.control.jobs.schedules import Schedules
from modelport.control.jobs.service import Jobs
from modelport.control.quotas import Quotas
from modelport.control.reconciler import Reconciler
from modelport.control.runnable import check_runnable
from modelport.engine.fleet import Fleet
from modelport.engine.placement.ports import is_loopback
from modelport.engine.placement.process import SupervisorLink
from modelport.schemas.server import GatewayStatus
from modelport.settings import Settings
from modelport.telemetry import configure


class Control:
    """The process's parts, joined."""

    def __init__(self, boot: dict[str, Any], settings: Settings) -> None:
        endpoint = boot["endpoint"]
        self.services: Services = build_services(
            settings, owner_token=endpoint["token"], keys_required=not is_loopback(boot["host"])
        )
        services = self.services
        self.deployments = Deployments(services.database, services.registry.resolve)
        self.deployments.check = partial(check_runnable, trust_of(settings))
        self.environments = Environments(settings.home / "environments")
        self.hub = Hub(Quotas().lend)
        self.reconciler = Reconciler(
            self.deployments,
            services.identity,
            services.registry.materialize,
            self.hub.publish,
            settings.home / "logs",
            tuple(settings.trust.sklearn_types),
            self.environments,
            Engines(settings.vllm),
        )
        self.jobs = Jobs(services, settings)
        self.schedules = Schedules(self.jobs)
        self.runner = JobRunner(self.jobs, self.deployments, settings)
        self.collector = Collector(
            services.database, services.registry, settings.artifacts.gc_interval_s, self.jobs.prune,
            services.files.sweep,
        )  # fmt: skip
        self.link = SupervisorLink(self._heard)
        self.fleet = self.reconciler.fleet = Fleet(self.link, self.reconciler.replica_changed)
        self._gateways: dict[str, int] = {}
        self.deployments.observe = self.reconciler.observe
        self.deployments.on_change.append(self.reconciler.wishes_changed)
        services.identity.on_change.append(self.reconciler.keys_changed)
        services.registry.collectors.append(self._collect_environments)
        services.registry.on_alias_moved.append(self.deployments.alias_moved)
        tree = Tree(endpoint["pid"], boot["started_at"], endpoint["url"], endpoint["grpc"], self.gateways)
        self.context = Context(
            settings, services.registry, services.identity, services.database, self.deployments, tree,
            Imports(services.registry, settings.imports, settings.home / "cache" / "imports"), self.jobs,
            self.schedules, services.datasets, services.evaluations, services.grades, services.files,
        )  # fmt: skip

    def _collect_environments(self, dry_run: bool) -> tuple[int, int]:
        grace = self.context.settings.artifacts.gc_grace_s
        return self.environments.collect(self.reconciler.environments_in_use(), grace, dry_run)

    def _heard(self, event: dict[str, Any]) -> None:
        """What the supervisor says."""
        if event["event"] == "running":
            for process in event["processes"]:
                self._started(process)
        elif event["event"] == "started":
            self._started(event)
        elif event["id"].startswith("gateway-"):
            self._gateways.pop(event["id"], None)
        else:
            self.fleet.exited(event["id"], event["code"], event.get("reason"))

    def _started(self, process: dict[str, Any]) -> None:
        if process["id"].startswith("gateway-"):
            self._gateways[process["id"]] = process["pid"]
        elif process["id"] not in self.fleet.replicas and process["about"] is not None:
            self.fleet.adopt(process["id"], process["pid"], process["about"])

    def gateways(self) -> list[GatewayStatus]:
        """Each gateway, and whether it listens to us."""
        connected = {report.pid: report for report in self.hub.gateways}
        return [
            GatewayStatus(
                name=name,
                pid=pid,
                connected=pid in connected,
                memory_mb=round(connected[pid].memory / 1e6, 1) if pid in connected else None,
            )
            for name, pid in sorted(self._gateways.items())
        ]

    async def run(self, fd: int) -> None:
        """Until SIGTERM."""
        folder = Path.cwd()
        await self.hub.open(folder)
        await self.fleet.open(folder)
        await self.link.open(fd)
        lives = (self.reconciler.run(), self.collector.run(), self.runner.run(), self.schedules.run())
        loops = [asyncio.create_task(life) for life in lives]
        (folder / SOCKET).unlink(missing_ok=True)
        server = _Server(
            uvicorn.Config(
                self.app(), uds=SOCKET, loop="none", http="httptools", ws="none", access_log=False, log_config=None,
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=2,
            )
        )  # fmt: skip

        def end() -> None:
            server.should_exit = True
            loops.append(asyncio.create_task(self.runner.close()))

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        await server.serve()
        await self.runner.close()
        for task in loops:
            task.cancel()
        self.services.database.close()

    def app(self) -> FastAPI:
        """The management API, with what only a running tree can answer."""
        nouns = (deployment_routes, job_routes, schedule_routes, pipeline_routes, server_routes)
        app = create_app(self.context, [noun.router for noun in nouns])
        for noun in (file_routes, batch_routes):
            app.include_router(noun.router, responses=EVERYWHERE_OPENAI)
        app.include_router(server_routes.repository)
        app.include_router(self._metrics())
        return app

    def _metrics(self) -> APIRouter:
        router = APIRouter(tags=["server"])

        @router.get("/metrics", operation_id="metrics", response_class=Response)
        async def show(here: Here, actor: Viewer) -> Response:
            """Prometheus figures: of everything for the operator's project, for others their own."""
            reports = await self.hub.figures()
            wishes = await asyncio.to_thread(self.deployments.wishes)
            seen = [_watched(w, self.reconciler.observe(w.deployment_id)) for w in wishes]
            project = None if actor.project == DEFAULT_PROJECT else actor.project
            return Response(metrics.exposition(reports, seen, project), media_type=metrics.MEDIA_TYPE)

        return router


def _watched(wishes: Wishes, seen: Observation) -> Watched:
    manifest = (wishes.serving or wishes.desired).manifest
    return Watched(
        (wishes.project, wishes.name, manifest.model, str(manifest.version)), seen.ready,
        max((replica.restarts for replica in seen.replicas), default=0),
        {replica.id: (replica.memory_mb or 0) * 1e6 for replica in seen.replicas}, seen.load,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers."""

    def capture_signals(self) -> Any:
        return nullcontext()


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    boot = json.loads(os.environ.pop("MODELPORT_BOOT"))
    settings = Settings(**boot["settings"])
    configure(settings.log.level)

    async def run() -> None:
        await Control(boot, settings).run(int(sys.argv[1]))

    asyncio.run(run())
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)  # everything is closed; to take all modules apart would cost half a second more


if __name__ == "__main__":
    main()
