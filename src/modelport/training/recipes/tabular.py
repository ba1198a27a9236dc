"""Recipe ``tabular``: classes or numbers from mixed columns, with scikit-learn's estimators, served as one ONNX file.

Only what columns and statistics tell is looked at here; the learning is in ``training.tabular``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.schemas.datasets import Column, ColumnName
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun

ModelName = Literal[
    "auto", "logistic", "linear", "ridge", "sgd", "tree", "forest", "extra-trees", "boosting", "svm", "knn", "mlp",
    "naive-bayes",
]  # fmt: skip
ColumnKind = Literal["number", "flag", "category", "many", "text", "date", "ignore"]
_TAKEN = ("int", "uint", "float", "double", "halffloat", "bool", "string", "large_string", "date",
          "timestamp")  # fmt: skip
#: Whole numbers with at most so many values are classes.
MOST_CLASSES = 20
#: More classes than this are hardly what was meant.
_TOO_MANY_CLASSES = 1000


def _weights(given: Any) -> Any:
    numbers = isinstance(given, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in given.values()
    )
    if given is not None and given != "balanced" and not numbers:
        raise ValueError("say balanced, or a number above 0 for each class, such as {yes: 5}")
    return given


ClassWeight = Annotated[Literal["balanced"] | dict[str, float] | None, BeforeValidator(_weights)]


class Columns(recipe.Options):
    """How columns become numbers."""

    columns: dict[ColumnName, ColumnKind] = Field(default_factory=dict)
    """What a column is, where its type and values do not tell: ``number``, ``category`` (a column of 0 and 1 for each
    value), ``many`` (names by ``high_cardinality``), ``text`` (TF-IDF), ``date``, ``ignore``."""
    max_categories: Annotated[int, Field(ge=2, le=1000)] = 32
    """Names that get a column of their own; the rest are all 0."""
    high_cardinality: Literal["target", "frequency", "hash", "ignore"] = "target"
    """What becomes of a column with more names: the target's average by name, their frequency, 256 hashed columns."""
    max_words: Annotated[int, Field(ge=1, le=10_000)] = 512
    """Words of a text column that are looked at."""


class TabularOptions(Columns):
    """Options of the recipe ``tabular``."""

    task: Literal["auto", "classification", "regression"] = "auto"
    """``auto``: texts, true and false, and whole numbers with at most 20 values are classes."""
    model: ModelName = "auto"
    """``auto`` tries a linear model, a forest and gradient boosting, and keeps the best on the validation rows."""
    params: dict[str, Any] = Field(default_factory=dict)
    """scikit-learn's own parameters of the estimator, such as ``max_depth``."""
    class_weight: ClassWeight = None
    """How much a row of each class counts: ``balanced``, or by class."""
    calibrate: Literal["sigmoid", "isotonic"] | None = None
    """Correct the probabilities by cross-validation on the training rows."""
    early_stopping: bool | None = None
    """Boosting and mlp stop when the validation rows (for mlp a tenth of the training rows) no longer get better.
    [boosting: beyond 10,000 rows, as scikit-learn]"""
    importance: bool = True
    """Measure by how much the score falls when a column is shuffled."""


