"""A pipeline as a graph, checked whole before anything of it starts: names, references, parameters, circles.

Knows no job and no database. ``${parameters.x}`` and ``${stages.a.result.b}`` stand in parameters of stages; a text
that is one reference and nothing else becomes the value itself, with its type. ``$${`` stands for ``${``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from modelport.control.pipelines.conditions import Condition
from modelport.errors import InvalidInput
from modelport.schemas.pipelines import Parameter, Pipeline, Scalar, Stage

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_PATH = re.compile(r"(parameters\.[A-Za-z_][A-Za-z0-9_]*|stages\.[A-Za-z0-9_-]+\.result(\.[A-Za-z0-9_-]+)+)")
_DEEPEST = 50


@dataclass(slots=True)
class Node:
    """One stage with what it comes after."""

    stage: Stage
    needs: list[str]
    """Every stage before it, in the pipeline's order."""
    uses_results: bool
    """Whether its parameters are known only when others have ended."""
    when: Condition | None
    require: list[Condition]

    @property
    def is_decided(self) -> bool:
        """Whether its ``when`` can be told before anything has been done."""
        return self.when is not None and all(name.startswith("parameters.") for name in self.when.names)


@dataclass(slots=True)
class Graph:
    """A whole pipeline, in an order in which it can be done."""

    name: str
    parameters: dict[str, Scalar]
    nodes: dict[str, Node] = field(default_factory=dict)


class Values:
    """What references stand for: a run's parameters, and the results of stages that have ended."""

    def __init__(self, parameters: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> None:
        self._parameters, self._results = parameters, results

    def lookup(self, path: str) -> Any:
        """The value of a reference; raises InvalidInput when a result has no such field."""
        kind, name, *rest = path.split(".")
        if kind == "parameters":
            return self._parameters[name]
        found: Any = self._results[name]
        for depth, part in enumerate(rest[1:], start=1):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and len(part) < 9 and int(part) < len(found):
                found = found[int(part)]
            else:
                where = ".".join(("stages", name, *rest[:depth]))
                has = f"it has {', '.join(map(str, found))}" if isinstance(found, Mapping) else f"it is {found!r}"
                raise InvalidInput(f"${{{path}}}: {where} has no {part!r}; {has[:300]}")
        return found

    def of_stage(self, name: str) -> Any:
        """How ``require`` sees a stage: names are fields of its result; parameters and other stages by their path."""

        def lookup(path: str) -> Any:
            whole = path if path.startswith(("parameters.", "stages.")) else f"stages.{name}.result.{path}"
            return self.lookup(whole)

        return lookup

    def resolve(self, value: Any) -> Any:
        """A stage's parameters with every reference replaced."""
        if isinstance(value, dict):
            return {key: self.resolve(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.resolve(entry) for entry in value]
        if not isinstance(value, str):
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole is not None and whole[1] is not None:
            return self.lookup(whole[1].strip())
        return _REFERENCE.sub(lambda found: "${" if found[1] is None else str(self.lookup(found[1].strip())), value)


def check_pipeline(pipeline: Pipeline, given: Mapping[str, Scalar]) -> Graph:
    """The graph of a run; raises InvalidInput naming the stage and what is wrong with it."""
    graph = Graph(pipeline.name, _parameters(pipeline, given))
    names = [stage.name for stage in pipeline.stages]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"stage {name!r} is there twice; give each stage a name of its own")
    nodes = {stage.name: _node(stage, names, graph.parameters) for stage in pipeline.stages}
    sorter = TopologicalSorter({name: node.needs for name, node in nodes.items()})
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise InvalidInput(f"the stages need each other in a circle: {circle}; take one of these needs away") from None
    depth = dict.fromkeys(names, 0)
    for name in order:
        depth[name] = max((depth[need] + 1 for need in nodes[name].needs), default=0)
    graph.nodes = {name: nodes[name] for name in sorted(names, key=lambda name: (depth[name], names.index(name)))}
    return graph


def _node(stage: Stage, names: list[str], parameters: Mapping[str, Scalar]) -> Node:
    where = f"stage {stage.name!r}"
    conditions = [stage.require] if isinstance(stage.require, str) else stage.require
    try:
        when = Condition(stage.when) if stage.when is not None else None
        require = [Condition(text) for text in conditions]
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.message}") from None
    used = [_check_path(path, where, names, parameters) for path in references(stage.params, where)]
    needs = [*stage.needs, *used]
    for name in when.names if when is not None else ():
        if not name.startswith(("parameters.", "stages.")):
            raise InvalidInput(f"{where}: when: {name!r} is unknown; say parameters.NAME or stages.NAME.result.FIELD")
        needs.append(_check_path(name, where, names, parameters))
    for name in (name for condition in require for name in condition.names):
        if name.startswith(("parameters.", "stages.")):
            found = _check_path(name, where, names, parameters)
            needs.append(None if found == stage.name else found)
    for need in stage.needs:
        if need not in names:
            raise InvalidInput(f"{where}: there is no stage {need!r}; there are {', '.join(names)}")
    return Node(stage, [name for name in names if name in needs], any(used), when, require)


def _check_path(path: str, where: str, names: list[str], parameters: Mapping[str, Scalar]) -> str | None:
    """The stage that a reference needs, if any; raises InvalidInput for one that leads nowhere."""
    if not _PATH.fullmatch(path):
        raise InvalidInput(
            f"{where}: ${{{path[:100]}}} is no reference; say ${{parameters.NAME}} or ${{stages.NAME.result.FIELD}}"
        )
    kind, name = path.split(".")[:2]
    if kind == "parameters":
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InvalidInput(f"{where}: there is no parameter {name!r}; there are {known}")
        return None
    if name not in names:
        raise InvalidInput(f"{where}: there is no stage {name!r}; there are {', '.join(names)}")
    return name


def references(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    """The paths of all references in a value; raises InvalidInput for one that is not closed."""
    if depth > _DEEPEST:
        raise InvalidInput(f"{where}: its params are nested more than {_DEEPEST} deep")
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from references(entry, where, depth + 1)
    elif isinstance(value, str):
        if "${" in _REFERENCE.sub("", value):
            raise InvalidInput(f"{where}: {value[:100]!r} has a ${{ without a }}; write $${{ for the characters")
        for found in _REFERENCE.finditer(value):
            if found[1] is not None:
                yield found[1].strip()


def _parameters(pipeline: Pipeline, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Every parameter's value."""
    declared = pipeline.parameters
    if unknown := sorted(given.keys() - declared.keys()):
        known = ", ".join(declared) or "none"
        raise InvalidInput(f"parameter {unknown[0]!r}: the pipeline has none of that name; it has {known}")
    found: dict[str, Scalar] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise InvalidInput(f"parameter {name!r} has no default; give it: --set {name}=VALUE")
        found[name] = _typed(name, parameter, value)
    return found


def _typed(name: str, parameter: Parameter, value: Scalar) -> Scalar:
    """A value as its type has it. Texts are taken for what they say: they come from a command line."""
    kind = parameter.type
    wrong = InvalidInput(f"parameter {name!r}: {str(value)[:60]!r} is no {kind}; give one")
    if kind == "string":
        return value if isinstance(value, str) else str(value)
    if kind == "boolean":
        word = str(value).lower()
        if word not in ("true", "false"):
            raise wrong
        return word == "true"
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
        whole = int(value) if kind == "integer" else number
    except (ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (kind == "integer" and whole != number):
        raise wrong
    return whole
