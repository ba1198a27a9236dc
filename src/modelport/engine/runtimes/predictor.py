"""Runs a user's Python class: preprocess, predict, postprocess, each a function or a coroutine.

Arrays in, arrays out, as ``modelport.yaml`` declares them. A ValueError or TypeError is the caller's mistake, anything
else the predictor's. Needs only numpy and the standard library, since it runs in an environment of the predictor's own.
Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from modelport.engine.runtime import LoadOptions, Runtime, Streams
from modelport.errors import ModelRejectedInput, RunFailed
from modelport.telemetry import log
from modelport.tensors import Array, Signature, TensorSpec, datatype_of, dtype_of

_MODULE = "predictor"


class PredictorRuntime(Runtime):
    """One instance of the class."""

    name = "predictor"
    platform = "python_predictor"

    def __init__(self, predictor: Any, options: LoadOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._predictor = predictor
        self._signature: Signature = options.signature
        self._folder = str(options.folder)
        self._loop = loop
        if not options.details.get("batching", True):
            self.not_batched = "its modelport.yaml says batching: false"

    @classmethod
    def load(cls, options: LoadOptions) -> PredictorRuntime:
        """Import the source, make the instance and call its ``load``, which gets the version's folder if it asks."""
        sys.dont_write_bytecode = True  # the folder is shared, and stays as it was pushed
        sys.path.insert(0, str(options.folder))
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        predictor = getattr(import_module(_MODULE), options.details["class"])()
        load = getattr(predictor, "load", None)
        if load is not None:
            made = load(options.folder) if inspect.signature(load).parameters else load()
            if inspect.isawaitable(made):
                loop.run_until_complete(_awaited(made))
        predict = predictor.predict
        in_parts = inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict)
        return (StreamingPredictorRuntime if in_parts else cls)(predictor, options, loop)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput for a ValueError or TypeError, RunFailed for outputs not as declared."""
        with self._blaming():
            found = self._step("postprocess", self._step("predict", self._step("preprocess", _owned(inputs))))
        outputs = as_outputs(self._signature, found)
        _require_all(self._signature, outputs)
        return outputs

    def close(self) -> None:
        """Call the predictor's ``close``, if it has one."""
        with contextlib.suppress(Exception):
            self._step("close")
        self._loop.close()

    def _step(self, name: str, *values: Any) -> Any:
        """Call one method, and wait for it if it is a coroutine; a step that is not there changes nothing."""
        method: Callable[..., Any] | None = getattr(self._predictor, name, None)
        if method is None:
            return values[0] if values else None
        found = method(*values)
        return self._loop.run_until_complete(_awaited(found)) if inspect.isawaitable(found) else found

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Tell the caller's mistakes from the predictor's; traces go to the log only."""
        try:
            yield
        except (ValueError, TypeError) as error:
            self._log(error)
            raise ModelRejectedInput(f"{type(error).__name__}: {self._first_line(error)}") from None
        except (Exception, SystemExit) as error:
            self._log(error)
            what = "called sys.exit" if isinstance(error, SystemExit) else f"failed ({type(error).__name__})"
            raise RunFailed(f"the predictor {what}; its replica's log says where") from None

    def _log(self, error: BaseException) -> None:
        """The trace, from the predictor's own code on."""
        trace = error.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(self._folder):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace or error.__traceback__, limit=-10)
        log("predictor_raised", error="".join(lines).replace(self._folder, "…"))

    def _first_line(self, error: BaseException) -> str:
        lines = str(error).replace(self._folder, "…").strip().splitlines()
        return lines[0][:300] if lines else "no message"


class StreamingPredictorRuntime(PredictorRuntime, Streams):
    """One whose ``predict`` is a generator: every value that it yields is a part of the answer."""

    not_batched = "it gives its answers in parts"

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """All parts, put together along the first dimension; of outputs without dimensions the last one."""
        parts: dict[str, list[Array]] = {}
        for part in self.stream(inputs):
            for name, array in part.items():
                parts.setdefault(name, []).append(array)
        _require_all(self._signature, parts)
        return {name: np.concatenate(arrays) if arrays[0].ndim else arrays[-1] for name, arrays in parts.items()}

    def stream(self, inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
        """Each part as soon as it is there."""
        with self._blaming():
            given = self._predictor.predict(self._step("preprocess", _owned(inputs)))
        values: Generator[Any] = self._pull(given) if inspect.isasyncgen(given) else given
        try:
            while True:
                with self._blaming():
                    try:
                        part = self._step("postprocess", next(values))
                    except StopIteration:
                        return
                yield as_outputs(self._signature, part)
        finally:
            values.close()

    def _pull(self, values: Any) -> Generator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(anext(values))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(values.aclose())


def _owned(inputs: dict[str, Array]) -> dict[str, Array]:
    """Arrays that the predictor may change and keep: those of the wire are used again."""
    return {name: array.copy() for name, array in inputs.items()}


async def _awaited(found: Any) -> Any:
    return await found


def as_outputs(signature: Signature, found: Any) -> dict[str, Array]:
    """What a predictor returned, by output name; raises RunFailed where it is not what modelport.yaml declares.

    A mapping has the names; a tuple has the declared order; anything else is the one output.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    if isinstance(found, Mapping):
        named = dict(found)
    elif isinstance(found, tuple) and len(found) == len(specs) > 1:
        named = dict(zip(specs, found, strict=True))
    elif len(specs) == 1:
        named = {next(iter(specs)): found}
    else:
        raise RunFailed(
            f"the predictor gave {_article(type(found).__name__)}, modelport.yaml declares {len(specs)} outputs: "
            f"return a dict with {', '.join(specs)}"
        )
    for name in named:
        if name not in specs:
            raise RunFailed(
                f"the predictor gave the output {str(name)[:80]!r}, modelport.yaml declares {', '.join(specs)}"
            )
    return {name: _as_tensor(specs[name], value) for name, value in named.items()}


def _require_all(signature: Signature, outputs: Mapping[str, object]) -> None:
    for spec in signature.outputs:
        if spec.name not in outputs:
            raise RunFailed(f"the predictor did not give its output {spec.name!r}")


def _as_tensor(spec: TensorSpec, value: Any) -> Array:
    try:
        if spec.datatype == "BYTES":
            array = np.asarray(value, dtype=object)
            flat = [_as_bytes(spec, item) for item in array.reshape(-1).tolist()]
            array = np.fromiter(flat, dtype=object, count=len(flat)).reshape(array.shape)
        else:
            array = np.asarray(value)
            dtype = dtype_of(spec.datatype)
            if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
                raise RunFailed(
                    f"output {spec.name!r}: the predictor gave {_shown(array)}, modelport.yaml says {spec.datatype}"
                )
            array = array.astype(dtype, copy=False)
    except (ValueError, TypeError):
        raise RunFailed(
            f"output {spec.name!r}: the predictor gave {_article(type(value).__name__)} that is no array of equal rows"
        ) from None
    if array.ndim != len(spec.shape) or any(w not in (-1, g) for w, g in zip(spec.shape, array.shape, strict=True)):
        raise RunFailed(
            f"output {spec.name!r}: the predictor gave the shape {list(array.shape)}, "
            f"modelport.yaml says {list(spec.shape)}"
        )
    return array


def _as_bytes(spec: TensorSpec, item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise RunFailed(
        f"output {spec.name!r}: it holds {_article(type(item).__name__)}, BYTES are str or bytes: convert it"
    )


def _shown(array: Array) -> str:
    try:
        return datatype_of(array.dtype)
    except Exception:
        return str(array.dtype)[:80]


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name[:80]}"
