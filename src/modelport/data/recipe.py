"""The words of a cleaning recipe: rules that are applied one after another. Checked whole before a row is read.

    rules:
      - rule: types
        columns: {age: int64}
      - rule: missing
        columns: [age]
        how: median

Knows no row: what a rule does is in ``clean``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from modelport.errors import InvalidInput, NotFound
from modelport.schemas.datasets import ColumnName, TypeName

Columns = Annotated[list[ColumnName], Field(min_length=1, max_length=10_000)]


#: YAML reads the word `null` as nothing at all.
_NULL = BeforeValidator(lambda value: "null" if value is None else value)


class Rule(BaseModel):
    """What all rules share."""

    model_config = ConfigDict(extra="forbid")

    def named(self) -> list[str]:
        """The columns that the rule speaks of."""
        found: list[str] = []
        for name in ("columns", "column", "features"):
            value = getattr(self, name, None)
            found += [value] if isinstance(value, str) else list(value or ())
        return found


class Types(Rule):
    """Give columns another type."""

    rule: Literal["types"]
    columns: Annotated[dict[ColumnName, TypeName], Field(min_length=1)]
    on_error: Annotated[Literal["fail", "null", "drop"], _NULL] = "fail"


class Missing(Rule):
    """What becomes of missing values; NaN is one."""

    rule: Literal["missing"]
    columns: Columns | None = None
    """All when left out."""
    how: Literal["drop", "fill", "mean", "median", "mode", "forward"]
    value: float | int | str | bool | None = None

    @model_validator(mode="after")
    def _value(self) -> Self:
        if (self.how == "fill") != (self.value is not None):
            raise ValueError("value goes with how: fill, and only with it")
        return self


class Duplicates(Rule):
    """Leave out rows whose values in the columns were there before."""

    rule: Literal["duplicates"]
    columns: Columns | None = None
    keep: Literal["first", "last"] = "first"


class Outliers(Rule):
    """Numbers far from the others."""

    rule: Literal["outliers"]
    columns: Columns
    method: Literal["iqr", "zscore", "quantile"]
    factor: Annotated[float, Field(gt=0)] | None = None
    """Of the interquartile range [1.5], or standard deviations [3]."""
    low: Annotated[float, Field(ge=0, le=1)] = 0.01
    high: Annotated[float, Field(ge=0, le=1)] = 0.99
    action: Literal["clip", "drop"] = "clip"


class Range(Rule):
    """Numbers beyond known limits."""

    rule: Literal["range"]
    column: ColumnName
    min: float | None = None
    max: float | None = None
    action: Annotated[Literal["drop", "clip", "null"], _NULL] = "drop"

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is greater than max")
        return self


class Regex(Rule):
    """Texts by a pattern (RE2's: it never takes long)."""

    rule: Literal["regex"]
    column: ColumnName
    pattern: Annotated[str, Field(min_length=1, max_length=1000)]
    action: Literal["keep", "drop", "replace"] = "keep"
    """Keep the rows that hold it, drop those, or replace each place by ``value``."""
    value: str = ""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern


class Select(Rule):
    """Keep some columns, or leave some out."""

    rule: Literal["columns"]
    columns: Columns
    action: Literal["keep", "drop"] = "keep"


class Balance(Rule):
    """As many rows of each class: the rarest class's number, or the most frequent one's by repeating rows."""

    rule: Literal["balance"]
    column: ColumnName
    how: Literal["down", "over"]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class LabelErrors(Rule):
    """Rows whose label is probably wrong, by what a model says that has not seen them (confident learning)."""

    rule: Literal["label_errors"]
    column: ColumnName
    features: Columns | None = None
    """Numeric columns; all of them, or the image, when left out."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    action: Literal["report", "drop"] = "report"


AnyRule = Annotated[
    Types | Missing | Duplicates | Outliers | Range | Regex | Select | Balance | LabelErrors,
    Field(discriminator="rule"),
]


class Recipe(BaseModel):
    """The whole recipe."""

    model_config = ConfigDict(extra="forbid")
    rules: Annotated[list[AnyRule], Field(min_length=1, max_length=100)]


def parse_recipe(recipe: dict[str, Any]) -> Recipe:
    """A recipe, checked; raises InvalidInput naming the rule and the field."""
    return _parsed(Recipe, recipe)


def _parsed(kind: type[Recipe], recipe: dict[str, Any]) -> Recipe:
    try:
        return TypeAdapter(kind).validate_python(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *first["loc"]))
        raise InvalidInput(f"{where}: {first['msg'][:300]}; docs/data.md lists the rules") from None


def check_columns(recipe: Recipe, columns: dict[str, str], dataset: str) -> None:
    """Raise unless every rule speaks of columns that are there, of types that it can work on.

    ``columns`` is type by name. Types and sets of columns that rules change are followed.
    """
    known = dict(columns)
    for index, rule in enumerate(recipe.rules):
        for name in rule.named():
            if name not in known:
                raise NotFound(
                    f"recipe.rules.{index}: dataset {dataset} has no column {name[:100]!r} there; "
                    f"it has {', '.join(known)[:300]}"
                )
        _check_types(index, rule, known)
        if isinstance(rule, Types):
            known |= rule.columns
        elif isinstance(rule, Select):
            kept = [name for name in known if (name in rule.columns) == (rule.action == "keep")]
            if not kept:
                raise InvalidInput(f"recipe.rules.{index}: leaves no column")
            known = {name: known[name] for name in kept}


def is_number(kind: str) -> bool:
    """Whether a column's type, as Arrow or a recipe writes it, is a number."""
    return kind.startswith(("int", "uint", "float", "double", "halffloat", "decimal"))


def _check_types(index: int, rule: Rule, known: dict[str, str]) -> None:
    wants_numbers = (
        rule.named()
        if isinstance(rule, Outliers | Range) or (isinstance(rule, Missing) and rule.how in ("mean", "median"))
        else rule.features or []
        if isinstance(rule, LabelErrors)
        else []
    )
    for name in wants_numbers:
        if not is_number(known[name]):
            raise InvalidInput(f"recipe.rules.{index}: column {name[:100]!r} is {known[name]}, no number")
    if isinstance(rule, Missing) and rule.columns is None and rule.how in ("mean", "median"):
        raise InvalidInput(f"recipe.rules.{index}.columns: say which columns get their {rule.how}")
    if isinstance(rule, Regex) and known[rule.column] != "string":
        raise InvalidInput(f"recipe.rules.{index}: column {rule.column[:100]!r} is {known[rule.column]}, no text")
