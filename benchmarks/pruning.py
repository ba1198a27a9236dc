"""Structured pruning of ResNet-18 on scikit-learn's scanned digits: size, speed in ONNX Runtime and accuracy.

    python benchmarks/pruning.py [--folder FOLDER] [--macs 2.5] [--threads 2]

Trains on 1,000 scans at 32 × 32 pixels, chooses by 197, and judges by 600 that neither training nor pruning has seen.
Both models are asked in turn by the same process, one row at a time and one thread, so that the ratio is of one run.
What was trained is kept in the folder: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

from modelport.compression.method import Model
from modelport.compression.methods.prune_structured import PruneStructured
from modelport.data.writing import write_parts
from modelport.engine.preprocessing.image import ImageInput
from modelport.schemas.datasets import Column, Facts
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Signature, TensorSpec
from modelport.training.recipe import TrainingData, TrainingRun, options_of
from modelport.training.recipes.image import ImageRecipe

OPTIONS = {
    "model": "resnet18", "size": 32, "epochs": 12, "batch_size": 64, "learning_rate": 1e-3,
    "augment": {"rotate": 8, "zoom": 0.1, "crop": 0.1},
}  # fmt: skip
ROUNDS = 400


def png(pixels: Any) -> bytes:
    """One scan as a file."""
    out = io.BytesIO()
    Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def rows() -> dict[str, tuple[list[bytes], list[int]]]:
    """Files and labels by part."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    cut = {"train": order[:1000], "validation": order[1000:1197], "test": order[1197:]}
    return {name: ([png(found.images[at]) for at in part], found.target[part].tolist()) for name, part in cut.items()}


def data_in(folder: Path, parts: dict[str, tuple[list[bytes], list[int]]]) -> TrainingData:
    """As a job gives it."""
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    made = {
        name: tuple(
            write_parts(folder / name, schema, [pa.record_batch([pa.array(one) for one in part], schema=schema)])
        )
        for name, part in parts.items()
    }
    facts = Facts(
        rows=1000, columns=[Column(name="image", type="binary"), Column(name="label", type="int64", distinct=10)]
    )
    return TrainingData(made["train"], made["validation"], {"image": "binary"}, "label", "int64", facts)


def score(task: str, truth: Any, found: Any) -> dict[str, float]:
    """What a job would measure of every epoch."""
    return {
        "accuracy": float(accuracy_score(truth, found.argmax(1))),
        "log_loss": float(log_loss(truth, found, labels=list(range(10)))),
    }


def attempt(folder: Path, threads: int) -> TrainingRun:
    """A run that goes on where it was stopped."""
    for name in ("kept", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return TrainingRun(
        folder / "kept", folder / "out", None, 0, threads, 1, score, lambda wanted: ("", {}),
        lambda done, total, message, unit: print(f"\r{folder.name}: {message[:100]:<100}", end="", flush=True),
        lambda name, value, step: None,
    )  # fmt: skip


def trained(folder: Path, data: TrainingData, threads: int) -> Model:
    """The version before."""
    story = folder / "out" / "training" / "training.json"
    if not story.exists():
        recipe = ImageRecipe()
        recipe.train(attempt(folder, threads), data, options_of(recipe, OPTIONS))
        story.write_text(json.dumps({"recipe": "image", "params": {"options": OPTIONS}}))
    manifest: Any = SimpleNamespace(details={}, labels={}, preprocessing=[])
    return Model(folder / "out", manifest)


def pruned(folder: Path, model: Model, data: TrainingData, macs: float, epochs: int, threads: int) -> Any:
    """The version after; its report."""
    note = folder / "report.json"
    if not note.exists():
        method = PruneStructured()
        options = options_of(method, {"macs": macs, "epochs": epochs, "steps": 3, "step_epochs": 2})  # type: ignore[arg-type]
        made = method.compress(attempt(folder, threads), model, data, options)  # type: ignore[arg-type]
        note.write_text(json.dumps({"report": made.report, "step": made.preprocessing[0]}))
    return json.loads(note.read_text())


def session(path: Path) -> ort.InferenceSession:
    """One thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(sessions: list[ort.InferenceSession], pixels: Any) -> list[float]:
    """Median of one call with one row, the sessions in turn."""
    times: list[list[float]] = [[] for _ in sessions]
    for at in range(ROUNDS + 20):
        row = pixels[at % len(pixels)][None]
        for one, found in zip(sessions, times, strict=True):
            begun = time.perf_counter()
            one.run(["probabilities"], {"pixels": row})
            found.append((time.perf_counter() - begun) * 1e3)
    return [float(np.median(found[20:])) for found in times]


def main() -> None:
    """Train, prune, judge, measure, print a row of the table."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--folder", type=Path, default=None)
    reader.add_argument("--macs", type=float, default=2.5)
    reader.add_argument("--epochs", type=int, default=10)
    reader.add_argument("--threads", type=int, default=2)
    given = reader.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    parts = rows()
    data = data_in(folder / "data", parts)
    model = trained(folder / "before", data, given.threads)
    story = pruned(folder / f"macs-{given.macs:g}", model, data, given.macs, given.epochs, given.threads)
    files = [folder / "before" / "out" / "model.onnx", folder / f"macs-{given.macs:g}" / "out" / "model.onnx"]
    step = ImageInput(
        ImageStep.model_validate(story["step"]).model_dump(),
        Signature((TensorSpec("pixels", "FP32", (-1, 1, 32, 32)),), ()),
    )
    step.open(folder)
    pixels = step.apply(parts["test"][0])["pixels"]
    truth = np.array(parts["test"][1])
    sessions = [session(path) for path in files]
    accuracy = [
        float((one.run(["probabilities"], {"pixels": pixels})[0].argmax(1) == truth).mean()) for one in sessions
    ]
    before, after = milliseconds(sessions, pixels)
    report, sizes = story["report"], [path.stat().st_size / 1e6 for path in files]
    print(
        "\n| case | MACs | weights | file | 1 row, 1 thread | accuracy on 600 unseen rows |\n|---|---|---|---|---|---|"
    )
    macs = [report[name]["macs"] / 1e6 for name in ("before", "after")]
    print(
        f"| ResNet-18, digits at 32 × 32 | {macs[0]:.1f} → {macs[1]:.1f} M "
        f"({report['times_fewer_macs']:.2f} ×) | {report['times_fewer_parameters']:.2f} × fewer | "
        f"{sizes[0]:.1f} → {sizes[1]:.1f} MB ({sizes[0] / sizes[1]:.2f} ×) | {before:.2f} → {after:.2f} ms "
        f"({before / after:.2f} ×) | {accuracy[0]:.2%} → {accuracy[1]:.2%} |"
    )


if __name__ == "__main__":
    main()
