"""Which columns the results of batch inference have: told from a signature, before anything runs.

A classifier whose classes have names gives ``label`` and ``score``; every other output is a column of values or lists.
Knows no Arrow and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec

ROW, ERROR = "row", "error"
LABEL, SCORE = "label", "score"
_PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the results."""

    name: str
    output: TensorSpec
    part: str = ""
    """``label`` or ``score`` of an output with scores of classes; empty for the values themselves."""
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class Wanted:
    """What the results consist of."""

    columns: tuple[Column, ...]
    beside: tuple[str, ...]
    """Columns of the data, in front."""
    number: bool
    """Whether ``row`` is the first column."""
    record: bool
    """Whether ``error`` is the last column."""
    has_rows: bool
    """Whether an output's first dimension counts rows; else all of it belongs to the one row that was asked about."""
    ranks: dict[str, int] = field(default_factory=dict)

    @property
    def vague(self) -> list[str]:
        """Outputs that do not tell their number of dimensions."""
        return [c.output.name for c in self.columns if not c.part and c.output.dims == ("...",)]

    def learn(self, outputs: Mapping[str, Array]) -> bool:
        """Take the number of dimensions from the first answer, for outputs that do not tell; whether that is news."""
        news = False
        for column in self.columns:
            name = column.output.name
            if not column.part and column.output.dims == ("...",) and name not in self.ranks:
                self.ranks[name], news = outputs[name].ndim - 1, True
        return news

    def by_row(self, outputs: Mapping[str, Array], rows: int) -> dict[str, Array]:
        """A run's outputs, each of shape [rows, …]; raises InvalidInput for one that has not an entry for each row."""
        found = {}
        for column in self.columns:
            name, array = column.output.name, outputs[column.output.name]
            if not self.has_rows or (rows == 1 and array.shape[:1] != (1,)):
                array = array[None]
            if array.shape[:1] != (rows,):
                raise InvalidInput(
                    f"output {name!r} of shape {list(array.shape)} has no entry for each of {rows} rows; run the model "
                    "row by row with batch 1"
                )
            found[name] = array
        return found


def wanted(
    signature: Signature,
    labels: Mapping[str, Sequence[str]],
    beside: Sequence[str],
    *,
    number: bool,
    probabilities: bool,
    record: bool,
    has_rows: bool,
) -> Wanted:
    """The columns of the results; an output whose name is taken is called ``predicted_NAME``."""
    taken = {*beside, *([ROW] if number else []), *([ERROR] if record else [])}
    named = [spec for spec in signature.outputs if labels.get(spec.name) and spec.datatype != "BYTES"]
    if len(named) != 1 and probabilities:
        raise InvalidInput("probabilities: the model is no classifier whose classes have names; leave it out")
    columns: list[Column] = []
    for spec in signature.outputs:
        if len(named) == 1 and spec is named[0]:
            classes = tuple(labels[spec.name])
            if not any(other.name == LABEL for other in signature.outputs if other is not spec):
                columns.append(Column(LABEL, spec, LABEL, classes))
            columns.append(Column(SCORE, spec, SCORE, classes))
            if probabilities:
                columns.append(Column(_PROBABILITIES, spec))
        else:
            columns.append(Column(spec.name, spec))
    found = []
    for column in columns:
        name = column.name
        while name in taken:
            name = f"predicted_{name}"
        taken.add(name)
        found.append(Column(name, column.output, column.part, column.labels))
    return Wanted(tuple(found), tuple(beside), number, record, has_rows)
