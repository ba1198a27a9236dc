"""What each error code means in practice: usual causes, and what to do. Words only; ``errors.py`` has the classes.

``modelport explain-error CODE`` prints an entry, docs/errors.md holds them all, and a test holds both to the tree.
"""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """Of one code. Each cause stands beside the step that removes it."""

    meaning: str
    causes: tuple[tuple[str, str], ...]
    retry: str
    """Whether the same request can succeed later."""


_NEVER = "No: the same request gets the same answer."
_YES = "Yes, after the time in Retry-After; the SDK does so by itself."

_REQUEST = ("invalid_input", "model_rejected_input", "context_length_exceeded", "artifact_refused")
SPOKEN: dict[str, tuple[str, ...]] = {
    "model_not_found": ("not_found",),
    "unknown_url": ("not_found",),
    "invalid_api_key": ("not_authenticated",),
    "rate_limit_exceeded": ("overloaded",),
    "invalid_request_error": (*_REQUEST, "method_not_allowed", "conflict", "too_large", "unsupported_encoding"),
    "authentication_error": ("not_authenticated",),
    "permission_error": ("not_allowed",),
    "not_found_error": ("not_found",),
    "request_too_large": ("too_large",),
    "rate_limit_error": ("overloaded",),
    "overloaded_error": ("unavailable",),
    "timeout_error": ("deadline_exceeded",),
    "server_error": ("internal", "run_failed", "unavailable", "deadline_exceeded"),
    "api_error": ("internal", "run_failed"),
}
"""What OpenAI's and Anthropic's clients are told in place of our codes, as ``code`` and ``type``: what is meant."""

