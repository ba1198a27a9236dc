"""``Client`` and ``AsyncClient``: everything a program does with a Modelport server.

    with modelport.Client() as client:
        client.models.push("digits.onnx", name="digits")
        client.deploy("digits", replicas=2)
        scores = client.predict("digits", images)

``AsyncClient`` has the same methods; they are awaited. Both keep connections open between calls: make one and share it
(between threads, or tasks of one loop).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from modelport.schemas.deployments import Deployment
from modelport.schemas.models import GcReport
from modelport.schemas.server import ServerStatus
from modelport.sdk import endpoint as discovery
from modelport.sdk.blocking import BlockingDriver
from modelport.sdk.blocking import Transport as BlockingTransport
from modelport.sdk.chat import Chat
from modelport.sdk.compression import Compression
from modelport.sdk.conversions import Conversions
from modelport.sdk.datasets import Datasets
from modelport.sdk.deployments import Deployments, Watch, apply, ignore_state, wish_of
from modelport.sdk.evaluations import Evaluations
from modelport.sdk.flows import Awaiting, Blocking, D_co, Flow, operation, send_json
from modelport.sdk.grades import Grades
from modelport.sdk.inference import Inference
from modelport.sdk.jobs import Jobs, Schedules
from modelport.sdk.keys import Keys
from modelport.sdk.models import API, Models
from modelport.sdk.pipelines import Pipelines
from modelport.sdk.training import Training

if TYPE_CHECKING:
    from modelport.sdk.awaiting import Transport as AwaitingTransport


class Surface(Inference[D_co]):
    """What both clients offer."""

    def __init__(self, driver: D_co) -> None:
        super().__init__(driver)
        self.models = Models(driver)
        self.chat = Chat(driver)
        self.datasets = Datasets(driver)
        self.evaluations = Evaluations(driver)
        self.conversions = Conversions(driver)
        self.grades = Grades(driver)
        self.deployments = Deployments(driver)
        self.keys = Keys(driver)
        self.jobs = Jobs(driver)
        self.schedules = Schedules(driver)
        self.pipelines = Pipelines(driver)
        self.training = Training(driver)
        self.compression = Compression(driver)

    @operation
    def deploy(
        self,
        /,
        model: str,
        version: int | None = None,
        alias: str | None = None,
        *,
        endpoint: str | None = None,
        follow: bool = False,
        wait: bool = True,
        timeout: float = 300,
        progress: Watch = ignore_state,
        **spec: Any,
    ) -> Flow[Deployment]:
        """Serve a version: ``deploy("digits", replicas=2)``, ``deploy("digits@champion", follow=True)``.

        The endpoint is named after the model unless ``endpoint`` says otherwise; ``spec`` takes the fields of
        ``DeploymentSpec``. With ``wait`` it comes back when that revision serves. Raises DeploymentFailed with the
        reason and the replica's last lines, DeadlineExceeded after ``timeout`` s, InvalidInput, NotFound.
        """
        wish = wish_of(model, version, alias, follow, spec)
        return (yield from apply(endpoint or wish.model, wish, wait, timeout, progress))

    @operation
    def undeploy(self, name: str, *, wait: bool = True, timeout: float = 60) -> Flow[None]:
        """Remove a deployment; its model stays in the registry."""
        yield from Deployments.delete.flow(self, name, wait=wait, timeout=timeout)

    @operation
    def status(self) -> Flow[ServerStatus]:
        """The whole server at a glance."""
        return ServerStatus.model_validate((yield from send_json("GET", f"{API}/status")))

    @operation
    def gc(self, *, dry_run: bool = False) -> Flow[GcReport]:
        """Remove files that no version uses any more; for administrators."""
        params = {"dry_run": "true" if dry_run else "false"}
        return GcReport.model_validate((yield from send_json("POST", f"{API}/gc", params=params, timeout=600)))


class Client(Surface[Blocking]):
    """A blocking client. Without arguments: ``MODELPORT_URL`` and ``MODELPORT_KEY``, else this machine's server.

    ``timeout`` is in seconds, for each request; ``verify`` is a CA file for a server whose certificate is private.
    ``transport`` takes the place of the network, in tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        timeout: float = 60,
        *,
        verify: bool | str = True,
        transport: BlockingTransport | None = None,
    ) -> None:
        target = discovery.choose(url, key)
        self._own = BlockingDriver(target, timeout, verify, transport)
        self.url = self._own.url
        super().__init__(self._own)

    def close(self) -> None:
        """Close the connections."""
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient(Surface[Awaiting]):
    """The same for asyncio: every method is awaited, ``deployments.logs`` is an asynchronous iterator."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        timeout: float = 60,
        *,
        verify: bool | str = True,
        transport: AwaitingTransport | None = None,
    ) -> None:
        from modelport.sdk.awaiting import AwaitingDriver  # noqa: PLC0415  (who blocks need not wait for it to load)

        target = discovery.choose(url, key)
        self._own = AwaitingDriver(target, timeout, verify, transport)
        self.url = self._own.url
        super().__init__(self._own)

    async def close(self) -> None:
        """Close the connections."""
        await self._own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
