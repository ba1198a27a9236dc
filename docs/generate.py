"""Writes what is derived from the code: the OpenAPI document, the JSON Schema of deployments, settings and errors.

    python docs/generate.py

Starts no server. A test holds the committed files against what this would write.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from modelport import errors, errors_explained
from modelport.api.control import Control
from modelport.cli.apply import document_schema
from modelport.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

_SETTINGS = """# Settings

Every setting is a flag of `modelport up` where that is handy, an environment variable, or a line of `settings.yaml`
in the home folder; the first of these that says something wins.

```yaml
http: {port: 9000, timeout_s: 10}
log: {level: warning}
```

| environment variable | in `settings.yaml` | default | what it is |
|---|---|---|---|
"""

_ERRORS = """# Errors

Every error says what is wrong, why, and what to do; it never shows a path of the server or a stack.

| where | wire form |
|---|---|
| `/api/v1` | `{"error": {"code": "not_found", "message": "…", "request_id": "…"}}` |
| V1, V2, `/predict` | `{"error": "…"}`, as those protocols have it; the request id is in the header `x-request-id` |
| `/v1` as OpenAI's clients speak it | `{"error": {"message", "type", "param", "code"}}`, also for unknown paths |
| `/v1/messages` | `{"type": "error", "error": {"type", "message"}}`, as Anthropic's clients have it |
| gRPC | the status below, the message in its details |
| Python SDK | the class below, from `modelport.errors`; `.message`, `.code`, `.status` |
| command line | one line on standard error, exit code 1 |

`429` brings `Retry-After`, and the SDK waits so long before it tries again; `401` brings `WWW-Authenticate`.

`modelport explain-error CODE` prints what the sections below say: causes, and what to do about each. It knows OpenAI's
and Anthropic's names as well: `modelport explain-error model_not_found`. The header `x-modelport-error` has our code
beside theirs.

| code | HTTP | gRPC | class | when |
|---|---|---|---|---|
"""


def documents() -> dict[Path, str]:
    """What each generated file should hold, by path."""
    return {
        ROOT / "docs" / "openapi.json": _json(asyncio.run(openapi())),
        ROOT / "schemas" / "deployment.json": _json(document_schema()),
        ROOT / "docs" / "settings.md": _SETTINGS + "".join(_setting_rows()),
        ROOT / "docs" / "errors.md": _ERRORS + "".join(_error_rows()) + "".join(_error_sections()),
    }


async def openapi() -> dict[str, Any]:
    """The document that a running server shows at /openapi.json."""
    with tempfile.TemporaryDirectory() as home:
        endpoint = {"token": "", "pid": 0, "url": "http://127.0.0.1:8000", "grpc": None}
        control = Control({"endpoint": endpoint, "host": "127.0.0.1", "started_at": 0.0}, Settings(home=Path(home)))
        found = control.app().openapi()
        control.services.database.close()
    return found


def _setting_rows() -> Iterator[str]:
    for path, model, name in _fields(Settings, ()):
        default = _default(model, name)
        about = _docstrings(model).get(name, "")
        variable = "MODELPORT_" + "_".join((*path, name)).upper()
        in_file = f"`{'.'.join((*path, name))}`" if path else ""  # the home holds the file
        yield f"| `{variable}` | {in_file} | {default} | {_cell(about)} |\n"


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[BaseModel], str]]:
    """Each single setting: the sections above it, the class that has it, and its name."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, (*path, name))
        else:
            yield path, model, name


def _default(model: type[BaseModel], name: str) -> str:
    default = model.model_fields[name].get_default(call_default_factory=True)
    assert default is not PydanticUndefined
    if isinstance(default, Path):
        return f"`{str(default).replace(str(Path.home()), '~')}`"
    return (
        "" if default is None else f"`{json.dumps(default, default=lambda rule: rule.model_dump(exclude_none=True))}`"
    )


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field of a class."""
    (body,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _text(following):
            found[field.target.id] = _text(following)
    return found


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return inspect.cleandoc(node.value.value) if is_text else ""  # type: ignore[attr-defined]


def _error_rows() -> Iterator[str]:
    for code, cls in errors.BY_CODE.items():
        when = _cell(inspect.getdoc(cls) or "")
        yield f"| `{code}` | {cls.status} | `{cls.grpc_status}` | `{cls.__name__}` | {when} |\n"


def _error_sections() -> Iterator[str]:
    for code, known in errors_explained.EXPLAINED.items():
        causes = "".join(f"| {_cell(cause)} | {_cell(step)} |\n" for cause, step in known.causes)
        table = f"| cause | what to do |\n|---|---|\n{causes}"
        yield f"\n## {code}\n\n{known.meaning}\n\n{table}\nTry again? {known.retry}\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file that differs."""
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