class Tabular:
    """Classes or numbers from mixed columns."""

    summary = "Classification and regression of tables with scikit-learn"
    extra = "train"
    needs: tuple[str, ...] = ("sklearn", "skl2onnx", "pyarrow")
    code = False
    Options: type[recipe.Options] = TabularOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        """Classification or regression, by the option or the target."""
        if options.task != "auto":
            return options.task  # type: ignore[no-any-return]
        return "classification" if target_has_classes(data) else "regression"

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """What columns and statistics tell."""
        warnings = check_columns(data, options)
        task = self.task(data, options)
        warnings += check_target(data, task)
        check_classes(data, task, options.class_weight)
        if task == "regression":
            for name in ("class_weight", "calibrate"):
                if getattr(options, name) is not None:
                    raise InvalidInput(f"options.{name} is for classes, and {data.target!r} is a number; leave it out")
        check_model(options.model, task, str(data.target))
        if options.model == "auto" and options.params:
            raise InvalidInput("options.params: say which model they are for with options.model")
        return warnings

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn from the rows."""
        learn = import_module("modelport.training.tabular.learn")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = learn.train(run, data, options, self.task(data, options))
        return found


def refuse_start(run: TrainingRun, name: str) -> None:
    """Raise InvalidInput for a recipe whose models cannot be learnt on."""
    if run.start is not None:
        raise InvalidInput(f"start: recipe {name} cannot go on from a version; train anew with all rows")


def check_columns(data: TrainingData, options: Columns) -> list[str]:
    """Raise InvalidInput unless there are columns that tables can hold; warnings."""
    if not data.features:
        raise InvalidInput("features: there is no column to learn from beside the target")
    for name, kind in data.features.items():
        if not kind.startswith(_TAKEN) and options.columns.get(name) != "ignore":
            raise InvalidInput(
                f"column {name!r} is {kind}, which this recipe cannot learn from; leave it out with exclude"
            )
        if not name.isprintable():
            raise InvalidInput(f"column {name[:80]!r} has control characters in its name; rename it")
    for name in options.columns:
        if name not in data.features:
            hint = nearest(name, tuple(data.features))
            raise InvalidInput(f"options.columns: there is no column {name[:100]!r}{hint}")
    return [
        f"column {name!r} lacks {found.nulls} of {data.facts.rows} values"
        for name in data.features
        if (found := column_of(data, name)) is not None and found.nulls * 2 > data.facts.rows
    ]


def check_target(data: TrainingData, task: str) -> list[str]:
    """Raise InvalidInput for a target that is missing, has gaps, one value, or the wrong type; warnings."""
    if data.target is None:
        raise InvalidInput("target: say which column is to be predicted")
    if data.target in data.features:
        raise InvalidInput(f"target: {data.target!r} is among the features too; leave it out of them")
    kind, name = str(data.target_type), data.target
    found = column_of(data, name)
    if not kind.startswith(_TAKEN) or kind.startswith(("date", "timestamp")):
        raise InvalidInput(f"target: column {name!r} is {kind}; give a column of numbers, texts, or true and false")
    if task == "regression" and not kind.startswith(_TAKEN[:5]):
        raise InvalidInput(f"target: column {name!r} is {kind}, and regression predicts numbers")
    if found is None:
        return []
    if found.nulls:
        raise InvalidInput(
            f"target: column {name!r} lacks {found.nulls} of {data.facts.rows} values; remove those rows first "
            "(`modelport data clean`, rule missing)"
        )
    if found.distinct == 1:
        raise InvalidInput(f"target: column {name!r} has one value in all rows; there is nothing to learn")
    if task == "classification" and (found.distinct or 0) > _TOO_MANY_CLASSES:
        raise InvalidInput(f"target: column {name!r} has {found.distinct} classes; is it the right column?")
    if task == "classification" and kind.startswith(("int", "uint")):
        return [f"target {name!r} has {found.distinct} whole numbers, taken as classes; task=regression predicts them"]
    return []


def check_model(model: str, task: str, target: str) -> None:
    """Raise InvalidInput for a model of the other task."""
    if task == "regression" and model in ("logistic", "naive-bayes"):
        raise InvalidInput(f"options.model: {model} learns classes, and {target!r} is a number")
    if task == "classification" and model in ("linear", "ridge"):
        raise InvalidInput(f"options.model: {model} learns numbers, and {target!r} has classes")


def check_classes(data: TrainingData, task: str, weights: Any) -> None:
    """Raise InvalidInput for a class with one row, or weights of classes that are not there."""
    counts = balance_of(data)
    if task != "classification" or not counts:
        return
    rare = min(counts, key=lambda name: counts[name])
    if counts[rare] < 2:
        raise InvalidInput(
            f"target: class {rare!r} has {counts[rare]} row; a class needs one to learn from and one to judge by: add "
            "rows, or leave the class out"
        )
    if isinstance(weights, dict):
        for name in weights:
            if name not in counts and len(counts) < 50:
                raise InvalidInput(f"options.class_weight: no class {name!r}{nearest(name, tuple(counts))}")


def balance_of(data: TrainingData) -> dict[str, int]:
    """Rows by class, where the statistics tell."""
    found = column_of(data, data.target)
    counts: dict[str, int] = {}
    if data.facts.label == data.target and data.facts.class_balance:
        counts = dict(data.facts.class_balance)
    elif found is not None and found.distinct_exact and len(found.top) == found.distinct:
        counts = {each.value: each.count for each in found.top}
    return {name.lower() if data.target_type == "bool" else name: rows for name, rows in counts.items()}


def target_has_classes(data: TrainingData) -> bool:
    """Whether the target's type and statistics say classes."""
    kind, found = str(data.target_type), column_of(data, data.target)
    if kind in ("bool", "string", "large_string"):
        return True
    whole = kind.startswith(("int", "uint"))
    return whole and found is not None and found.distinct is not None and found.distinct <= MOST_CLASSES


def column_of(data: TrainingData, name: str | None) -> Column | None:
    """What is known of a column."""
    return next((column for column in data.facts.columns if column.name == name), None)
