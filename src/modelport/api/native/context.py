"""What the management routes work with: the services of control, who calls, and bodies as streams.

One ``Context`` lies on the application; nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel, ValidationError

from modelport.api.auth import HOW, secret_of
from modelport.control.actors import Actor
from modelport.control.datasets import Datasets
from modelport.control.deployments import Deployments
from modelport.control.evaluations import Evaluations
from modelport.control.files import Files
from modelport.control.grades import Grades
from modelport.control.identity import Identity
from modelport.control.imports import Imports
from modelport.control.jobs.schedules import Schedules
from modelport.control.jobs.service import Jobs
from modelport.control.registry import Registry
from modelport.errors import InvalidInput, NotAllowed, NotFound, TooLarge
from modelport.schemas.access import Role
from modelport.schemas.names import NAME_PATTERN
from modelport.schemas.server import GatewayStatus
from modelport.settings import Settings
from modelport.storage.database import Database

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
_CHUNK = 1 << 20
#: A body that stands still for so long is given up, seconds.
_STALL_S = 60
#: Uploads that are received at once; the next ones wait, and never take the threads of short requests.
_UPLOADS = 16

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer mp_…`")
_HEADER = APIKeyHeader(name="X-Api-Key", auto_error=False, scheme_name="header", description="The same key, bare.")


@dataclass(slots=True)
class Tree:
    """The processes around control."""

    pid: int
    """Of the supervisor."""
    started_at: float
    """Seconds since the epoch."""
    http: str
    grpc: str | None
    gateways: Callable[[], list[GatewayStatus]]


@dataclass(slots=True)
class Context:
    """The services behind the routes."""

    settings: Settings
    registry: Registry
    identity: Identity
    database: Database
    deployments: Deployments
    tree: Tree | None = None
    """Set by the process that runs under a supervisor."""
    imports: Imports | None = None
    """Set where the server may bring models itself."""
    jobs: Jobs | None = None
    """Set where jobs are run."""
    schedules: Schedules | None = None
    """Set where jobs are run."""
    datasets_: Datasets | None = None
    """Set where there are datasets."""
    evaluations_: Evaluations | None = None
    """Set where models are judged."""
    grades_: Grades | None = None
    """Set where models are measured."""

    files_: Files | None = None
    """Set where files are kept."""

    @property
    def files(self) -> Files:
        """The files of batches; raises NotFound where there are none."""
        if self.files_ is None:
            raise NotFound("this server keeps no files")
        return self.files_

    @property
    def datasets(self) -> Datasets:
        """The registry of datasets; raises NotFound where there is none."""
        if self.datasets_ is None:
            raise NotFound("this server keeps no datasets")
        return self.datasets_

    @property
    def evaluations(self) -> Evaluations:
        """The record of evaluations; raises NotFound where there is none."""
        if self.evaluations_ is None:
            raise NotFound("this server keeps no evaluations")
        return self.evaluations_

    @property
    def grades(self) -> Grades:
        """The record of grades; raises NotFound where there is none."""
        if self.grades_ is None:
            raise NotFound("this server keeps no grades")
        return self.grades_

    @property
    def max_file_bytes(self) -> int:
        """Largest content that may come in."""
        return int(self.settings.artifacts.max_file_gb * 10**9)


class Page(BaseModel, Generic[T]):
    """One page of a list. The next one begins ``after`` the last item."""

    items: list[T]


def uploads_limiter() -> anyio.CapacityLimiter:
    """How many bodies are received at once."""
    return anyio.CapacityLimiter(_UPLOADS)


def context_of(request: Request) -> Context:
    """The application's context."""
    context: Context = request.app.state.context
    return context


def require(role: Role) -> Callable[..., Actor]:
    """A dependency: the calling actor, who must have ``role``. Raises NotAuthenticated or NotAllowed."""

    def actor(request: Request, _bearer: Any = Security(_BEARER), _header: Any = Security(_HEADER)) -> Actor:  # noqa: B008
        identity, secret = context_of(request).identity, secret_of(request.headers)
        if secret is not None and request.url.path.startswith("/v1/") and identity.is_nobodys(secret):
            secret = None  # OpenAI's clients insist on sending something
        if secret is None and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise NotAllowed(f"without a key this server answers no other site's pages; {HOW}")
        found = identity.authenticate(secret, request.state.request_id)
        if not found.may(role):
            raise NotAllowed(
                f"this needs the role {role!r}; the key {found.name!r} is a {found.role!r}; an admin makes another by "
                f"`modelport keys create --name NAME --role {role}`"
            )
        return found

    return actor


PathName = Annotated[str, Path(pattern=NAME_PATTERN, max_length=100)]
PathRef = Annotated[str, Path(pattern=NAME_PATTERN, max_length=100, description="A number, an alias, or `latest`.")]
Here = Annotated[Context, Depends(context_of)]
AnyKey = Annotated[Actor, Depends(require("caller"))]
Viewer = Annotated[Actor, Depends(require("viewer"))]
Developer = Annotated[Actor, Depends(require("developer"))]
Admin = Annotated[Actor, Depends(require("admin"))]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items of this page at most.")]
AfterName = Annotated[str | None, Query(pattern=NAME_PATTERN, description="Name of the previous page's last item.")]
AfterNumber = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Number of the previous page's last item.")]


def announced_size(request: Request, limit: int) -> int | None:
    """Bytes of the body, where the caller says so; raises TooLarge before any is read."""
    text = request.headers.get("content-length")
    if text is None or not text.isdecimal() or len(text) > 18:
        return None
    if int(text) > limit:
        raise TooLarge(
            f"the body of {text} bytes is over the limit of {limit}; MODELPORT_ARTIFACTS_MAX_FILE_GB sets it"
        )
    return int(text)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """The body as ``kind``, whatever its Content-Type; raises RequestValidationError."""
    try:
        return kind.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems) from None


async def receive(request: Request, work: Callable[[Iterator[bytes]], T]) -> T:
    """Run ``work`` on the request's body in a thread, in constant memory."""
    return await anyio.to_thread.run_sync(work, body_chunks(request), limiter=request.app.state.uploads)


def body_chunks(request: Request) -> Iterator[bytes]:
    """The request's body in pieces of about 1 MiB, for a worker thread; the event loop reads it meanwhile."""
    stream = request.stream().__aiter__()

    async def read() -> bytes:
        parts: list[bytes] = []
        size = 0
        while size < _CHUNK:
            with anyio.fail_after(_STALL_S):
                part = await anext(stream, None)
            if part is None:
                break
            parts.append(part)  # the last one is empty
            size += len(part)
        return b"".join(parts)

    while True:
        try:
            chunk = anyio.from_thread.run(read)
        except TimeoutError:
            raise InvalidInput(f"the body stood still for {_STALL_S} s; send it again") from None
        if not chunk:
            return
        yield chunk
