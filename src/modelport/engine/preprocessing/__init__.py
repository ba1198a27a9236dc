"""What callers have (image files, texts) to what a model takes (tensors), inside the replica.

A version declares steps; each takes the place of some of the model's inputs with one BYTES input. Everything outside
the replica sees the outer signature alone. Imports Pillow and tokenizers only where a step that needs them is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.engine.preprocessing.image import ImageInput
from modelport.engine.preprocessing.step import Step
from modelport.engine.preprocessing.text import TextInput
from modelport.engine.proof import made_up_inputs
from modelport.engine.runtime import CountsTokens, LoadOptions, MakesUpInputs, Runtime, Streams
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec

_KINDS: dict[str, type[ImageInput] | type[TextInput]] = {"image": ImageInput, "text": TextInput}
Declared = Sequence[Mapping[str, Any]]


def steps_of(declared: Declared, model: Signature) -> list[Step]:
    """The steps, checked against the model's own signature; raises InvalidInput with the cause."""
    steps: list[Step] = [_KINDS[options["kind"]](options, model) for options in declared]
    filled = [name for step in steps for name in step.fills]
    for name in filled:
        if filled.count(name) > 1:
            raise InvalidInput(f"preprocessing: input {name!r} is filled twice; leave one step out")
    names = [spec.name for spec in _outer_inputs(steps, model)]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"preprocessing: two inputs would be called {name!r}; give a step another name")
    return steps


def outer_signature(steps: Sequence[Step], model: Signature) -> Signature:
    """What callers send and get: each step's inputs are one BYTES input [rows]."""
    return Signature(tuple(_outer_inputs(steps, model)), model.outputs)


def _outer_inputs(steps: Sequence[Step], model: Signature) -> Iterator[TensorSpec]:
    filled = {name: step for step in steps for name in step.fills}
    for spec in model.inputs:
        step = filled.get(spec.name)
        if step is None:
            yield spec
        elif spec.name == step.fills[0]:
            yield TensorSpec(step.name, "BYTES", (step.rows,))


def made_up(steps: Sequence[Step], outer: Signature, rows: int, size: int, seed: int) -> dict[str, Array]:
    """Inputs that fit the outer signature; the steps are open."""
    inputs = made_up_inputs(outer, rows, size, seed)
    for step in steps:
        for row in range(len(inputs[step.name])):
            inputs[step.name][row] = step.made_up(row, size)
    return inputs


class Preprocessed(Runtime, MakesUpInputs, CountsTokens):
    """A loaded runtime behind its version's steps."""

    def __init__(self, runtime: Runtime, steps: Sequence[Step], signature: Signature) -> None:
        self._runtime, self._steps, self._signature = runtime, steps, signature
        self.not_batched = runtime.not_batched

    @classmethod
    def load(cls, options: LoadOptions) -> Runtime:
        """Not the way in: ``wrap`` takes what another runtime has loaded."""
        raise TypeError("preprocessing wraps a runtime that is loaded already")

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._runtime.infer(self.prepared(inputs))

    def prepared(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """What the model itself is given."""
        tensors = dict(inputs)
        for step in self._steps:
            tensors |= step.apply(tensors.pop(step.name).reshape(-1).tolist())
        return tensors

    @property
    def counted(self) -> Array | None:
        return next((step.counted for step in self._steps if step.counted is not None), None)

    def made_up_inputs(self, rows: int, size: int, seed: int) -> dict[str, Array]:
        return made_up(self._steps, self._signature, rows, size, seed)

    def close(self) -> None:
        self._runtime.close()


class PreprocessedStream(Preprocessed, Streams):
    """The same for a runtime that answers in parts."""

    def stream(self, inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
        assert isinstance(self._runtime, Streams)
        return self._runtime.stream(self.prepared(inputs))


def wrap(runtime: Runtime, declared: Declared, model: Signature, folder: Path) -> Runtime:
    """``runtime`` behind its steps; raises MissingExtra or ArtifactRefused when one cannot be opened."""
    steps = steps_of(declared, model)
    for step in steps:
        step.open(folder)
    cls = PreprocessedStream if isinstance(runtime, Streams) else Preprocessed
    return cls(runtime, steps, outer_signature(steps, model))
