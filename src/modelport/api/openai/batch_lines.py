"""A batch's input, line by line, and the two files that it becomes: what was answered, and what was not.

Each line of the input has exactly one line in one of the two; its number is part of that line's id, so that whoever
comes after a kill sees what is done. Knows no model, no process and no database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelport.schemas.batches import MOST_LINES, BatchProblem

_LONGEST_LINE = 16 << 20
_LONGEST_ID = 512
_NUMBER = re.compile(rb'\{"id":"batch_req_[0-9A-Z]+_(\d+)"')


class _Head(msgspec.Struct):
    """What a line is looked at for first: it may be wrong in any of it."""

    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Tokens(msgspec.Struct):
    """Of an answer; Responses name them otherwise."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None


class _Usage(msgspec.Struct):
    usage: _Tokens | None = None


class _Response(msgspec.Struct):
    body: _Usage


class _Told(msgspec.Struct):
    response: _Response


@dataclass(frozen=True, slots=True)
class Line:
    """One request."""

    number: int
    """In the file, from 1."""
    custom_id: str | None
    body: bytes
    model: str | None
    problem: BatchProblem | None = None
    """Why it is none."""


class Lines:
    """The lines of a file; what is wrong with one is told by itself."""

    def __init__(self, file: Path, endpoint: str) -> None:
        self._file, self._endpoint = file, endpoint

    def __iter__(self) -> Iterator[Line]:
        """In order; empty ones are left out. The same each time."""
        seen: set[str] = set()
        with self._file.open("rb") as file:
            number = 0
            while raw := file.readline(_LONGEST_LINE):
                number += 1
                if not raw.endswith(b"\n") and len(raw) == _LONGEST_LINE:
                    while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield self._wrong(number, None, "line_too_long", f"it is longer than {_LONGEST_LINE} bytes")
                elif raw.strip():
                    yield self._line(number, raw, seen)

    def count(self) -> tuple[int, int, str | None]:
        """All lines, those that are requests, and the model that the first one asks."""
        total = good = 0
        model: str | None = None
        for line in self:
            total += 1
            good += line.problem is None
            model = model or line.model
            if total > MOST_LINES:
                break
        return total, good, model

    def problems(self, most: int) -> list[BatchProblem]:
        """The first ones."""
        found: list[BatchProblem] = []
        for line in self:
            if line.problem is not None:
                found.append(line.problem)
            if len(found) == most:
                break
        return found

    def _line(self, number: int, raw: bytes, seen: set[str]) -> Line:
        try:
            head = msgspec.json.decode(raw, type=_Head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._wrong(number, None, "invalid_json_line", f"it is no JSON object: {str(error)[:200]}")
        given = head.custom_id
        if not isinstance(given, str) or not 1 <= len(given) <= _LONGEST_ID:
            return self._wrong(
                number, None, "invalid_custom_id", f"'custom_id' is a text of 1 to {_LONGEST_ID} characters",
                "custom_id",
            )  # fmt: skip
        if given in seen:
            return self._wrong(number, given, "duplicate_custom_id", "'custom_id' stands in a line before", "custom_id")
        seen.add(given)
        if head.method != "POST":
            return self._wrong(number, given, "invalid_method", "'method' is 'POST' in every line", "method")
        if head.url != self._endpoint:
            return self._wrong(
                number, given, "invalid_url", f"'url' is the batch's endpoint {self._endpoint!r} in every line", "url"
            )
        return self._request(number, given, bytes(head.body))

    def _request(self, number: int, custom_id: str, body: bytes) -> Line:
        if not body.lstrip().startswith(b"{"):
            return self._wrong(number, custom_id, "invalid_body", "'body' is an object: the request", "body")
        try:
            found = msgspec.json.decode(body, type=_Body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._wrong(number, custom_id, "invalid_body", f"'body' is no JSON: {str(error)[:200]}", "body")
        if found.stream:
            return self._wrong(number, custom_id, "invalid_body", "a batch does not stream", "body.stream")
        return Line(number, custom_id, body, found.model if isinstance(found.model, str) else None)

    def _wrong(self, number: int, custom_id: str | None, code: str, message: str, param: str | None = None) -> Line:
        problem = BatchProblem(code=code, message=f"line {number}: {message}", line=number, param=param)
        return Line(number, custom_id, b"", None, problem)


class Journal:
    """What has become of which line: two files that only grow, and that whoever opens them again goes on with."""

    def __init__(self, folder: Path, batch: str) -> None:
        self._batch = batch
        self.output, self.errors = folder / "output.jsonl", folder / "errors.jsonl"
        self.done: set[int] = set()
        """Numbers of the lines that are accounted for."""
        self.completed = self.failed = 0
        self.tokens_in = self.tokens_out = self.tokens_cached = 0
        self.completed = self._recall(self.output)
        self.failed = self._recall(self.errors)
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._output, self._errors = os.open(self.output, how, 0o600), os.open(self.errors, how, 0o600)

    def answered(self, line: Line, status: int, request_id: str, body: bytes) -> None:
        """A line was sent, and this came back: below 300 it is output."""
        response = b'{"status_code":%d,"request_id":%s,"body":' % (status, _json(request_id)) + (
            body.strip() or b"null"
        )
        data = self._head(line) + b',"response":' + response + b'},"error":null}\n'
        if status < 300:
            _write(self._output, data)
            self.completed += 1
            self._add_up(data)
        else:
            _write(self._errors, data)
            self.failed += 1
        self.done.add(line.number)

    def refused(self, line: Line, problem: BatchProblem) -> None:
        """A line was never sent."""
        error = _json(problem.model_dump(exclude_none=True))
        _write(self._errors, self._head(line) + b',"response":null,"error":' + error + b"}\n")
        self.failed += 1
        self.done.add(line.number)

    def close(self) -> None:
        """On the disk, whatever happens to the machine."""
        for file in (self._output, self._errors):
            os.fsync(file)
            os.close(file)

    def usage(self) -> dict[str, Any]:
        """Tokens of all answers, as OpenAI counts them."""
        return {
            "input_tokens": self.tokens_in,
            "input_tokens_details": {"cached_tokens": self.tokens_cached},
            "output_tokens": self.tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.tokens_in + self.tokens_out,
        }

    def _head(self, line: Line) -> bytes:
        return b'{"id":"batch_req_%s_%d","custom_id":%s' % (self._batch.encode(), line.number, _json(line.custom_id))

    def _recall(self, path: Path) -> int:
        """What a killed attempt wrote; a line that it did not end is cut off."""
        if not path.exists():
            return 0
        count = whole = 0
        with path.open("r+b") as file:
            for raw in file:
                found = _NUMBER.match(raw)
                if not raw.endswith(b"\n") or found is None:
                    break
                whole += len(raw)
                count += 1
                self.done.add(int(found[1]))
                if path == self.output:
                    self._add_up(raw)
            file.truncate(whole)
        return count

    def _add_up(self, raw: bytes) -> None:
        try:
            tokens = msgspec.json.decode(raw, type=_Told).response.body.usage
        except msgspec.MsgspecError:  # an answer that counts no tokens, or otherwise
            return
        if tokens is not None:
            self.tokens_in += tokens.prompt_tokens + tokens.input_tokens
            self.tokens_out += tokens.completion_tokens + tokens.output_tokens
            details = tokens.prompt_tokens_details or tokens.input_tokens_details
            self.tokens_cached += details.cached_tokens if details is not None else 0


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