EXPLAINED: dict[str, Explanation] = {
    "internal": Explanation(
        "Something failed that nobody foresaw. That is a defect of Modelport.",
        (
            ("A defect", "look for the request id in control's or the gateway's log, and report what stands there"),
            ("The server's disk is full or read-only", "`modelport doctor` on the server"),
        ),
        "Perhaps once; then report it.",
    ),
    "invalid_input": Explanation(
        "The request cannot be understood, or does not fit the model's signature. The message names the field.",
        (
            ("Another data type, shape or input name than the model takes", "`modelport models show NAME` lists them"),
            (
                "The shape and the number of values disagree",
                "count them: the product of the shape is the length of data",
            ),
            ("The body is no JSON, or holds NaN", "NaN and Infinity are not JSON; send them as binary tensors"),
            ("A body for another protocol at this path", "`modelport snippet NAME` prints a call that works"),
        ),
        _NEVER,
    ),
    "model_rejected_input": Explanation(
        "The request fits the signature, but the model could not run it. Nothing else is affected.",
        (
            ("A dimension that is dynamic by name only", "try the shape that the model was exported with"),
            (
                "An index beyond a vocabulary, a text that is no number",
                "send what the model knows; the message quotes the runtime's own words",
            ),
            ("An input that asks for more memory than there is", "send fewer rows, or smaller ones"),
        ),
        _NEVER,
    ),
    "context_length_exceeded": Explanation(
        "The prompt has as many tokens as the language model can hold, or more. The message has both numbers.",
        (
            ("A long document or conversation", "shorten it, or leave out its oldest messages"),
            ("A model with a short context", "`modelport models show NAME` tells max_tokens; deploy another model"),
        ),
        _NEVER,
    ),
    "artifact_refused": Explanation(
        "A pushed file is unsafe, damaged, or of a format that is not served. Nothing was registered.",
        (
            ("A pickle in any wrapping (.pkl, .joblib, .pt, .pth)", "export to ONNX, or save with skops"),
            ("A format that is not served", "convert it as the message says"),
            ("Damage on the way: a Git LFS pointer, an HTML page", "fetch the file again and compare its size"),
            ("A type in a skops file that is not trusted", "the operator may add it: MODELPORT_TRUST_SKLEARN_TYPES"),
            ("MLmodel or config.pbtxt contradicts the model", "correct the line that the message names"),
        ),
        _NEVER,
    ),
    "not_authenticated": Explanation(
        "There is no key, or one that is unknown, expired or revoked.",
        (
            (
                "No key in the request",
                "`Authorization: Bearer mp_…`, or MODELPORT_KEY for the SDK and the command line",
            ),
            ("The key has expired or was revoked", "`modelport keys list`, then `modelport keys create`"),
        ),
        _NEVER,
    ),
    "not_allowed": Explanation(
        "Who calls is known, but may not do this.",
        (
            (
                "The key's role is too low",
                "ask an administrator for one of the role that the message names: `modelport keys create --role ROLE`",
            ),
            (
                "A source that the server may not read",
                "push the files, or ask the operator for MODELPORT_IMPORTS_ALLOW",
            ),
            ("An address that is not public", "push the file; the server reads the public internet only"),
            ("Code that the operator has not allowed", "the message names the setting under MODELPORT_TRUST_"),
        ),
        _NEVER,
    ),
    "not_found": Explanation(
        "The thing does not exist in the caller's project; another project's answers the same.",
        (
            ("A typing error in a name, version or alias", "`modelport models list`, `modelport status`"),
            ("A model that is registered but not deployed", "`modelport deploy NAME`"),
            ("A key of another project", "use a key of the project that owns the model"),
        ),
        "Only once somebody has created it.",
    ),
    "method_not_allowed": Explanation(
        "The path exists, but not with this HTTP method.",
        (("GET where POST is meant, or the reverse", "/docs shows the methods of each path"),),
        _NEVER,
    ),
    "conflict": Explanation(
        "The thing exists already, is in use, or has changed meanwhile.",
        (
            (
                "A version that is deployed, or that an alias names, is to be deleted",
                "undeploy it or move the alias first",
            ),
            ("An endpoint's name is taken by another model", "deploy under another name with --name"),
            ("A content was collected while its push went on", "push again"),
            ("A newer wish took the place of yours", "look at `modelport status` before you deploy again"),
        ),
        "After the cause is removed.",
    ),
    "too_large": Explanation(
        "A body, a file or a source is beyond its limit.",
        (
            (
                "An inference body beyond MODELPORT_HTTP_MAX_BODY_MB",
                "send fewer rows, or binary tensors instead of JSON",
            ),
            ("A file beyond MODELPORT_ARTIFACTS_MAX_FILE_GB", "the operator may raise it"),
            ("A source beyond MODELPORT_IMPORTS_MAX_GB", "name one model of it, or let the operator raise the limit"),
        ),
        _NEVER,
    ),
    "unsupported_encoding": Explanation(
        "A Content-Type or Content-Encoding that is not spoken at this path.",
        (
            ("A form or a file upload where JSON is meant", "Content-Type: application/json"),
            ("A compression that is not known", "gzip, deflate, or none"),
        ),
        _NEVER,
    ),
    "overloaded": Explanation(
        "More requests wait than can be answered in time, so this one was not taken. It was not run.",
        (
            ("More load than the replicas carry", "`modelport deploy NAME --replicas N`; `/metrics` shows the queue"),
            ("Requests of one row each", "send several rows in one request"),
        ),
        _YES,
    ),
    "cancelled": Explanation(
        "The caller went away before the answer; nobody sees this but the log.",
        (
            (
                "The client's own time limit is shorter than the answer takes",
                "raise it, or send x-request-timeout with it",
            ),
        ),
        "Yes.",
    ),
    "run_failed": Explanation(
        "The model's process died on this request, more than once. Others were answered. Tensors that did so are "
        "refused from then on; a text of a language model is not, since others were beside it.",
        (
            (
                "The model or its runtime crashes on this input",
                "`modelport logs NAME` shows the last words of the replica",
            ),
            ("The replica's memory limit", "`modelport deploy NAME --memory 4Gi`"),
            ("A Python predictor's own exception", "the class is in the message, the trace in `modelport logs NAME`"),
        ),
        "No: tensors that kill are not sent to a replica again, and a text would kill again.",
    ),
    "unavailable": Explanation(
        "Nothing is ready to answer at the moment.",
        (
            (
                "The deployment starts, failed or was stopped",
                "`modelport status` says why, with the replica's last lines",
            ),
            ("The control process starts again", "predictions go on; try the management call again"),
            ("The artifact store or a source does not answer", "the message names it; the operator's log says more"),
        ),
        _YES,
    ),
    "missing_extra": Explanation(
        "An optional package is not installed where it is needed.",
        (
            (
                "A feature outside the plain install",
                "run the command in the message, on the server or where the CLI runs",
            ),
        ),
        "After it is installed.",
    ),
    "deadline_exceeded": Explanation(
        "The deadline passed before the answer. A request whose deadline has passed is never run.",
        (
            (
                "The model takes longer than the deadline",
                "send x-request-timeout (seconds), or raise MODELPORT_HTTP_TIMEOUT_S",
            ),
            ("The queue is long", "more replicas; `/metrics` shows the time that requests wait"),
            ("A run beyond the deployment's own limit", "`modelport deploy NAME --timeout SECONDS`"),
        ),
        "Yes, with a longer deadline.",
    ),
    "proof_failed": Explanation(
        "A replica ran no inference successfully, so it was never admitted; what served before still serves.",
        (
            ("Inputs that nobody can guess", "push again with --sample FILE: an example of the inputs"),
            ("An output that the model does not give", "the signature is wrong: export the model again"),
        ),
        "No; push a version that works.",
    ),
}
