"""Every error that Modelport raises on purpose.

    ModelportError                 500  internal
    ├── InvalidInput               400  invalid_input         not understood, or does not fit the model
    │   ├── ModelRejectedInput     400  model_rejected_input  well-formed, but the model itself refused it
    │   ├── ContextExceeded        400  context_length_exceeded  a prompt longer than the model can hold
    │   └── ArtifactRefused        422  artifact_refused      an unsafe, damaged or unknown file
    ├── NotAuthenticated           401  not_authenticated
    ├── NotAllowed                 403  not_allowed
    ├── NotFound                   404  not_found             missing, or another project's: the answers are the same
    ├── MethodNotAllowed           405  method_not_allowed
    ├── Conflict                   409  conflict
    ├── TooLarge                   413  too_large
    ├── UnsupportedEncoding        415  unsupported_encoding
    ├── Overloaded                 429  overloaded            try again after ``retry_after`` seconds
    ├── Cancelled                  499  cancelled             the caller went away
    ├── RunFailed                  500  run_failed            the model's process died on this request
    ├── Unavailable                503  unavailable           nothing is ready to answer
    │   └── MissingExtra           501  missing_extra         an optional package is not installed
    └── DeadlineExceeded           504  deadline_exceeded

A class owns its code, its HTTP status and its gRPC status name. A message names the thing, the cause and the next
step; it never holds a path of the server, a handle or a stack. One handler per protocol turns an error into wire form.
"""

from __future__ import annotations

CODE_HEADER = "x-modelport-error"
"""Carries the code beside every protocol's own form of an error: an HTTP header, or gRPC trailing metadata."""


class ModelportError(Exception):
    """Base of the tree. ``message`` is safe to show to any caller."""

    code = "internal"
    status = 500
    grpc_status = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(ModelportError):
    """A request that cannot be understood or does not fit the model's signature."""

    code = "invalid_input"
    status = 400
    grpc_status = "INVALID_ARGUMENT"
    field: str | None = None
    """Which field of the request it is about, where a protocol has a place to say so."""

    @classmethod
    def of(cls, field: str, message: str) -> InvalidInput:
        """About one field."""
        error = cls(message)
        error.field = field
        return error


class ModelRejectedInput(InvalidInput):
    """A request that fits the signature, but that the model could not run."""

    code = "model_rejected_input"


class ContextExceeded(InvalidInput):
    """A prompt that is longer than what the language model can hold."""

    code = "context_length_exceeded"


class ArtifactRefused(InvalidInput):
    """A pushed artifact that is unsafe, damaged or of a format that is not known."""

    code = "artifact_refused"
    status = 422


class NotAuthenticated(ModelportError):
    """No key, or one that is unknown, expired or revoked."""

    code = "not_authenticated"
    status = 401
    grpc_status = "UNAUTHENTICATED"


class NotAllowed(ModelportError):
    """A known key whose role does not cover this."""

    code = "not_allowed"
    status = 403
    grpc_status = "PERMISSION_DENIED"


class NotFound(ModelportError):
    """The thing does not exist in the caller's project."""

    code = "not_found"
    status = 404
    grpc_status = "NOT_FOUND"


class MethodNotAllowed(ModelportError):
    """The path exists, the HTTP method does not."""

    code = "method_not_allowed"
    status = 405
    grpc_status = "UNIMPLEMENTED"


class Conflict(ModelportError):
    """The thing exists already, or is in use."""

    code = "conflict"
    status = 409
    grpc_status = "FAILED_PRECONDITION"


class TooLarge(ModelportError):
    """A body beyond the configured limit."""

    code = "too_large"
    status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class UnsupportedEncoding(ModelportError):
    """A Content-Type or Content-Encoding that is not spoken here."""

    code = "unsupported_encoding"
    status = 415
    grpc_status = "INVALID_ARGUMENT"


class Overloaded(ModelportError):
    """The queue is full. ``retry_after`` is in seconds."""

    code = "overloaded"
    status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cancelled(ModelportError):
    """The caller went away before the answer."""

    code = "cancelled"
    status = 499
    grpc_status = "CANCELLED"


class RunFailed(ModelportError):
    """The model's process died while it ran this request."""

    code = "run_failed"


class Unavailable(ModelportError):
    """Nothing is ready to answer."""

    code = "unavailable"
    status = 503
    grpc_status = "UNAVAILABLE"


class MissingExtra(Unavailable):
    """An optional package is not installed; the message holds the command that installs it."""

    code = "missing_extra"
    status = 501

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an extra: pip install 'modelport[{extra}]'")
        self.extra = extra


class DeadlineExceeded(ModelportError):
    """The caller's deadline passed before the answer."""

    code = "deadline_exceeded"
    status = 504
    grpc_status = "DEADLINE_EXCEEDED"


def _tree(cls: type[ModelportError]) -> list[type[ModelportError]]:
    return [cls] + [c for sub in cls.__subclasses__() for c in _tree(sub)]


BY_CODE: dict[str, type[ModelportError]] = {cls.code: cls for cls in _tree(ModelportError)}


_BY_STATUS = {cls.status: cls for cls in reversed(BY_CODE.values()) if cls is not MissingExtra}


def from_status(status: int, message: str) -> ModelportError:
    """The error nearest to an HTTP status, for answers that hold no code."""
    cls = _BY_STATUS.get(status)
    if cls is None:
        cls = InvalidInput if 400 <= status < 500 else Unavailable if status > 500 else ModelportError
    return from_wire(cls.code, message)


def from_wire(code: str, message: str) -> ModelportError:
    """Rebuild an error that crossed a process or a network, by its code."""
    cls = BY_CODE.get(code, ModelportError)
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.message = message
    if isinstance(error, Overloaded):
        error.retry_after = 1
    return error
