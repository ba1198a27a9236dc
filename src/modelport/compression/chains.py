"""Sequences of methods: which follow one another, what a version is open to, and those that a search may try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelport import plugins
from modelport.compression.method import GROUP, Form, Method, Model, method_of
from modelport.errors import InvalidInput
from modelport.schemas.compression import MethodStep
from modelport.schemas.models import Manifest
from modelport.training.recipe import is_available, recipe_of
from modelport.training.reopen import Reopens

#: What a method's result is open to, by the form that it worked on.
_BECOMES: dict[Form, tuple[Form, ...]] = {
    "onnx": ("onnx",), "network": ("onnx", "network"), "sklearn": ("onnx", "sklearn"), "language": ("language",),
}  # fmt: skip
_NONE = "none; `modelport convert --to onnx` makes a file of it that most methods work on"
_CALLED = {
    "onnx": "an ONNX file", "network": "a network that its recipe can take up again",
    "sklearn": "a scikit-learn estimator", "language": "a language model",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """Methods one after another, and the strengths of each, from the gentlest to the strongest."""

    methods: tuple[str, ...]
    strengths: tuple[tuple[Mapping[str, Any], ...], ...]

    def steps(self, places: Sequence[int]) -> list[MethodStep]:
        """The sequence with these strengths."""
        chosen = zip(self.methods, self.strengths, places, strict=True)
        return [MethodStep(method=name, options=dict(known[place])) for name, known, place in chosen]


def forms_of(manifest: Manifest, story: Mapping[str, Any]) -> tuple[Form, ...]:
    """What a version is to methods; ``story`` is what its training wrote down."""
    found: list[Form] = []
    paths = {entry.path for entry in manifest.files}
    if manifest.task == "language" or any(path.endswith(".gguf") for path in paths):
        return ("language",)
    if manifest.format == "onnx":
        found.append("onnx")
    if manifest.format == "sklearn":
        found.append("sklearn")
    if can_reopen(story):
        found.append("network")
    return tuple(found)


def can_reopen(story: Mapping[str, Any]) -> bool:
    """Whether the recipe that made a version can take its network up again."""
    try:
        return isinstance(recipe_of(str(story["recipe"])), Reopens)
    except (KeyError, InvalidInput):
        return False


def check(forms: Sequence[Form], steps: Sequence[MethodStep], name: str) -> list[Method]:
    """The methods of a sequence; raises InvalidInput for one that does not apply, naming those that do."""
    found = []
    for number, step in enumerate(steps):
        method = method_of(step.method)
        if not set(method.forms) & set(forms):
            others = [one for one in plugins.names(GROUP) if set(method_of(one).forms) & set(forms)]
            what = f"{name} is" if number == 0 else f"what {steps[number - 1].method!r} makes is"
            is_now = " and ".join(_CALLED[form] for form in forms) or "in a format that no method works on"
            raise InvalidInput(
                f"method {step.method!r} works on {' or '.join(_CALLED[form] for form in method.forms)}; {what} "
                f"{is_now}, to which apply: {', '.join(others) or _NONE}"
            )
        found.append(method)
        forms = _after(method, forms)
    return found


def families(model: Model, forms: Sequence[Form], only: Iterable[str], has_data: bool) -> list[Family]:
    """What a search may try: each method that applies, alone and followed by one that works on what it makes."""
    allowed = set(only) or set(plugins.names(GROUP))
    known = {name: method_of(name) for name in plugins.names(GROUP) if name in allowed}
    known = {name: one for name, one in known.items() if is_available(one) and (has_data or not one.data)}
    found = []
    for name, method in known.items():
        if not set(method.forms) & set(forms) or not (strengths := tuple(method.strengths(model))):
            continue
        found.append(Family((name,), (strengths,)))
        made = _after(method, forms)
        if "network" not in method.forms:
            continue
        for second, after in known.items():
            if _kind(second) == _kind(name) or set(after.forms) & set(made) != {"onnx"}:
                continue  # quantized twice is no smaller
            if more := tuple(after.strengths(model)):
                found.append(Family((name, second), (strengths, more)))
    return found


def _kind(name: str) -> str:
    """``quantize`` of ``quantize-aware``."""
    return name.partition("-")[0]


def _after(method: Method, forms: Sequence[Form]) -> tuple[Form, ...]:
    worked_on = next(form for form in method.forms if form in forms)
    return _BECOMES[worked_on]
